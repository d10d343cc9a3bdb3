//! Packages of other Debian releases, downloaded without changing this machine's apt.
//!
//! apt runs with separate sources, lists and cache below `target/vm/apt`. The mirror is the one the
//! machine is configured with; signatures are verified with Debian's keyring.

use super::is_younger_than;
use crate::process::{self, DOWNLOAD_TIMEOUT, QUERY_TIMEOUT};
use crate::progress::note;
use anyhow::{Context as _, Result, bail};
use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Suites, and the architectures to list in each. Small suites only: the package list of a whole
/// release takes longer to download than a kernel to boot.
const SUITES: &[(&str, &str)] = &[
    ("bullseye-security", "amd64"),
    ("bookworm-security", "amd64,arm64"),
    ("bookworm-backports", "arm64"),
    ("trixie-security", "arm64"),
    ("trixie-backports", "amd64"),
];

/// Package lists older than this are downloaded again.
const LIST_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Debian's archive on one mirror. Downloads start on first use.
pub struct Archive {
    directory: PathBuf,
    mirror: Option<String>,
    /// Prepared once; every later use gets the same error.
    ready: OnceCell<Result<(), String>>,
}

impl Archive {
    /// Lists and downloads go below `cache`; `mirror` replaces the configured mirror.
    pub fn new(cache: &Path, mirror: Option<&str>) -> Self {
        Self {
            directory: cache.join("apt"),
            mirror: mirror.map(str::to_owned),
            ready: OnceCell::new(),
        }
    }

    /// The URI of the mirror of Debian's main archive.
    pub fn mirror(&self) -> Result<String> {
        Ok(self.mirrors()?.main)
    }

    /// Names of packages that match the regular expression `pattern`.
    pub fn search(&self, pattern: &str) -> Result<Vec<String>> {
        self.ready()?;
        let found = process::output(
            self.apt("apt-cache")
                .args(["search", "--names-only", pattern]),
            QUERY_TIMEOUT,
        )?;
        let name = |line: &str| line.split_whitespace().next().map(str::to_owned);
        Ok(found.lines().filter_map(name).collect())
    }

    /// Downloads `package` (`NAME:ARCH` or `NAME:ARCH=VERSION`) and unpacks it into `into`.
    pub fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        self.ready()?;
        let download =
            tempfile::tempdir_in(&self.directory).context("create a temporary directory")?;
        let mut apt = self.apt("apt-get");
        apt.current_dir(download.path())
            .args(["-qq", "download", package]);
        process::run(&mut apt, DOWNLOAD_TIMEOUT)?;
        let mut files = fs::read_dir(download.path()).context("read the download")?;
        let file = files
            .next()
            .context("apt-get downloaded nothing")?
            .context("read the download")?;
        let mut dpkg = Command::new("dpkg");
        process::run(dpkg.arg("-x").arg(file.path()).arg(into), DOWNLOAD_TIMEOUT)
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
            bail!("{KEYRING} is missing; install the package debian-archive-keyring");
        }
        for directory in ["state/lists/partial", "cache/archives/partial"] {
            let directory = self.directory.join(directory);
            fs::create_dir_all(&directory)
                .with_context(|| format!("create {}", directory.display()))?;
        }
        let mirrors = self.mirrors()?;
        let changed = self.write("sources.list", &sources(&mirrors))?;
        self.write("apt.conf", &self.settings())?;
        self.write("state/status", "")?;
        if changed || !is_younger_than(&self.directory.join("updated"), LIST_MAX_AGE) {
            note("download package lists");
            process::run(
                self.apt("apt-get").args(["-qq", "update"]),
                DOWNLOAD_TIMEOUT,
            )
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
        let mut command = process::external(program);
        // Read after the machine's configuration, so its proxies and certificates still apply.
        command.arg("-c").arg(self.directory.join("apt.conf"));
        command
    }

    fn settings(&self) -> String {
        let directory = self.directory.display();
        format!(
            "Dir::Etc::SourceList \"{directory}/sources.list\";\n\
             Dir::Etc::SourceParts \"/dev/null\";\n\
             Dir::State \"{directory}/state\";\n\
             Dir::State::Lists \"{directory}/state/lists\";\n\
             Dir::State::Status \"{directory}/state/status\";\n\
             Dir::Cache \"{directory}/cache\";\n\
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

    /// Writes a file and returns whether its content changed.
    fn write(&self, name: &str, text: &str) -> Result<bool> {
        let path = self.directory.join(name);
        let changed = fs::read_to_string(&path).map_or(true, |before| before != text);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(changed)
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

/// URIs of Debian's archives.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    main: String,
    security: String,
}

impl Mirrors {
    /// The mirrors that this machine's apt is configured with.
    fn configured() -> Result<Self> {
        let mut apt = process::external("apt-get");
        apt.args([
            "indextargets",
            "--format",
            "$(RELEASE) $(REPO_URI)",
            "Created-By: Packages",
        ]);
        let targets = process::output(&mut apt, QUERY_TIMEOUT)?;
        Self::parse(&targets)
            .context("apt is not configured with a Debian mirror; pass --mirror URI")
    }

    /// Parses lines of a release and a URI, and ignores releases other than Debian's.
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

    /// Mirrors keep the security archive next to the main one.
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
    fn configured_mirrors_are_parsed() {
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
    fn security_archive_defaults_to_beside_the_main_one() {
        let mirrors = Mirrors::parse("trixie http://mirror.test/debian/").unwrap();
        assert_eq!(mirrors.security, "http://mirror.test/debian-security");
    }

    #[test]
    fn ubuntu_mirror_is_ignored() {
        assert_eq!(Mirrors::parse("noble http://mirror.test/ubuntu/"), None);
    }

    #[test]
    fn suites_use_the_main_or_the_security_archive() {
        let text = sources(&Mirrors::beside("http://mirror.test/debian/"));
        assert!(text.contains("http://mirror.test/debian-security bullseye-security main\n"));
        assert!(text.contains("http://mirror.test/debian trixie-backports main\n"));
    }
}
