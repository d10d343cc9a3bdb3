//! The instance and host name, from DMI and the kernel. imdsmon never requests them from IMDS.

use std::{fs, io::Read as _, path::Path};

use serde::{Deserialize, Serialize};

/// The instance ID on Nitro (EC2 User Guide, "Identify EC2 instances"). On Xen,
/// `/sys/hypervisor/uuid` and DMI's `product_uuid` have other values.
const ASSET_TAG: &str = "sys/devices/virtual/dmi/id/board_asset_tag";
const HOSTNAME: &str = "proc/sys/kernel/hostname";

/// Replaces an unknown instance ID in commands.
pub(crate) const PLACEHOLDER: &str = "INSTANCE_ID";

/// The instance of a report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Instance {
    /// `i-...`; `None` where DMI does not have it.
    pub id: Option<String>,
    /// From the kernel; `None` if it is not set.
    pub hostname: Option<String>,
}

/// The host of a recording, from its first line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedHost {
    #[serde(default, rename = "instance.id")]
    pub(crate) instance: Option<String>,
    #[serde(default, rename = "host.name")]
    pub(crate) name: Option<String>,
}

impl Instance {
    /// The instance that this process runs on.
    pub(crate) fn local() -> Self {
        Self::below(Path::new("/"))
    }

    /// The host of a recording, which is untrusted: an invalid ID is left out.
    pub(crate) fn of(host: &RecordedHost) -> Self {
        let RecordedHost { instance, name } = host.clone();
        Self {
            id: instance.filter(|id| is_id(id)),
            hostname: name,
        }
    }

    /// For the first line of a recording.
    pub(crate) fn to_recorded(&self) -> RecordedHost {
        let Self { id, hostname } = self.clone();
        RecordedHost {
            instance: id,
            name: hostname,
        }
    }

    fn below(root: &Path) -> Self {
        let id = read(&root.join(ASSET_TAG));
        Self {
            id: id.filter(|id| is_id(id)),
            hostname: read(&root.join(HOSTNAME)).filter(|name| name != "(none)"),
        }
    }
}

/// `i-` and 8 or, since 2016, 17 hexadecimal digits.
pub(crate) fn is_id(text: &str) -> bool {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.strip_prefix("i-").is_some_and(|digits| {
        matches!(digits.len(), 8 | 17) && digits.as_bytes().iter().all(is_digit)
    })
}

/// The ID for a command line, which must not contain any other text.
pub(crate) fn id_or_placeholder(id: Option<&str>) -> &str {
    id.filter(|id| is_id(id)).unwrap_or(PLACEHOLDER)
}

/// The first line of a small file; `None` if the file or the line is missing or empty.
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
    fn dmi_of_nitro_has_the_instance_id() {
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
    fn other_asset_tags_are_not_an_id() {
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
    fn an_endless_file_is_read_in_part() {
        let long = [b"i-0123456789abcdef0\n".repeat(1000), vec![0xff; 10]].concat();
        let id = host(Some(&long), "a").id;
        assert_eq!(id.as_deref(), Some("i-0123456789abcdef0"));
    }

    #[test]
    fn only_an_id_reaches_a_command() {
        assert_eq!(id_or_placeholder(Some("i-1a2b3c4d")), "i-1a2b3c4d");
        assert_eq!(id_or_placeholder(Some("$(reboot)")), PLACEHOLDER);
        assert_eq!(id_or_placeholder(None), PLACEHOLDER);
    }
}
