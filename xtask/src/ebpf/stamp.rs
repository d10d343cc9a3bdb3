//! The stamp: what the object was built from.
//!
//! It has hashes of sources, not times or commits, and is valid in any checkout.

use super::{CPU, FLAGS, PROFILE};
use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The packages whose sources the object is built from.
const SOURCES: &[&str] = &["imdsmon-common", "imdsmon-ebpf"];

/// The stamp of an object that was built from the current sources.
pub fn text(root: &Path, toolchain: &str, object: &[u8]) -> Result<String> {
    let mut sources = Sha256::new();
    for path in files(root)? {
        let content =
            fs::read(root.join(&path)).with_context(|| format!("read {}", path.display()))?;
        field(&mut sources, path.to_string_lossy().as_bytes());
        field(&mut sources, &content);
    }
    let lock = root.join("Cargo.lock");
    let lock = fs::read_to_string(&lock).with_context(|| format!("read {}", lock.display()))?;
    let crates = locked(&lock);
    if crates.is_empty() {
        bail!("Cargo.lock names no aya-ebpf");
    }
    field(&mut sources, crates.join(" ").as_bytes());
    field(&mut sources, settings().as_bytes());
    Ok(format!(
        "# What imdsmon.bpf.o was built from. `cargo xtask ebpf` writes this; do not edit.\n\
         sources {}\n\
         crates {}\n\
         settings {}\n\
         toolchain {toolchain}\n\
         object {}\n",
        hex(&sources.finalize()),
        crates.join(" "),
        settings(),
        hex(&Sha256::digest(object)),
    ))
}

/// Fails unless `stamp` belongs to the object and to the current sources below `root`.
pub fn check(root: &Path, object: &Path, stamp: &Path) -> Result<()> {
    let found = fs::read_to_string(stamp)
        .with_context(|| format!("read {}; `cargo xtask ebpf` writes it", stamp.display()))?;
    let bytes = fs::read(object)
        .with_context(|| format!("read {}; `cargo xtask ebpf` writes it", object.display()))?;
    let toolchain = value(&found, "toolchain").unwrap_or_default();
    let wanted = text(root, toolchain, &bytes)?;
    for (key, meaning) in [
        ("object", "is not the object that the stamp was written for"),
        ("crates", "was built with other versions of aya"),
        ("settings", "was built with other settings"),
        ("sources", "was built from other sources"),
    ] {
        if value(&found, key) != value(&wanted, key) {
            bail!(
                "{} {meaning}; run `cargo xtask ebpf` and commit {}",
                object.display(),
                super::HOME
            );
        }
    }
    Ok(())
}

fn settings() -> String {
    let profile = PROFILE.iter().map(|(name, value)| {
        let name = name
            .trim_start_matches("CARGO_PROFILE_RELEASE_")
            .to_lowercase();
        format!("{name}={value}")
    });
    let flags = FLAGS
        .iter()
        .filter(|flag| **flag != "-C")
        .map(|flag| (*flag).to_owned());
    let words: Vec<String> = [format!("cpu={CPU}")]
        .into_iter()
        .chain(flags)
        .chain(profile)
        .collect();
    words.join(" ")
}

/// The source files below `root`, relative to it, in the same order everywhere.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = SOURCES.iter().map(|&source| root.join(source)).collect();
    while let Some(directory) = open.pop() {
        let entries =
            fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("read {}", directory.display()))?;
            let path = entry.path();
            let source = path
                .extension()
                .is_some_and(|ext| ext == "rs" || ext == "toml");
            if entry
                .file_type()
                .with_context(|| format!("stat {}", path.display()))?
                .is_dir()
            {
                open.push(path);
            } else if source {
                found.push(path.strip_prefix(root).unwrap_or(&path).to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// `name=version` of the locked crates that become part of the object.
fn locked(lock: &str) -> Vec<String> {
    let mut crates: Vec<String> = lock
        .split("[[package]]")
        .filter_map(|package| {
            let quoted = |key: &str| {
                let line = package.lines().find_map(|line| line.strip_prefix(key))?;
                Some(line.trim_start_matches(" = ").trim_matches('"'))
            };
            let name = quoted("name")?;
            let inside = name.starts_with("aya-ebpf") || name.starts_with("aya-log-ebpf");
            (inside || name == "aya-log-common")
                .then(|| Some(format!("{name}={}", quoted("version")?)))?
        })
        .collect();
    crates.sort();
    crates
}

fn value<'a>(stamp: &'a str, key: &str) -> Option<&'a str> {
    stamp
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
}

/// Adds a field with its length: different lists of fields have different hashes.
fn field(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace with the files that a stamp is made of.
    fn workspace() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for source in SOURCES {
            fs::create_dir_all(root.path().join(source).join("src")).unwrap();
            fs::write(root.path().join(source).join("src/main.rs"), source).unwrap();
        }
        let lock = "[[package]]\nname = \"aya-ebpf\"\nversion = \"0.2.1\"\n\n\
                    [[package]]\nname = \"aya\"\nversion = \"0.14.0\"\n";
        fs::write(root.path().join("Cargo.lock"), lock).unwrap();
        fs::write(root.path().join("object"), "object").unwrap();
        let stamp = text(root.path(), "some rustc", b"object").unwrap();
        fs::write(root.path().join("stamp"), stamp).unwrap();
        root
    }

    fn verdict(root: &tempfile::TempDir) -> String {
        let root = root.path();
        match check(root, &root.join("object"), &root.join("stamp")) {
            Ok(()) => "fine".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn unchanged_sources_pass() {
        assert_eq!(verdict(&workspace()), "fine");
    }

    #[test]
    fn changed_source_fails() {
        let root = workspace();
        fs::write(root.path().join("imdsmon-ebpf/src/main.rs"), "other").unwrap();
        assert!(verdict(&root).contains("from other sources"));
    }

    #[test]
    fn new_source_fails() {
        let root = workspace();
        fs::write(root.path().join("imdsmon-common/src/new.rs"), "").unwrap();
        assert!(verdict(&root).contains("from other sources"));
    }

    #[test]
    fn editor_backup_is_ignored() {
        let root = workspace();
        fs::write(root.path().join("imdsmon-common/src/lib.rs~"), "").unwrap();
        assert_eq!(verdict(&root), "fine");
    }

    #[test]
    fn other_aya_fails() {
        let root = workspace();
        let lock = root.path().join("Cargo.lock");
        let text = fs::read_to_string(&lock).unwrap();
        fs::write(&lock, text.replace("0.2.1", "0.2.2")).unwrap();
        assert!(verdict(&root).contains("other versions of aya"));
    }

    #[test]
    fn other_object_fails() {
        let root = workspace();
        fs::write(root.path().join("object"), "forged").unwrap();
        assert!(verdict(&root).contains("is not the object"));
    }
}
