//! Settings of the service, from a file, the environment and flags, in increasing precedence.
//!
//! Each key is listed once below, with its type, default and description. Parsing accepts only
//! valid values, so nothing is checked again later. Each value keeps its origin for
//! `imdsmon config show`. An unknown key is an error that names the most similar one: a typing
//! error must not silently select the default.

mod error;
mod file;
pub(crate) mod value;

#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) use error::{ConfigError, Problem};
use value::{Bounded, BufferSize, Raw, Setting};

use crate::{
    capture::Options,
    export::{Destination, Listen, emf::Namespace, lines::Rotation},
    store::StoreLimits,
};

/// Read unless another file is given; need not exist.
pub(crate) const FILE: &str = "/etc/imdsmon/imdsmon.toml";
/// Prefix of the environment variables: `store.dir` is `IMDSMON_STORE_DIR`.
const PREFIX: &str = "IMDSMON_";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ValueOrigin {
    Default,
    File {
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// The name of a variable.
    Environment(String),
    /// A flag, with its dashes.
    Flag(&'static str),
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sourced<T> {
    pub(crate) value: T,
    pub(crate) origin: ValueOrigin,
}

/// A setting given as a flag.
#[derive(Clone, Debug)]
pub(crate) struct Flag {
    /// With its dashes: `--store`.
    pub(crate) name: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: String,
}

/// One line of `imdsmon config show`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown<'a> {
    pub(crate) key: &'static str,
    pub(crate) about: &'static str,
    pub(crate) value: serde_json::Value,
    pub(crate) origin: &'a ValueOrigin,
}

macro_rules! settings {
    ($($(#[doc = $about:literal])+ $field:ident: $type:ty = $key:literal, $default:expr;)+) => {
        /// All settings.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct Config {
            $($(#[doc = $about])+ pub $field: Sourced<$type>,)+
            /// Likely mistakes that are not errors, each a clause for the log.
            pub(crate) notes: Vec<String>,
        }

        /// The keys, in the order in which they are shown.
        pub(crate) const KEYS: &[&str] = &[$($key),+];

        impl Default for Config {
            fn default() -> Self {
                Self {
                    $($field: Sourced { value: $default, origin: ValueOrigin::Default },)+
                    notes: Vec::new(),
                }
            }
        }

        impl Config {
            /// Sets one value; the key must be one of [`KEYS`].
            fn set(&mut self, key: &str, raw: &Raw, origin: ValueOrigin) -> Result<(), Problem> {
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

            /// All values and their sources.
            pub(crate) fn show(&self) -> Vec<Shown<'_>> {
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
    /// Store directory.
    store_dir: PathBuf = "store.dir", PathBuf::from("/var/lib/imdsmon");
    /// Retention of the store, in days.
    store_retention_days: Bounded<1, 3650> = "store.retention_days", Bounded(90);
    /// Maximum size of the store on disk, in MiB.
    store_max_mib: Bounded<{ StoreLimits::MIN_MIB }, 1_048_576> = "store.max_mib", Bounded(256);
    /// Interval between canary checks, which verify end-to-end capture.
    canary_interval: Option<Duration> = "canary.interval", Some(Duration::from_secs(3600));
    /// Listen address of the Prometheus endpoint (unauthenticated).
    metrics_listen: Option<Listen> = "metrics.listen", None;
    /// Metrics file for the textfile collector of `node_exporter`, ending in `.prom`.
    metrics_textfile: Option<PathBuf> = "metrics.textfile", None;
    /// File for CloudWatch embedded metric format lines.
    emf_path: Option<Destination> = "emf.path", None;
    /// Namespace of the CloudWatch metrics.
    emf_namespace: Namespace = "emf.namespace", Namespace::default();
    /// File for one JSON line per call.
    log_path: Option<Destination> = "log.path", None;
    /// Size at which `log.path` and `emf.path` are rotated, in MiB.
    log_max_mib: Bounded<1, 1_048_576> = "log.max_mib", Bounded(64);
    /// Rotated files to keep.
    log_keep: Bounded<0, 99> = "log.keep", Bounded(4);
    /// Size of the ring buffer between the kernel and imdsmon.
    capture_buffer: BufferSize = "capture.buffer", BufferSize::default();
    /// Whether the BPF programs read the calling process.
    capture_snapshot: bool = "capture.snapshot", true;
    /// Observation period that a verdict requires.
    report_min_window: Duration = "report.min_window", Duration::from_secs(24 * 3600);
    /// Files that extend the knowledge base.
    knowledge: Vec<PathBuf> = "knowledge", Vec::new();
}

impl Config {
    /// Reads all sources. Without `file`, reads [`FILE`] if it exists; a given file must exist.
    /// `environment` is that of the process. The error has all problems at once.
    pub(crate) fn load(
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
            let set = config.set(key, &Raw::Text(value.clone()), ValueOrigin::Flag(name));
            problems.extend(set.err());
        }
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError { problems })
        }
    }

    pub(crate) fn capture_options(&self) -> Options {
        Options {
            ring_bytes: self.capture_buffer.value.0,
            snapshot: self.capture_snapshot.value,
        }
    }

    /// Limits of the store.
    pub(crate) fn store_limits(&self) -> StoreLimits {
        StoreLimits {
            days: self.store_retention_days.value.0,
            mib: self.store_max_mib.value.0,
        }
    }

    pub(crate) fn rotation(&self) -> Rotation {
        Rotation {
            bytes: u64::from(self.log_max_mib.value.0) << 20,
            keep: self.log_keep.value.0,
        }
    }

    /// Keys with a different value in `new` that a running service cannot change.
    pub(crate) fn restart_keys_changed(&self, new: &Self) -> Vec<&'static str> {
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
            // Kubernetes uses the prefix for a service named `imdsmon`, so an unknown variable is
            // not an error. A likely typing error is noted.
            let meant = KEYS
                .iter()
                .map(|key| variable(key))
                .find(|known| strsim::osa_distance(known, name) <= 2.min(rest.len() / 3));
            if let Some(meant) = meant {
                self.notes
                    .push(format!("unknown variable {name}; did you mean {meant}?"));
            }
            return;
        };
        let origin = ValueOrigin::Environment(name.to_owned());
        let set = match value.into_string() {
            Ok(text) => self.set(key, &Raw::Text(text), origin),
            Err(_) => Err(Problem::new(&origin, "not UTF-8")),
        };
        problems.extend(set.err());
    }
}

/// The environment variable of a key.
pub(crate) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}
