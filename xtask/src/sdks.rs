//! Old and new SDKs that the end-to-end tests run, installed below `target/clients`.
//!
//! Versions are pinned. Installed SDKs are kept, and one that cannot be installed is reported as
//! SKIPPED: an unreachable registry fails no test.

use crate::debian::Installer;
use crate::process;
use crate::progress::{skipped, step};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// For one SDK; the largest is 100 MB.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(4 * 60);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Registry {
    PyPi,
    Npm,
}

/// An SDK and its dependencies.
struct Sdk {
    /// The name of its directory, which the tests use.
    name: &'static str,
    registry: Registry,
    /// Arguments for the installer, all with a version.
    packages: &'static [&'static str],
}

const SDKS: &[Sdk] = &[
    Sdk {
        // Uses IMDSv1 only; IMDSv2 came with 1.13.25.
        name: "botocore-old",
        registry: Registry::PyPi,
        packages: &[
            "botocore==1.12.253",
            "docutils==0.15.2",
            "jmespath==0.10.0",
            "python-dateutil==2.9.0.post0",
            "six==1.17.0",
            "urllib3==1.25.11",
        ],
    },
    Sdk {
        name: "botocore-new",
        registry: Registry::PyPi,
        packages: &[
            "botocore==1.44.8",
            "jmespath==1.1.0",
            "python-dateutil==2.9.0.post0",
            "six==1.17.0",
            "urllib3==2.8.0",
        ],
    },
    Sdk {
        // Tries IMDSv1 first and IMDSv2 when that is rejected.
        name: "salt",
        registry: Registry::PyPi,
        packages: &[
            "salt==3007.14",
            "certifi==2026.10.19.post1",
            "distro==1.9.0",
            "jinja2==3.1.6",
            "looseversion==1.3.0",
            "markupsafe==3.0.4",
            "msgpack==1.2.4",
            "packaging==26.4",
            "pyyaml==6.0.4",
            "tornado==6.6.1",
        ],
    },
    Sdk {
        name: "aws-sdk-js-2-old",
        registry: Registry::Npm,
        packages: &["aws-sdk@2.500.0"],
    },
    Sdk {
        // The last release of 2.x.
        name: "aws-sdk-js-2-new",
        registry: Registry::Npm,
        packages: &["aws-sdk@2.1693.0"],
    },
    Sdk {
        name: "aws-sdk-js-3",
        registry: Registry::Npm,
        packages: &["@aws-sdk/credential-providers@3.1175.0"],
    },
];

/// Installs missing SDKs into `directory` and prints which cannot be installed.
pub fn install(directory: &Path, installer: &Installer) {
    for registry in [Registry::PyPi, Registry::Npm] {
        let mut missing = SDKS
            .iter()
            .filter(|sdk| sdk.registry == registry && !sdk.is_installed(directory))
            .peekable();
        if missing.peek().is_none() {
            continue;
        }
        if let Err(error) = registry.prepare(installer) {
            report_skipped(missing, &error);
            continue;
        }
        while let Some(sdk) = missing.next() {
            let title = format!("install {} for the end-to-end tests", sdk.packages[0]);
            if let Err(error) = step(&title, || sdk.install(directory)) {
                // The next one would most likely fail the same way, after the same timeout.
                report_skipped([sdk].into_iter().chain(missing), &error);
                break;
            }
        }
    }
}

fn report_skipped<'a>(sdks: impl Iterator<Item = &'a Sdk>, error: &anyhow::Error) {
    let names: Vec<_> = sdks.map(|sdk| sdk.name).collect();
    let what = format!("tests with {}", names.join(", "));
    skipped(&what, reason(&format!("{error:#}")));
}

/// The most informative line of an installer's output: pip's last error, npm's first line.
fn reason(error: &str) -> &str {
    let mut lines = error.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    lines
        .rfind(|line| line.starts_with("ERROR:"))
        .unwrap_or(first)
}

