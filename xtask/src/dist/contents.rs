//! Which files a package holds, and where.

use super::{Release, tool};
use crate::process::{self, QUERY_TIMEOUT};
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A file as it is installed.
pub struct File {
    /// Where, without the leading slash. One that ends with [`PACKED`] is compressed on its way.
    pub path: String,
    /// Permission bits; the owner is root.
    pub mode: u32,
    /// What it holds, not compressed.
    pub content: Vec<u8>,
}

/// What compressed documentation ends with.
const PACKED: &str = ".gz";

const PROGRAM: u32 = 0o755;
const PLAIN: u32 = 0o644;

/// The administrator's own: an update does not overwrite it.
pub const CONFIGURATION: &str = "etc/imdsmon/imdsmon.toml";

/// Files of the repository, and where packages for a host have them.
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

/// Of the Debian package.
pub fn debian(release: &Release, binary: &Path, manual: &Path) -> Result<Vec<File>> {
    let mut files = host(release, binary, manual, "usr/share/zsh/vendor-completions")?;
    files.push(plain(
        "usr/share/doc/imdsmon/copyright",
        copyright(release)?.into_bytes(),
    ));
    Ok(files)
}

/// Of the RPM.
pub fn redhat(release: &Release, binary: &Path, manual: &Path) -> Result<Vec<File>> {
    let mut files = host(release, binary, manual, "usr/share/zsh/site-functions")?;
    for name in [MIT, APACHE] {
        let path = format!("usr/share/licenses/imdsmon/{name}");
        files.push(plain(path, release.source(name)?));
    }
    Ok(files)
}

/// Of the container image: the program is static and needs nothing beside it.
pub fn container(release: &Release, binary: &Path) -> Result<Vec<File>> {
    let mut files = vec![program(binary)?];
    for name in [MIT, APACHE] {
        let path = format!("usr/share/licenses/imdsmon/{name}");
        files.push(plain(path, release.source(name)?));
    }
    Ok(files)
}

/// Writes `files` below `stage`, with their modes.
pub fn write(release: &Release, files: &[File], stage: &Path) -> Result<()> {
    let mut packed = Vec::new();
    for file in files {
        let path = stage.join(match file.path.strip_suffix(PACKED) {
            Some(plain) => {
                packed.push(plain);
                plain
            }
            None => &file.path,
        });
        let directory = path.parent().context("a file without a directory")?;
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        fs::write(&path, &file.content).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))
            .with_context(|| format!("set the mode of {}", path.display()))?;
    }
    if packed.is_empty() {
        return Ok(());
    }
    // Best, without a name or a time: as Debian wants it, and the same each time.
    let mut gzip = tool(release, "gzip");
    process::run(
        gzip.current_dir(stage).args(["-9", "-n"]).args(packed),
        QUERY_TIMEOUT,
    )
}

fn host(release: &Release, binary: &Path, manual: &Path, zsh: &str) -> Result<Vec<File>> {
    let mut files = vec![program(binary)?];
    for (from, to) in PACKAGED {
        let path = release.root.join(from);
        if path.is_dir() {
            for name in names(&path)? {
                // Screenshots and the like are for the repository's readers.
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
            page => plain(format!("usr/share/man/man1/{page}{PACKED}"), content),
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
        mode: PROGRAM,
        content: fs::read(binary).with_context(|| format!("read {}", binary.display()))?,
    })
}

fn plain(path: impl Into<String>, content: Vec<u8>) -> File {
    File {
        path: path.into(),
        mode: PLAIN,
        content,
    }
}

/// Names in a directory, in order.
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

/// In Debian's machine-readable form, where an empty line is a dot.
fn copyright(release: &Release) -> Result<String> {
    let text = |path| -> Result<String> {
        String::from_utf8(release.source(path)?).with_context(|| format!("{path} is no text"))
    };
    let mut copyright = text("packaging/debian/copyright")?.trim_end().to_owned();
    for line in text(MIT)?.trim_end().lines() {
        let line = if line.is_empty() { "." } else { line };
        copyright.push_str("\n ");
        copyright.push_str(line);
    }
    copyright.push_str(
        "\n .\n Or, as you like, the Apache License, Version 2.0: on Debian systems it is in\n \
         /usr/share/common-licenses/Apache-2.0.\n",
    );
    Ok(copyright)
}
