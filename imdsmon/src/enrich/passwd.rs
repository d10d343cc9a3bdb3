//! User names and home directories, from the host's `/etc/passwd`.
//!
//! Not from NSS: a static binary cannot load its modules, and a lookup must never leave the host.

use std::{collections::HashMap, path::Path, rc::Rc};

use crate::{enrich::rootfs::HostRoot, text::clip::clip};

const PASSWD: &str = "/etc/passwd";
const MAX_BYTES: u64 = 16 << 20;

/// Users by ID, read again when the file changes.
pub(crate) struct Passwd {
    host: Rc<HostRoot>,
    users: HashMap<u32, User>,
    changed: Option<i128>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) home: String,
}

impl Passwd {
    pub(crate) fn new(host: Rc<HostRoot>) -> Self {
        Self {
            host,
            users: HashMap::new(),
            changed: None,
        }
    }

    pub(crate) fn user(&mut self, uid: u32) -> Option<&User> {
        let changed = Some(self.host.changed(Path::new(PASSWD))?);
        if self.changed != changed
            && let Some(passwd) = self.host.read(Path::new(PASSWD), MAX_BYTES)
        {
            self.users = parse(&passwd);
            self.changed = changed;
        }
        self.users.get(&uid)
    }
}

/// Of several names of one ID, the first counts, as in getpwuid(3).
fn parse(passwd: &[u8]) -> HashMap<u32, User> {
    let mut users = HashMap::new();
    for line in passwd.split(|&b| b == b'\n') {
        let mut fields = line.split(|&b| b == b':');
        let (Some(name), Some(uid), home) = (fields.next(), fields.nth(1), fields.nth(2)) else {
            continue;
        };
        if let Ok(Ok(uid)) = std::str::from_utf8(uid).map(str::parse) {
            let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
            users.entry(uid).or_insert_with(|| User {
                name: clip(&text(name)),
                home: text(home.unwrap_or_default()),
            });
        }
    }
    users
}

#[cfg(test)]
mod tests {
    use crate::enrich::passwd::*;

    #[test]
    fn the_first_name_of_an_id_counts_and_broken_lines_do_not() {
        let users = parse(
            b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\nbad\nx:x:minus:1\n\xff:x:7:7::/:\n",
        );
        assert_eq!(users[&0].name, "root");
        assert_eq!(users[&0].home, "/root");
        assert_eq!(users[&7].name, "\u{fffd}");
        assert_eq!(users.len(), 2);
    }
}
