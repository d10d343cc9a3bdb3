//! Names of users, from the host's `/etc/passwd`.
//!
//! Not from NSS: a static binary cannot load its modules, and a lookup must never leave the host.

use std::{collections::HashMap, fs, time::SystemTime};

const PASSWD: &str = "/etc/passwd";
/// Bytes of the file that are read at most.
const MAX: u64 = 16 << 20;

/// User names by id, read anew when the file changes.
#[derive(Default)]
pub struct Passwd {
    names: HashMap<u32, String>,
    changed: Option<SystemTime>,
}

impl Passwd {
    /// The name of a user, if it has one here.
    pub fn name(&mut self, uid: u32) -> Option<String> {
        let metadata = fs::metadata(PASSWD).ok()?;
        let changed = metadata.modified().ok();
        if self.changed != changed && metadata.len() <= MAX {
            self.names = parse(&fs::read(PASSWD).ok()?);
            self.changed = changed;
        }
        self.names.get(&uid).cloned()
    }
}

/// Of several names of one id the first counts, as in getpwuid(3).
fn parse(passwd: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in passwd.split(|&b| b == b'\n') {
        let mut fields = line.split(|&b| b == b':');
        let (Some(name), Some(uid)) = (fields.next(), fields.nth(1)) else {
            continue;
        };
        if let Ok(Ok(uid)) = std::str::from_utf8(uid).map(str::parse) {
            names
                .entry(uid)
                .or_insert_with(|| String::from_utf8_lossy(name).into_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_an_id_counts_and_broken_lines_do_not() {
        let names = parse(
            b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\nbad\nx:x:minus:1\n\xff:x:7:7::/:\n",
        );
        assert_eq!(names[&0], "root");
        assert_eq!(names[&7], "\u{fffd}");
        assert_eq!(names.len(), 2);
    }
}
