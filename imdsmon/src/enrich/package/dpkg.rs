//! dpkg's database: `info/PACKAGE.list` has a package's files, `status` its version.

use std::{ffi::OsStr, path::Path};

use crate::enrich::package::spellings;
use crate::{enrich::rootfs::HostRoot, text::clip::clip};

const INFO: &str = "/var/lib/dpkg/info";
const STATUS: &str = "/var/lib/dpkg/status";
/// Lists of kernel headers have 1 MiB.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// With 5,000 packages, `status` has about 8 MiB.
const MAX_STATUS_BYTES: u64 = 64 << 20;
const MAX_PACKAGES: usize = 20_000;

/// The package that owns this file, and its version.
pub(crate) fn owner(host: &HostRoot, exe: &str) -> Option<String> {
    let directory = host.path(Path::new(INFO));
    let entries = std::fs::read_dir(&directory).ok()?.take(4 * MAX_PACKAGES);
    let mut lists: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| Path::new(name).extension() == Some(OsStr::new("list")))
        .take(MAX_PACKAGES)
        .collect();
    // The package's name usually is, or begins with, the program's name: search those first.
    let name = exe.rsplit('/').next().unwrap_or(exe);
    lists.sort_by_key(|list| (!list.starts_with(name), list.len()));
    let list = lists.iter().find(|list| {
        let text = host.read(&Path::new(INFO).join(list), MAX_LIST_BYTES);
        text.is_some_and(|text| spellings(exe).any(|path| has_line(&text, path.as_bytes())))
    })?;
    let package = list.strip_suffix(".list")?;
    let package = package.split(':').next()?; // the architecture
    let version = version(&host.read(Path::new(STATUS), MAX_STATUS_BYTES)?, package);
    Some(clip(&format!("{package} {}", version.unwrap_or_default())))
}

fn has_line(text: &[u8], line: &[u8]) -> bool {
    // Faster than comparing each line: few bytes of a list can start a match.
    memchr::memmem::find_iter(text, line).any(|at| {
        let before = at.checked_sub(1).is_none_or(|at| text[at] == b'\n');
        let after = text.get(at + line.len()).is_none_or(|&b| b == b'\n');
        before && after
    })
}

fn version(status: &[u8], package: &str) -> Option<String> {
    let mut is_it = false;
    for line in status.split(|&b| b == b'\n') {
        if let Some(name) = line.strip_prefix(b"Package: ") {
            is_it = name == package.as_bytes();
        } else if is_it && let Some(version) = line.strip_prefix(b"Version: ") {
            return Some(String::from_utf8_lossy(version).into_owned());
        }
    }
    None
}
