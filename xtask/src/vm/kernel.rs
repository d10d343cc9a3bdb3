//! Debian's cloud kernels: the versions that imdsmon is tested on, and their download.

use crate::arch::Arch;
use crate::debian::{Archive, Debian};
use crate::process::{self, QUERY_TIMEOUT};
use crate::progress::note;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel version that imdsmon is tested on.
pub struct Version {
    /// On the command line and in the summary.
    pub name: &'static str,
    pub arch: Arch,
    /// Prefix of its release; the newest package with this prefix is used.
    series: &'static str,
}

/// The oldest supported kernel, the first of Amazon Linux 2023, the newest, and one on arm64.
pub const KERNELS: &[Version] = &[
    Version {
        name: "5.10",
        arch: Arch::Amd64,
        series: "5.10.",
    },
    Version {
        name: "6.1",
        arch: Arch::Amd64,
        series: "6.1.",
    },
    Version {
        name: "7",
        arch: Arch::Amd64,
        series: "7.",
    },
    Version {
        name: "arm64-6.12",
        arch: Arch::Arm64,
        series: "6.12.",
    },
];

/// A downloaded and unpacked kernel.
pub struct Kernel {
    /// See [`Version::name`].
    pub name: &'static str,
    /// See [`Version::arch`].
    pub arch: Arch,
    /// As `uname -r` prints it.
    pub release: String,
    /// The file that qemu boots.
    pub image: PathBuf,
    /// The directory with its unpacked packages.
    directory: PathBuf,
    pub logs: PathBuf,
}

impl Kernel {
    /// The uncompressed bytes of a module; `None` if the kernel has no such module.
    pub fn module(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let candidates = [
            format!("{name}.ko"),
            format!("{name}.ko.xz"),
            format!("{name}.ko.zst"),
        ];
        let found = find(&self.directory, &|file| {
            candidates.iter().any(|name| name == file)
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
        let copy = tempfile::tempdir().context("create a temporary directory")?;
        let packed = copy.path().join(path.file_name().unwrap_or_default());
        fs::copy(&path, &packed).with_context(|| format!("copy {}", path.display()))?;
        process::run(
            Command::new(unpack).args(["-q", "-d"]).arg(&packed),
            QUERY_TIMEOUT,
        )?;
        let plain = packed.with_extension("");
        fs::read(&plain)
            .map(Some)
            .with_context(|| format!("read {}", plain.display()))
    }
}

/// Downloads the newest kernel of a series; without the archive, uses one downloaded before.
pub fn obtain(version: &'static Version, debian: &Debian) -> Result<Kernel> {
    let releases = match releases(version, &debian.archive) {
        Ok(releases) => releases,
        Err(error) => {
            let kernel = cached(version, &debian.cache).ok_or(error)?;
            note("cannot reach the Debian archive; using a kernel downloaded before");
            return Ok(kernel);
        }
    };
    let release = newest(releases).with_context(|| {
        format!(
            "the archive has no kernel {}* for {}",
            version.series,
            version.arch.name()
        )
    })?;
    let directory = directory(version, &debian.cache, &release);
    if !directory.exists() {
        download(version, &release, &directory, &debian.archive)?;
    }
    unpacked(version, &debian.cache, release)
}

/// The newest downloaded kernel of a series.
pub fn cached(version: &'static Version, cache: &Path) -> Option<Kernel> {
    let entries = fs::read_dir(cache.join("kernels")).ok()?;
    let suffix = format!("-{}", version.arch.name());
    let releases = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let ours = name.starts_with(version.series) && name.ends_with(&suffix);
        ours.then_some(name)
    });
    unpacked(version, cache, newest(releases.collect())?).ok()
}

fn directory(version: &Version, cache: &Path, release: &str) -> PathBuf {
    debug_assert!(release.ends_with(version.arch.name()));
    cache.join("kernels").join(release)
}

fn unpacked(version: &'static Version, cache: &Path, release: String) -> Result<Kernel> {
    let directory = directory(version, cache, &release);
    // In /boot with the release as suffix; since 7.x also next to the modules, without it.
    let image = find(&directory, &|file| file.starts_with("vmlinuz"))?;
    let image = image.with_context(|| format!("no kernel in {}", directory.display()))?;
    Ok(Kernel {
        name: version.name,
        arch: version.arch,
        release,
        image,
        directory,
        logs: cache.to_owned(),
    })
}

fn releases(version: &Version, archive: &Archive) -> Result<Vec<String>> {
    let series = version.series.replace('.', "\\.");
    let pattern = format!("^linux-image-{series}.*-cloud-{}$", version.arch.name());
    let names = archive.search(&pattern)?;
    let release = |name: String| name.strip_prefix("linux-image-").map(str::to_owned);
    Ok(names.into_iter().filter_map(release).collect())
}

/// Downloads and unpacks the packages of a release: one package up to 6.x, several since 7.x.
fn download(version: &Version, release: &str, directory: &Path, archive: &Archive) -> Result<()> {
    let escaped = release.replace('.', "\\.").replace('+', "\\+");
    let packages = archive.search(&format!("^linux-(image|binary|modules)-{escaped}$"))?;
    let parent = directory
        .parent()
        .context("the kernel directory has no parent")?;
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    let partial = tempfile::tempdir_in(parent).context("create a temporary directory")?;
    for package in packages {
        note(format!("download {package}"));
        archive.unpack(
            &format!("{package}:{}", version.arch.name()),
            partial.path(),
        )?;
    }
    // Renamed when complete, so an interrupted download is not mistaken for a kernel.
    let partial = partial.keep();
    fs::rename(&partial, directory).with_context(|| format!("rename to {}", directory.display()))
}

/// The highest release; runs of digits compare as numbers.
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
    fn newest_release_compares_numbers() {
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
