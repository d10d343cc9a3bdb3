//! Packages of other Debian releases, without touching this machine's apt.
//!
//! apt runs with its own sources, lists and cache below target/vm/apt. The mirror is the one the
//! machine is configured with; signatures are checked with Debian's own keys.

use crate::process::{self, FETCH, QUESTION};
use crate::progress::note;
use anyhow::{Context as _, Result, bail};
use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Suites and the architectures wanted of them. Small ones only: a whole release's list of
/// packages would take longer than a boot.
const SUITES: &[(&str, &str)] = &[
    ("bullseye-security", "amd64"),
    ("bookworm-security", "amd64,arm64"),
    ("bookworm-backports", "arm64"),
    ("trixie-security", "arm64"),
    ("trixie-backports", "amd64"),
];

/// How long lists of packages are good for.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// The archive, as one may ask it for packages.
pub struct Archive {
    home: PathBuf,
    mirror: Option<String>,
    /// Set up once; the error, too, is the same for every kernel.
    ready: OnceCell<Result<(), String>>,
}

impl Archive {
    /// Nothing is fetched before it is needed. `mirror` stands in for the configured one.
    pub fn new(home: &Path, mirror: Option<&str>) -> Self {
        Self {
            home: home.join("apt"),
            mirror: mirror.map(str::to_owned),
            ready: OnceCell::new(),
        }
    }

    /// The URI of the mirror of Debian's main archive.
    pub fn mirror(&self) -> Result<String> {
        Ok(self.mirrors()?.main)
    }

    /// Names of packages that match a regular expression.
    pub fn search(&self, pattern: &str) -> Result<Vec<String>> {
        self.ready()?;
        let found = process::output(
            self.apt("apt-cache")
                .args(["search", "--names-only", pattern]),
            QUESTION,
        )?;
        let name = |line: &str| line.split_whitespace().next().map(str::to_owned);
        Ok(found.lines().filter_map(name).collect())
    }

    /// Downloads `package` (`NAME:ARCH`, or with `=VERSION`) and unpacks it into `into`.
    pub fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        self.ready()?;
        let download = tempfile::tempdir_in(&self.home).context("make a directory")?;
        let mut apt = self.apt("apt-get");
        apt.current_dir(download.path())
            .args(["-qq", "download", package]);
        process::run(&mut apt, FETCH)?;
        let mut files = fs::read_dir(download.path()).context("read the download")?;
        let file = files
            .next()
            .context("nothing was downloaded")?
            .context("read the download")?;
        let mut dpkg = Command::new("dpkg");
        process::run(dpkg.arg("-x").arg(file.path()).arg(into), FETCH)
    }

    fn ready(&self) -> Result<()> {
        let ready = self
            .ready
            .get_or_init(|| self.prepare().map_err(|error| format!("{error:#}")));
        match ready {
            Ok(()) => Ok(()),
            Err(why) => bail!("{why}"),
        }
    }

    fn prepare(&self) -> Result<()> {
        if !Path::new(KEYRING).exists() {
            bail!("{KEYRING} is missing; it is in the package debian-archive-keyring");
        }
        for directory in ["state/lists/partial", "cache/archives/partial"] {
            let directory = self.home.join(directory);
            fs::create_dir_all(&directory)
                .with_context(|| format!("create {}", directory.display()))?;
        }
        let mirrors = self.mirrors()?;
        let changed = self.write("sources.list", &sources(&mirrors))?;
        self.write("apt.conf", &self.settings())?;
        self.write("state/status", "")?;
        if changed || !self.fresh() {
            note("fetch lists of kernel packages");
            process::run(self.apt("apt-get").args(["-qq", "update"]), FETCH)
                .context("reach the Debian mirror")?;
            self.write("updated", "")?;
        }
        Ok(())
    }

    fn mirrors(&self) -> Result<Mirrors> {
        match &self.mirror {
            Some(main) => Ok(Mirrors::beside(main)),
            None => Mirrors::configured(),
        }
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = process::foreign(program);
        // Read after the machine's configuration, whose proxies and certificates stay in force.
        command.arg("-c").arg(self.home.join("apt.conf"));
        command
    }

    fn settings(&self) -> String {
        let home = self.home.display();
        format!(
            "Dir::Etc::SourceList \"{home}/sources.list\";\n\
             Dir::Etc::SourceParts \"/dev/null\";\n\
             Dir::State \"{home}/state\";\n\
             Dir::State::Lists \"{home}/state/lists\";\n\
             Dir::State::Status \"{home}/state/status\";\n\
             Dir::Cache \"{home}/cache\";\n\
             #clear APT::Architectures;\n\
             APT::Architectures {{ \"amd64\"; \"arm64\"; }};\n\
             #clear APT::Update::Pre-Invoke;\n\
             #clear APT::Update::Post-Invoke;\n\
             #clear APT::Update::Post-Invoke-Success;\n\
             APT::Update::Error-Mode \"any\";\n\
             APT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::Retries \"3\";\n"
        )
    }

    /// Writes a file and says whether it was another before.
    fn write(&self, name: &str, text: &str) -> Result<bool> {
        let path = self.home.join(name);
        let changed = fs::read_to_string(&path).map_or(true, |before| before != text);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(changed)
    }

    fn fresh(&self) -> bool {
        let written = fs::metadata(self.home.join("updated")).and_then(|file| file.modified());
        written.is_ok_and(|at| {
            SystemTime::now()
                .duration_since(at)
                .is_ok_and(|age| age < FRESH)
        })
    }
}

