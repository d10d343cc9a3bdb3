//! rpm's database in its `SQLite` form (rpm 4.16 and later: Amazon Linux 2023, RHEL 9, Fedora 33).
//!
//! Not the older Berkeley DB form (Amazon Linux 2, RHEL 8): it has no maintained reader, and the
//! package is optional.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::enrich::package::spellings;
use crate::{enrich::rootfs::HostRoot, text::clip::clip};

/// The old location, and the one since Fedora 36.
const DATABASES: [&str; 2] = [
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
];
/// Packages with a file of the same name.
const MAX_CANDIDATES: u32 = 64;
/// rpm's own limit is 256 MiB; a kernel's header has 2 MiB.
const MAX_HEADER_BYTES: u32 = 32 << 20;

/// Tags of the header (`include/rpm/rpmtag.h`).
mod tag {
    pub(crate) const NAME: u32 = 1000;
    pub(crate) const VERSION: u32 = 1001;
    pub(crate) const RELEASE: u32 = 1002;
    pub(crate) const EPOCH: u32 = 1003;
    pub(crate) const DIRINDEXES: u32 = 1116;
    pub(crate) const DIRNAMES: u32 = 1118;
}

/// The package that owns this file, and its version.
pub(crate) fn owner(host: &HostRoot, exe: &str) -> Option<String> {
    let path = DATABASES.iter().map(|path| host.path(Path::new(path)));
    let path = path.into_iter().find(|path| path.is_file())?;
    let database = open(&path)?;
    let (_, name) = exe.rsplit_once('/')?;
    let mut query = database
        .prepare(
            "SELECT idx, blob FROM Basenames JOIN Packages USING (hnum) \
             WHERE key = ?1 AND length(blob) <= ?2 LIMIT ?3",
        )
        .ok()?;
    let rows = query.query_map((name, MAX_HEADER_BYTES, MAX_CANDIDATES), |row| {
        Ok((row.get::<_, u32>(0)?, row.get::<_, Vec<u8>>(1)?))
    });
    rows.ok()?.filter_map(Result::ok).find_map(|(index, blob)| {
        let header = Header::new(&blob)?;
        let directory = header.directory(index)?;
        let is_it =
            spellings(exe).any(|exe| exe.rsplit_once('/').is_some_and(|(d, _)| d == directory));
        is_it.then(|| header.label())?
    })
}

/// Opens without a lock or a journal, which cannot disturb rpm. During a concurrent write, the
/// lookup may miss the package or fail.
fn open(path: &Path) -> Option<Connection> {
    let path = path
        .to_str()?
        .replace('%', "%25")
        .replace('?', "%3f")
        .replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(format!("file:{path}?immutable=1"), flags).ok()
}

/// A package's header (`docs/manual/hregions.md` of rpm): the number of index entries and of
/// bytes of data, the entries (tag, type, offset, count), the data; numbers big-endian.
struct Header<'b> {
    entries: &'b [u8],
    data: &'b [u8],
}

const INDEX_ENTRY_BYTES: usize = 16;

impl<'b> Header<'b> {
    fn new(blob: &'b [u8]) -> Option<Self> {
        let (count, size) = (number(blob, 0)?, number(blob, 4)?);
        let entries = usize::try_from(count)
            .ok()?
            .checked_mul(INDEX_ENTRY_BYTES)?;
        let data = blob.get(8 + entries..)?;
        Some(Self {
            entries: blob.get(8..8 + entries)?,
            data: data.get(..usize::try_from(size).ok()?)?,
        })
    }

    /// The directory of the file with this number, without the trailing slash.
    fn directory(&self, file: u32) -> Option<&'b str> {
        let file = usize::try_from(file).ok()?;
        let index = number(self.value(tag::DIRINDEXES)?, file.checked_mul(4)?)?;
        let names = self.value(tag::DIRNAMES)?;
        let name = names.split(|&b| b == 0).nth(usize::try_from(index).ok()?)?;
        std::str::from_utf8(name).ok()?.strip_suffix('/')
    }

    /// `name epoch:version-release`, without an epoch of 0, like rpm.
    fn label(&self) -> Option<String> {
        let text = |tag| {
            let value = self.value(tag)?.split(|&b| b == 0).next()?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let epoch = self.value(tag::EPOCH).and_then(|value| number(value, 0));
        let epoch = epoch
            .filter(|&epoch| epoch != 0)
            .map(|epoch| format!("{epoch}:"));
        let (name, version, release) = (text(tag::NAME)?, text(tag::VERSION)?, text(tag::RELEASE)?);
        Some(clip(&format!(
            "{name} {}{version}-{release}",
            epoch.unwrap_or_default()
        )))
    }

    /// The data, starting at the value of a tag.
    fn value(&self, tag: u32) -> Option<&'b [u8]> {
        let entry = self
            .entries
            .chunks_exact(INDEX_ENTRY_BYTES)
            .find(|e| number(e, 0) == Some(tag))?;
        self.data.get(usize::try_from(number(entry, 8)?).ok()?..)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use crate::enrich::package::rpm::*;

    proptest::proptest! {
        #[test]
        fn a_damaged_header_is_no_package(blob: Vec<u8>, file: u32) {
            if let Some(header) = Header::new(&blob) {
                let _ = (header.directory(file), header.label());
            }
        }

        #[test]
        fn wrong_offsets_are_no_package(entries in proptest::collection::vec((1000u32..1005, 0u32..64), 1..4), data: Vec<u8>) {
            let mut blob = Vec::new();
            blob.extend(u32::try_from(entries.len()).unwrap().to_be_bytes());
            blob.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
            for (tag, offset) in entries {
                for number in [tag, 6, offset, 1] {
                    blob.extend(number.to_be_bytes());
                }
            }
            blob.extend(data);
            let header = Header::new(&blob).unwrap();
            let _ = header.label();
        }
    }
}
