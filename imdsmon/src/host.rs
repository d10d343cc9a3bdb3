//! Which instance this is, from what the firmware says. IMDS would know too, and is never asked.

use std::{fs, io::Read as _, path::Path};

use crate::report::model::Instance;
use crate::{capture::recording::RecordedHost, verdict::INSTANCE_ID};

/// Where Nitro instances have their id (EC2 User Guide, "Identify EC2 instances"). What Xen
/// instances say in `/sys/hypervisor/uuid` and in DMI's `product_uuid` is another number.
const ASSET_TAG: &str = "sys/devices/virtual/dmi/id/board_asset_tag";
/// The name that the kernel has.
const HOSTNAME: &str = "proc/sys/kernel/hostname";

/// What stands for an id that is not known.
pub const PLACEHOLDER: &str = INSTANCE_ID;

impl Instance {
    /// Looks at this host.
    pub fn local() -> Self {
        Self::below(Path::new("/"))
    }

    /// What a recording says of its host: untrusted, so that what is no id is none.
    pub fn of(host: &RecordedHost) -> Self {
        let RecordedHost { instance, name } = host.clone();
        Self {
            id: instance.filter(|id| is_id(id)),
            hostname: name,
        }
    }

    /// The same for a recording.
    pub fn host(&self) -> RecordedHost {
        let Self { id, hostname } = self.clone();
        RecordedHost {
            instance: id,
            name: hostname,
        }
    }

    /// Looks at the host whose root directory this is.
    fn below(root: &Path) -> Self {
        let id = read(&root.join(ASSET_TAG));
        Self {
            id: id.filter(|id| is_id(id)),
            hostname: read(&root.join(HOSTNAME)).filter(|name| name != "(none)"),
        }
    }
}

/// Whether this is an id as EC2 gives them: `i-` and 8 or, since 2016, 17 hexadecimal digits.
pub fn is_id(text: &str) -> bool {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.strip_prefix("i-").is_some_and(|digits| {
        matches!(digits.len(), 8 | 17) && digits.as_bytes().iter().all(is_digit)
    })
}

/// The id as it goes into a command. What is not an id does not get there.
pub fn id_or_placeholder(id: Option<&str>) -> &str {
    id.filter(|id| is_id(id)).unwrap_or(PLACEHOLDER)
}

/// The first line of a small file; `None` if there is none, or nothing in it.
fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .ok()?
        .take(256)
        .read_to_end(&mut bytes)
        .ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use crate::host::*;

    /// A host with this asset tag and name.
    fn host(tag: Option<&[u8]>, name: &str) -> Instance {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, bytes: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        if let Some(tag) = tag {
            put(ASSET_TAG, tag);
        }
        put(HOSTNAME, name.as_bytes());
        Instance::below(root.path())
    }

    #[test]
    fn nitro_says_its_id() {
        let instance = host(Some(b"i-0123456789abcdef0\n"), "ip-10-0-0-10\n");
        assert_eq!(instance.id.as_deref(), Some("i-0123456789abcdef0"));
        assert_eq!(instance.hostname.as_deref(), Some("ip-10-0-0-10"));
        // Older instances have short ones.
        assert_eq!(
            host(Some(b"i-1a2b3c4d"), "a").id.as_deref(),
            Some("i-1a2b3c4d")
        );
    }

    #[test]
    fn what_others_say_is_no_id() {
        let tags: [&[u8]; 10] = [
            b"",
            b"\n",
            b"Not Specified\n",
            b"i-",
            b"i-0123456789ABCDEF0",
            b"i-0123456789abcdef",
            b"i-0123456789abcdef0; reboot",
            b"xi-0123456789abcdef0",
            b"ec2e1916-9099-7caf-fd21-012345abcdef",
            b"\xff\xfe\0",
        ];
        for tag in tags {
            assert_eq!(host(Some(tag), "a").id, None, "{tag:?}");
        }
        assert_eq!(host(None, "a").id, None);
        assert_eq!(host(None, "(none)\n").hostname, None);
        assert_eq!(host(None, "").hostname, None);
    }

    #[test]
    fn a_file_without_an_end_is_read_in_part() {
        let long = [b"i-0123456789abcdef0\n".repeat(1000), vec![0xff; 10]].concat();
        let id = host(Some(&long), "a").id;
        assert_eq!(id.as_deref(), Some("i-0123456789abcdef0"));
    }

    #[test]
    fn no_command_holds_what_is_not_an_id() {
        assert_eq!(id_or_placeholder(Some("i-1a2b3c4d")), "i-1a2b3c4d");
        assert_eq!(id_or_placeholder(Some("$(reboot)")), PLACEHOLDER);
        assert_eq!(id_or_placeholder(None), PLACEHOLDER);
    }
}
