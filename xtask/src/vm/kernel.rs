//! Debian's kernels for clouds: which ones, and getting them.

use super::archive::Archive;
use crate::process::{self, QUESTION};
use crate::progress::note;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel that imdsmon is tested on.
pub struct Wanted {
    /// What it is called on the command line and in the table.
    pub name: &'static str,
    /// Of the machine.
    pub arch: Arch,
    /// How its release begins; the newest such package is taken.
    series: &'static str,
}

/// The oldest that imdsmon supports, Amazon Linux 2023's first, the newest there is, and one on
/// arm64.
pub const KERNELS: &[Wanted] = &[
    Wanted {
        name: "5.10",
        arch: Arch::X86_64,
        series: "5.10.",
    },
    Wanted {
        name: "6.1",
        arch: Arch::X86_64,
        series: "6.1.",
    },
    Wanted {
        name: "7",
        arch: Arch::X86_64,
        series: "7.",
    },
    Wanted {
        name: "arm64-6.12",
        arch: Arch::Arm64,
        series: "6.12.",
    },
];

/// What a machine's processor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit PC.
    X86_64,
    /// 64-bit Arm, as Graviton.
    Arm64,
}

/// The emulator of an architecture.
pub struct Qemu {
    /// Debian's package.
    pub package: &'static str,
    /// The program.
    pub program: &'static str,
    /// Its kind of machine.
    pub machine: &'static str,
    /// The name Linux has for its serial port.
    pub console: &'static str,
}

impl Arch {
    /// Debian's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Rust's name.
    pub fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// What emulates it.
    pub fn qemu(self) -> Qemu {
        match self {
            Self::X86_64 => Qemu {
                package: "qemu-system-x86",
                program: "qemu-system-x86_64",
                machine: "q35",
                console: "ttyS0",
            },
            Self::Arm64 => Qemu {
                package: "qemu-system-arm",
                program: "qemu-system-aarch64",
                machine: "virt",
                console: "ttyAMA0",
            },
        }
    }
}

/// A kernel that is here, unpacked.
pub struct Kernel {
    /// See [`Wanted::name`].
    pub name: &'static str,
    /// See [`Wanted::arch`].
    pub arch: Arch,
    /// As `uname -r` says it.
    pub release: String,
    /// What qemu boots.
    pub image: PathBuf,
    /// Where its packages are unpacked.
    directory: PathBuf,
    /// Where consoles are logged.
    pub home: PathBuf,
}

impl Kernel {
    /// A module's bytes, uncompressed; `None` where the kernel has no such module.
    pub fn module(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let wanted = [
            format!("{name}.ko"),
            format!("{name}.ko.xz"),
            format!("{name}.ko.zst"),
        ];
        let found = find(&self.directory, &|file| {
            wanted.iter().any(|name| name == file)
        })?;
        let Some(path) = found else { return Ok(None) };
        let unpack = match path.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => "xz",
            Some("zst") => "zstd",
            _ => {
                return fs::read(&path)
                    .map(Some)
                    .with_context(|| format!("read {}", path.display()));
            }
        };
        let copy = tempfile::tempdir().context("make a directory")?;
        let packed = copy.path().join(path.file_name().unwrap_or_default());
        fs::copy(&path, &packed).with_context(|| format!("copy {}", path.display()))?;
        process::run(
            Command::new(unpack).args(["-q", "-d"]).arg(&packed),
            QUESTION,
        )?;
        let plain = packed.with_extension("");
        fs::read(&plain)
            .map(Some)
            .with_context(|| format!("read {}", plain.display()))
    }
}

/// The newest kernel of a series, from the archive or, where that is out of reach, from before.
pub fn obtain(wanted: &'static Wanted, home: &Path, archive: &Archive) -> Result<Kernel> {
    let releases = match releases(wanted, archive) {
        Ok(releases) => releases,
        Err(error) => {
            let kernel = cached(wanted, home).ok_or(error)?;
            note("the archive is out of reach; a kernel fetched before is used");
            return Ok(kernel);
        }
    };
    let release = newest(releases).with_context(|| {
        format!(
            "the archive has no kernel {}* for {}",
            wanted.series,
            wanted.arch.name()
        )
    })?;
    let directory = directory(wanted, home, &release);
    if !directory.exists() {
        fetch(wanted, &release, &directory, archive)?;
    }
    unpacked(wanted, home, release)
}

