//! How the service is set up: a file, over it the environment, over it flags.
//!
//! Each key stands once, in the list below, with its type, its default and what it is for. A type
//! accepts only what can be used, so nothing is checked again later. Each value remembers where
//! it comes from, for `imdsmon config show`. A key that nobody knows is an error, with the
//! nearest one that somebody does: a typing error must not silently mean the default.

mod error;
mod file;
pub mod value;

#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use error::{ConfigError, Problem};
use value::{Bounded, BufferSize, Raw, Setting};

use crate::{
    capture::Options,
    export::{Destination, Listen, emf::Namespace, lines::Rotation},
    store::Limits,
};

/// Where the configuration is if nobody says otherwise; it need not exist.
pub const FILE: &str = "/etc/imdsmon/imdsmon.toml";
/// What begins the name of each variable: `store.dir` is `IMDSMON_STORE_DIR`.
const PREFIX: &str = "IMDSMON_";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the file, counted from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// A variable, by its name.
    Environment(String),
    /// A flag, as it is typed.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A value, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub origin: Origin,
}

/// What a flag says about a key.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As it is typed: `--store`.
    pub name: &'static str,
    /// The key that it is for.
    pub key: &'static str,
    /// What was given with it.
    pub value: String,
}

/// One line of `imdsmon config show`.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown<'a> {
    /// The key.
    pub key: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// The value as in JSON.
    pub value: serde_json::Value,
    /// Where it comes from.
    pub origin: &'a Origin,
}

