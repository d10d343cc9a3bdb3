//! The files of each package.

use super::{Release, tool};
use crate::process::{self, QUERY_TIMEOUT};
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// An installed file, owned by root.
pub struct File {
    /// Without the leading slash. A path with the suffix [`GZIP`] is compressed when written.
    pub path: String,
    pub mode: u32,
    /// The uncompressed content.
    pub content: Vec<u8>,
}

/// Man pages are compressed, as Debian and Red Hat require.
const GZIP: &str = ".gz";

/// The configuration file: an update does not overwrite it.
pub const CONFIGURATION: &str = "etc/imdsmon/imdsmon.toml";

/// Files and directories of the repository that both host packages install, with their target.
const PACKAGED: &[(&str, &str)] = &[
    ("packaging/imdsmon.toml", CONFIGURATION),
    (
        "packaging/systemd/imdsmon.service",
        "usr/lib/systemd/system/imdsmon.service",
    ),
    (
        "packaging/systemd/imdsmon-metrics.socket",
        "usr/lib/systemd/system/imdsmon-metrics.socket",
    ),
    (
        "packaging/systemd/imdsmon.sysusers",
        "usr/lib/sysusers.d/imdsmon.conf",
    ),
    ("README.md", "usr/share/doc/imdsmon/README.md"),
    ("CHANGELOG.md", "usr/share/doc/imdsmon/CHANGELOG.md"),
    ("docs", "usr/share/doc/imdsmon/docs"),
    ("docs/guides", "usr/share/doc/imdsmon/docs/guides"),
    ("docs/concepts", "usr/share/doc/imdsmon/docs/concepts"),
    ("docs/reference", "usr/share/doc/imdsmon/docs/reference"),
    (
        "packaging/prometheus",
        "usr/share/doc/imdsmon/examples/prometheus",
    ),
    (
        "packaging/grafana",
        "usr/share/doc/imdsmon/examples/grafana",
    ),
    (
        "packaging/kubernetes",
        "usr/share/doc/imdsmon/examples/kubernetes",
    ),
];

const MIT: &str = "LICENSE-MIT";
const APACHE: &str = "LICENSE-APACHE";

pub fn debian(release: &Release, binary: &Path, manual: &Path) -> Result<Vec<File>> {
    let mut files = host(release, binary, manual, "usr/share/zsh/vendor-completions")?;
    files.push(plain(
        "usr/share/doc/imdsmon/copyright",
        release.source("packaging/debian/copyright")?,
    ));
    Ok(files)
}

pub fn redhat(release: &Release, binary: &Path, manual: &Path) -> Result<Vec<File>> {
    let mut files = host(release, binary, manual, "usr/share/zsh/site-functions")?;
    for name in [MIT, APACHE] {
        let path = format!("usr/share/licenses/imdsmon/{name}");
        files.push(plain(path, release.source(name)?));
    }
    Ok(files)
}

/// The files of the container image; the static binary needs no others.
pub fn container(release: &Release, binary: &Path) -> Result<Vec<File>> {
    let mut files = vec![program(binary)?];
    for name in [MIT, APACHE] {
        let path = format!("usr/share/licenses/imdsmon/{name}");
        files.push(plain(path, release.source(name)?));
    }
    Ok(files)
}

/// Writes `files` below `stage` with their modes, independent of the umask.
pub fn write(release: &Release, files: &[File], stage: &Path) -> Result<()> {
    let mut compressed = Vec::new();
    for file in files {
        let path = stage.join(match file.path.strip_suffix(GZIP) {
            Some(plain) => {
                compressed.push(plain);
                plain
            }
            None => &file.path,
        });
        let directory = path.parent().context("the file has no directory")?;
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        let created = path.ancestors().skip(1);
        for directory in created.take_while(|directory| directory.starts_with(stage)) {
            set_mode(directory, 0o755)?;
        }
        fs::write(&path, &file.content).with_context(|| format!("write {}", path.display()))?;
        set_mode(&path, file.mode)?;
    }
    if compressed.is_empty() {
        return Ok(());
    }
    // -9 as Debian requires, -n for reproducible files: no name and time.
    let mut gzip = tool(release, "gzip");
    process::run(
        gzip.current_dir(stage).args(["-9", "-n"]).args(compressed),
        QUERY_TIMEOUT,
    )
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))
}

/// The files that both host packages install; `zsh` is the directory of zsh completions.
fn host(release: &Release, binary: &Path, manual: &Path, zsh: &str) -> Result<Vec<File>> {
    let mut files = vec![program(binary)?];
    for (from, to) in PACKAGED {
        let path = release.root.join(from);
        if path.is_dir() {
            for name in names(&path)? {
                // Screenshots are for readers of the repository.
                if path.join(&name).is_file() && !is_picture(&name) {
                    let content = release.source(&format!("{from}/{name}"))?;
                    files.push(plain(format!("{to}/{name}"), content));
                }
            }
        } else {
            files.push(plain(*to, release.source(from)?));
        }
    }
    for name in names(manual)? {
        let path = manual.join(&name);
        let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        files.push(match name.as_str() {
            "imdsmon.bash" => plain("usr/share/bash-completion/completions/imdsmon", content),
            "imdsmon.fish" => plain("usr/share/fish/vendor_completions.d/imdsmon.fish", content),
            "_imdsmon" => plain(format!("{zsh}/_imdsmon"), content),
            page => plain(format!("usr/share/man/man1/{page}{GZIP}"), content),
        });
    }
    Ok(files)
}

fn is_picture(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "png")
}

fn program(binary: &Path) -> Result<File> {
    Ok(File {
        path: "usr/bin/imdsmon".to_owned(),
        mode: 0o755,
        content: fs::read(binary).with_context(|| format!("read {}", binary.display()))?,
    })
}

fn plain(path: impl Into<String>, content: Vec<u8>) -> File {
    File {
        path: path.into(),
        mode: 0o644,
        content,
    }
}

/// Sorted names of the entries of a directory.
fn names(directory: &Path) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry
            .with_context(|| format!("read {}", directory.display()))?
            .file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