/// The newest kernel of a series that is already here.
pub fn cached(wanted: &'static Wanted, home: &Path) -> Option<Kernel> {
    let entries = fs::read_dir(home.join("kernels")).ok()?;
    let suffix = format!("-{}", wanted.arch.name());
    let releases = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let ours = name.starts_with(wanted.series) && name.ends_with(&suffix);
        ours.then_some(name)
    });
    unpacked(wanted, home, newest(releases.collect())?).ok()
}

fn directory(wanted: &Wanted, home: &Path, release: &str) -> PathBuf {
    debug_assert!(release.ends_with(wanted.arch.name()));
    home.join("kernels").join(release)
}

fn unpacked(wanted: &'static Wanted, home: &Path, release: String) -> Result<Kernel> {
    let directory = directory(wanted, home, &release);
    // In /boot with the release as its suffix, since 7.x with the modules and without.
    let image = find(&directory, &|file| file.starts_with("vmlinuz"))?;
    let image = image.with_context(|| format!("no kernel in {}", directory.display()))?;
    Ok(Kernel {
        name: wanted.name,
        arch: wanted.arch,
        release,
        image,
        directory,
        home: home.to_owned(),
    })
}

fn releases(wanted: &Wanted, archive: &Archive) -> Result<Vec<String>> {
    let series = wanted.series.replace('.', "\\.");
    let pattern = format!("^linux-image-{series}.*-cloud-{}$", wanted.arch.name());
    let names = archive.search(&pattern)?;
    let release = |name: String| name.strip_prefix("linux-image-").map(str::to_owned);
    Ok(names.into_iter().filter_map(release).collect())
}

/// Unpacks the packages of a release; one until 6.x, several since 7.x.
fn fetch(wanted: &Wanted, release: &str, directory: &Path, archive: &Archive) -> Result<()> {
    let escaped = release.replace('.', "\\.").replace('+', "\\+");
    let packages = archive.search(&format!("^linux-(image|binary|modules)-{escaped}$"))?;
    let parent = directory.parent().context("no directory for kernels")?;
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    let partial = tempfile::tempdir_in(parent).context("make a directory")?;
    for package in packages {
        note(format!("fetch {package}"));
        archive.unpack(&format!("{package}:{}", wanted.arch.name()), partial.path())?;
    }
    // Renamed when complete: an interrupted download is not taken for a kernel.
    let partial = partial.keep();
    fs::rename(&partial, directory).with_context(|| format!("name {}", directory.display()))
}

/// The last by version: runs of digits compare as numbers.
fn newest(releases: Vec<String>) -> Option<String> {
    releases.into_iter().max_by_key(|release| {
        let numbers = release.split(|byte: char| !byte.is_ascii_digit());
        numbers
            .filter_map(|number| number.parse().ok())
            .collect::<Vec<u64>>()
    })
}

/// The first file below `directory` whose name `matches`.
fn find(directory: &Path, matches: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("read {}", directory.display()))?;
        let kind = entry
            .file_type()
            .with_context(|| format!("stat {}", entry.path().display()))?;
        if kind.is_dir() {
            if let Some(found) = find(&entry.path(), matches)? {
                return Ok(Some(found));
            }
        } else if kind.is_file() && entry.file_name().to_str().is_some_and(matches) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_is_by_number() {
        let newest_of =
            |names: &[&str]| newest(names.iter().map(|&name| name.to_owned()).collect());
        let of = newest_of(&[
            "6.1.0-9-cloud-amd64",
            "6.1.0-56-cloud-amd64",
            "6.1.0-0.deb11.52-cloud-amd64",
        ]);
        assert_eq!(of.as_deref(), Some("6.1.0-56-cloud-amd64"));
        let of = newest_of(&["7.10.1+deb13-cloud-amd64", "7.9.12+deb13-cloud-amd64"]);
        assert_eq!(of.as_deref(), Some("7.10.1+deb13-cloud-amd64"));
        assert_eq!(newest_of(&[]), None);
    }
}
