//! Debian as a source of packages: for this machine through its own apt, and of other releases
//! through an apt configuration kept below `target`.

mod apt;
mod archive;
mod root;

pub use apt::{Installer, installed_version};
pub use archive::Archive;
pub use root::output_in;

use crate::workspace;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub struct Debian {
    pub installer: Installer,
    pub archive: Archive,
    /// `target/vm`: downloads and files made from them.
    pub cache: PathBuf,
}

impl Debian {
    /// `mirror` replaces the mirror that this machine's apt is configured with.
    pub fn new(installer: Installer, mirror: Option<&str>) -> Result<Self> {
        let cache = workspace::target(&workspace::root()?).join("vm");
        Ok(Self {
            installer,
            archive: Archive::new(&cache, mirror),
            cache,
        })
    }
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Whether `path` exists and was written within `age`.
fn is_younger_than(path: &Path, age: Duration) -> bool {
    let written = fs::metadata(path).and_then(|file| file.modified());
    written.is_ok_and(|at| {
        SystemTime::now()
            .duration_since(at)
            .is_ok_and(|elapsed| elapsed < age)
    })
}
