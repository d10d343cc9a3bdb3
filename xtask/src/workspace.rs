//! Directories of the workspace.

use anyhow::{Context as _, Result};
use std::env;
use std::path::{Path, PathBuf};

pub fn root() -> Result<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = package
        .parent()
        .context("xtask has no directory above it")?;
    root.canonicalize()
        .with_context(|| format!("find {}", root.display()))
}

/// Cargo's target directory; every task writes below it.
pub fn target(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// Paths at which `program` may be installed: in `own`, in PATH or where cargo installs.
pub fn program_paths(program: &str, own: &Path) -> Result<Vec<PathBuf>> {
    let path = env::var_os("PATH").unwrap_or_default();
    let candidates = [own.to_owned()]
        .into_iter()
        .chain(env::split_paths(&path))
        .chain([cargo_home()?.join("bin")])
        .map(|directory| directory.join(program));
    Ok(candidates.filter(|path| path.exists()).collect())
}

/// The directory with cargo's registry and installed programs.
pub fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(PathBuf::from(home));
    }
    let home = env::home_dir().context("no CARGO_HOME and no home directory")?;
    Ok(home.join(".cargo"))
}