fn sources(mirrors: &Mirrors) -> String {
    let line = |(suite, architectures): &(&str, &str)| {
        let uri = if suite.ends_with("-security") {
            &mirrors.security
        } else {
            &mirrors.main
        };
        format!(
            "deb [arch={architectures} signed-by={KEYRING} target=Packages] {uri} {suite} main\n"
        )
    };
    SUITES.iter().map(line).collect()
}

/// Where Debian's archives are.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    main: String,
    security: String,
}

impl Mirrors {
    /// Those of this machine's own apt.
    fn configured() -> Result<Self> {
        let mut apt = process::foreign("apt-get");
        apt.args([
            "indextargets",
            "--format",
            "$(RELEASE) $(REPO_URI)",
            "Created-By: Packages",
        ]);
        let targets = process::output(&mut apt, QUESTION)?;
        Self::parse(&targets)
            .context("apt here is not configured with a Debian mirror; name one with --mirror URI")
    }

    /// Of lines of a release and a URI; only Debian's releases have a known name.
    fn parse(targets: &str) -> Option<Self> {
        let named = |line: &str, suffix: &str| {
            let (release, uri) = line.split_once(' ')?;
            let known = [
                "bullseye",
                "bookworm",
                "trixie",
                "forky",
                "stable",
                "oldstable",
                "testing",
                "sid",
            ];
            let own = known
                .iter()
                .any(|name| release == format!("{name}{suffix}"));
            own.then(|| uri.trim_end_matches('/').to_owned())
        };
        let main = targets.lines().find_map(|line| named(line, ""))?;
        let security = targets.lines().find_map(|line| named(line, "-security"));
        Some(match security {
            Some(security) => Self { main, security },
            None => Self::beside(&main),
        })
    }

    /// A mirror has the security archive beside the main one.
    fn beside(main: &str) -> Self {
        let main = main.trim_end_matches('/').to_owned();
        Self {
            security: format!("{main}-security"),
            main,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_mirrors_are_used() {
        let targets = "nodistro http://mirror.test/other/\n\
                       bookworm http://mirror.test/debian/\n\
                       bookworm-updates http://mirror.test/debian/\n\
                       bookworm-security http://security.test/debian-security/\n";
        let mirrors = Mirrors {
            main: "http://mirror.test/debian".to_owned(),
            security: "http://security.test/debian-security".to_owned(),
        };
        assert_eq!(Mirrors::parse(targets), Some(mirrors));
    }

    #[test]
    fn without_a_security_source_it_is_beside_the_main_one() {
        let mirrors = Mirrors::parse("trixie http://mirror.test/debian/").unwrap();
        assert_eq!(mirrors.security, "http://mirror.test/debian-security");
    }

    #[test]
    fn ubuntu_is_no_debian_mirror() {
        assert_eq!(Mirrors::parse("noble http://mirror.test/ubuntu/"), None);
    }

    #[test]
    fn each_suite_is_asked_where_it_is() {
        let text = sources(&Mirrors::beside("http://mirror.test/debian/"));
        assert!(text.contains("http://mirror.test/debian-security bullseye-security main\n"));
        assert!(text.contains("http://mirror.test/debian trixie-backports main\n"));
    }
}