impl Registry {
    fn prepare(self, installer: &Installer) -> Result<()> {
        ensure!(
            installer.may_install(),
            "not installed, because of --no-install"
        );
        match self {
            Self::PyPi => {
                if !works(pip().arg("--version")) {
                    installer.ensure(&["python3-pip"], "to install Python SDKs")?;
                }
                Ok(())
            }
            // Not from Debian: hundreds of packages, which conflict with other Node.js packages.
            Self::Npm => {
                ensure!(works(npm().arg("--version")), "npm is not installed");
                Ok(())
            }
        }
    }
}

impl Sdk {
    /// Whether exactly these packages are installed.
    fn is_installed(&self, directory: &Path) -> bool {
        let stamp = directory.join(self.name).join(STAMP);
        fs::read_to_string(stamp).is_ok_and(|stamp| stamp == self.stamp())
    }

    fn stamp(&self) -> String {
        self.packages.join("\n")
    }

    /// Installs into a temporary place first: an existing directory is always complete.
    fn install(&self, directory: &Path) -> Result<()> {
        let target = directory.join(self.name);
        let partial = directory.join(format!("{}.partial", self.name));
        remove(&partial)?;
        fs::create_dir_all(&partial).with_context(|| format!("create {}", partial.display()))?;
        let mut command = match self.registry {
            Registry::PyPi => {
                let mut command = pip();
                command
                    .args(["install", "--quiet", "--no-deps", "--no-input"])
                    .args(["--disable-pip-version-check", "--no-warn-script-location"])
                    .args(["--retries", "1", "--timeout", "20", "--target"])
                    .arg(&partial);
                command
            }
            Registry::Npm => {
                let mut command = npm();
                command
                    .args(["install", "--silent", "--ignore-scripts", "--no-save"])
                    .args(["--no-package-lock", "--no-audit", "--no-fund"])
                    .args(["--no-update-notifier", "--fetch-retries=1"])
                    .args(["--fetch-timeout=20000", "--logs-max=0", "--prefix"])
                    .arg(&partial);
                command
            }
        };
        if let Err(error) = process::output(command.args(self.packages), INSTALL_TIMEOUT) {
            remove(&partial)?;
            return Err(error);
        }
        fs::write(partial.join(STAMP), self.stamp()).context("write the stamp")?;
        remove(&target)?;
        fs::rename(&partial, &target).with_context(|| format!("rename to {}", target.display()))
    }
}

/// The file that lists the installed packages.
const STAMP: &str = "packages";

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))?;
    }
    Ok(())
}

fn pip() -> Command {
    let mut command = process::external("python3");
    command.args(["-m", "pip"]);
    command
}

fn npm() -> Command {
    process::external("npm")
}

fn works(command: &mut Command) -> bool {
    process::output(command, process::QUERY_TIMEOUT).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_packages_are_installed_again() {
        let directory = tempfile::tempdir().unwrap();
        let sdk = &SDKS[0];
        assert!(!sdk.is_installed(directory.path()));
        let place = directory.path().join(sdk.name);
        fs::create_dir(&place).unwrap();
        assert!(!sdk.is_installed(directory.path()));
        fs::write(place.join(STAMP), sdk.stamp()).unwrap();
        assert!(sdk.is_installed(directory.path()));
        fs::write(place.join(STAMP), sdk.stamp() + "\nmore==1").unwrap();
        assert!(!sdk.is_installed(directory.path()));
    }

    #[test]
    fn failure_is_shortened_to_one_line() {
        let pip = "pip install failed: exit status: 1: WARNING: Retrying\nERROR: No match\n";
        assert_eq!(reason(pip), "ERROR: No match");
        let npm = "npm install failed: exit status: 1: npm error code X\nnpm error more\n";
        assert!(reason(npm).ends_with("npm error code X"));
        assert_eq!(reason(""), "");
    }

    #[test]
    fn every_version_is_pinned() {
        for sdk in SDKS {
            for package in sdk.packages {
                let version = match sdk.registry {
                    Registry::PyPi => package.split_once("=="),
                    Registry::Npm => package.rsplit_once('@'),
                };
                let (_, version) = version.unwrap();
                assert!(
                    version.starts_with(|c: char| c.is_ascii_digit()),
                    "{package}"
                );
            }
        }
    }
}
