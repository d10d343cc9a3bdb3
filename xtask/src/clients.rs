//! Real SDKs that the end-to-end tests run, old and new, below `target/clients`.
//!
//! The versions are fixed, so that a test means the same tomorrow. What is there already is left
//! alone, and what cannot be had is told: a registry out of reach fails no test.

use crate::debian::Installer;
use crate::process;
use crate::progress::{note, step, yellow};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// For one SDK; the largest has 100 MB.
const LIMIT: Duration = Duration::from_secs(4 * 60);

/// Which installer it takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Registry {
    PyPi,
    Npm,
}

/// An SDK, with all it needs.
struct Sdk {
    /// Its directory, which the tests know.
    name: &'static str,
    registry: Registry,
    /// As the installer takes them.
    packages: &'static [&'static str],
}

const SDKS: &[Sdk] = &[
    Sdk {
        // The first with tokens is 1.13.25.
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
        // Calls without a token first, and with one when that is refused.
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
        // The newest there will be of 2.x.
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

/// Installs what is missing into `directory`, and names what cannot be had.
pub fn install(directory: &Path, installer: &Installer) {
    for registry in [Registry::PyPi, Registry::Npm] {
        let wanted = || SDKS.iter().filter(|sdk| sdk.registry == registry);
        let mut missing = wanted()
            .filter(|sdk| !sdk.is_installed(directory))
            .peekable();
        if missing.peek().is_none() {
            continue;
        }
        if let Err(error) = registry.prepare(installer) {
            skip(missing, &error);
            continue;
        }
        while let Some(sdk) = missing.next() {
            let title = format!("install {} for the end-to-end tests", sdk.packages[0]);
            if let Err(error) = step(&title, || sdk.install(directory)) {
                // Whatever keeps the one from being installed keeps the next as well, and only
                // takes its time again.
                skip([sdk].into_iter().chain(missing), &error);
                break;
            }
        }
    }
}

fn skip<'a>(sdks: impl Iterator<Item = &'a Sdk>, error: &anyhow::Error) {
    let names: Vec<_> = sdks.map(|sdk| sdk.name).collect();
    note(format!(
        "{}: what is tested with {}: {}",
        yellow("SKIPPED"),
        names.join(", "),
        reason(&format!("{error:#}"))
    ));
}

/// The line that says it: pip comes to the point last, npm first.
fn reason(error: &str) -> &str {
    let mut lines = error.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    lines
        .rfind(|line| line.starts_with("ERROR:"))
        .unwrap_or(first)
}

impl Registry {
    /// Makes sure that there is an installer.
    fn prepare(self, installer: &Installer) -> Result<()> {
        ensure!(
            installer.may_install(),
            "not installed yet, and --no-install says to install nothing"
        );
        match self {
            Self::PyPi => {
                if !works(pip().arg("--version")) {
                    installer.ensure(&["python3-pip"], "installs SDKs for Python")?;
                }
                Ok(())
            }
            // Debian's npm brings hundreds of packages and does not go with others' Node.js.
            Self::Npm => {
                ensure!(works(npm().arg("--version")), "npm is not installed");
                Ok(())
            }
        }
    }
}

impl Sdk {
    /// Whether these very packages are there.
    fn is_installed(&self, directory: &Path) -> bool {
        let stamp = directory.join(self.name).join(STAMP);
        fs::read_to_string(stamp).is_ok_and(|stamp| stamp == self.stamp())
    }

    fn stamp(&self) -> String {
        self.packages.join("\n")
    }

    /// Installs beside the final place, so that what is there is always whole.
    fn install(&self, directory: &Path) -> Result<()> {
        let place = directory.join(self.name);
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
        if let Err(error) = process::output(command.args(self.packages), LIMIT) {
            remove(&partial)?;
            return Err(error);
        }
        fs::write(partial.join(STAMP), self.stamp()).context("write the stamp")?;
        remove(&place)?;
        fs::rename(&partial, &place).with_context(|| format!("rename to {}", place.display()))
    }
}

/// The file that says which packages are there.
const STAMP: &str = "packages";

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))?;
    }
    Ok(())
}

fn pip() -> Command {
    let mut command = process::foreign("python3");
    command.args(["-m", "pip"]);
    command
}

fn npm() -> Command {
    process::foreign("npm")
}

fn works(command: &mut Command) -> bool {
    process::output(command, process::QUESTION).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_packages_are_installed_anew() {
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
    fn a_failure_is_told_in_one_line() {
        let pip = "pip install ended with exit status: 1: WARNING: Retrying\nERROR: No match\n";
        assert_eq!(reason(pip), "ERROR: No match");
        let npm = "npm install ended with exit status: 1: npm error code X\nnpm error more\n";
        assert!(reason(npm).ends_with("npm error code X"));
        assert_eq!(reason(""), "");
    }

    #[test]
    fn every_version_is_fixed() {
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