macro_rules! settings {
    ($($(#[doc = $about:literal])+ $field:ident: $type:ty = $key:literal, $default:expr;)+) => {
        /// All settings.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Config {
            $($(#[doc = $about])+ pub $field: Sourced<$type>,)+
            /// What is no error, and yet hardly meant: each a sentence.
            pub notes: Vec<String>,
        }

        /// The keys, in the order in which they are shown.
        pub const KEYS: &[&str] = &[$($key),+];

        impl Default for Config {
            fn default() -> Self {
                Self {
                    $($field: Sourced { value: $default, origin: Origin::Default },)+
                    notes: Vec::new(),
                }
            }
        }

        impl Config {
            /// Sets one value; the key must be one of [`KEYS`].
            fn set(&mut self, key: &str, raw: &Raw, origin: Origin) -> Result<(), Problem> {
                match key {
                    $($key => match <$type>::parse(raw) {
                        Some(value) => {
                            self.$field = Sourced { value, origin };
                            Ok(())
                        }
                        None => Err(Problem::value(&origin, key, &<$type>::allowed(), raw)),
                    },)+
                    _ => Err(Problem::unknown(&origin, key)),
                }
            }

            /// All values, and where they come from.
            pub fn show(&self) -> Vec<Shown<'_>> {
                vec![$(Shown {
                    key: $key,
                    about: concat!($($about),+).trim_ascii(),
                    value: self.$field.value.show(),
                    origin: &self.$field.origin,
                },)+]
            }
        }
    };
}

settings! {
    /// Directory of the store.
    store_dir: PathBuf = "store.dir", PathBuf::from("/var/lib/imdsmon");
    /// Days that are kept in the store.
    store_retention_days: Bounded<1, 3650> = "store.retention_days", Bounded(90);
    /// MiB that the store may take on disk.
    store_max_mib: Bounded<{ Limits::MIN_MIB }, 1_048_576> = "store.max_mib", Bounded(256);
    /// Time between two proofs that calls are heard.
    canary_interval: Option<Duration> = "canary.interval", Some(Duration::from_secs(3600));
    /// Where Prometheus may ask; whoever reaches it may read it.
    metrics_listen: Option<Listen> = "metrics.listen", None;
    /// File for the textfile collector of `node_exporter`, ending in `.prom`.
    metrics_textfile: Option<PathBuf> = "metrics.textfile", None;
    /// Where lines in CloudWatch's embedded metric format go.
    emf_path: Option<Destination> = "emf.path", None;
    /// Namespace of the metrics in CloudWatch.
    emf_namespace: Namespace = "emf.namespace", Namespace::default();
    /// Where each call is written as a line of JSON.
    log_path: Option<Destination> = "log.path", None;
    /// MiB of such a file before the next begins.
    log_max_mib: Bounded<1, 1_048_576> = "log.max_mib", Bounded(64);
    /// Files that are kept beside the one that is written.
    log_keep: Bounded<0, 99> = "log.keep", Bounded(4);
    /// Size of the kernel's buffer for events that were not read yet.
    capture_buffer: BufferSize = "capture.buffer", BufferSize::default();
    /// Whether the kernel programs read who calls.
    capture_snapshot: bool = "capture.snapshot", true;
    /// Time that must be watched for an answer.
    report_min_window: Duration = "report.min_window", Duration::from_secs(24 * 3600);
    /// Files that extend the knowledge base.
    knowledge: Vec<PathBuf> = "knowledge", Vec::new();
}

impl Config {
    /// Reads everything. Without `file` it is [`FILE`], if there is one; a file that is named
    /// must exist. `environment` is that of the process.
    ///
    /// All that is wrong is told at once.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &[Flag],
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut problems = Vec::new();
        match file::read(file.unwrap_or(Path::new(FILE)), file.is_some()) {
            Ok(None) => {}
            Ok(Some((path, text))) => file::apply(&mut config, &path, &text, &mut problems),
            Err(problem) => problems.push(problem),
        }
        for (name, value) in environment {
            config.apply_variable(&name, value, &mut problems);
        }
        for Flag { name, key, value } in flags {
            let set = config.set(key, &Raw::Text(value.clone()), Origin::Flag(name));
            problems.extend(set.err());
        }
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError { problems })
        }
    }

    /// Options of the capture.
    pub fn capture_options(&self) -> Options {
        Options {
            ring_bytes: self.capture_buffer.value.0,
            snapshot: self.capture_snapshot.value,
        }
    }

    /// Limits of the store.
    pub fn store_limits(&self) -> Limits {
        Limits {
            days: self.store_retention_days.value.0,
            mib: self.store_max_mib.value.0,
        }
    }

    /// Rotation of the files that lines are written to.
    pub fn rotation(&self) -> Rotation {
        Rotation {
            bytes: u64::from(self.log_max_mib.value.0) << 20,
            keep: self.log_keep.value.0,
        }
    }

    /// The keys with another value in `new` that a running service cannot change.
    pub fn restart_keys_changed(&self, new: &Self) -> Vec<&'static str> {
        const NEED_RESTART: [&str; 5] = [
            "store.dir",
            "capture.buffer",
            "capture.snapshot",
            "canary.interval",
            "knowledge",
        ];
        let pairs = self.show().into_iter().zip(new.show());
        pairs
            .filter(|(old, new)| old.value != new.value && NEED_RESTART.contains(&old.key))
            .map(|(old, _)| old.key)
            .collect()
    }

    fn apply_variable(&mut self, name: &OsString, value: OsString, problems: &mut Vec<Problem>) {
        let Some((name, rest)) = name
            .to_str()
            .and_then(|name| Some((name, name.strip_prefix(PREFIX)?)))
        else {
            return;
        };
        let Some(key) = KEYS.iter().copied().find(|key| variable(key) == name) else {
            // Others use the prefix, too: Kubernetes names services so. Only what looks like a
            // typing error is worth a word.
            let meant = KEYS
                .iter()
                .map(|key| variable(key))
                .find(|known| strsim::osa_distance(known, name) <= 2.min(rest.len() / 3));
            if let Some(meant) = meant {
                self.notes
                    .push(format!("{name} means nothing; did you mean {meant}?"));
            }
            return;
        };
        let origin = Origin::Environment(name.to_owned());
        let set = match value.into_string() {
            Ok(text) => self.set(key, &Raw::Text(text), origin),
            Err(_) => Err(Problem::new(&origin, "it is not UTF-8")),
        };
        problems.extend(set.err());
    }
}

/// The variable for a key.
pub fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}
