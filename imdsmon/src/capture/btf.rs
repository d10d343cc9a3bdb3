//! Offsets of kernel struct members, from the kernel's type information (BTF).
//!
//! Own code: aya-obj keeps the members of a struct private, and btf-rs is LGPL, which puts
//! conditions on a statically linked binary. The format:
//! <https://elixir.bootlin.com/linux/v6.12.43/source/include/uapi/linux/btf.h>

use std::{collections::HashMap, path::Path};

use imdsmon_common::Offsets;

/// BTF of the running kernel (Linux 5.4 and later, with `CONFIG_DEBUG_INFO_BTF`).
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// Kinds that wrap a type: typedef, volatile, const, restrict, type tag.
const WRAPPERS: [u32; 5] = [8, 9, 10, 11, 18];
/// Nesting of anonymous structs and wrappers; about 3 in the kernel.
const MAX_DEPTH: u32 = 16;

#[derive(Debug, thiserror::Error)]
pub(crate) enum BtfError {
    #[error("cannot read {VMLINUX}: {0}")]
    Read(#[from] std::io::Error),
    #[error("{VMLINUX} is not valid BTF")]
    Malformed,
    #[error("the kernel has no {0}")]
    Missing(&'static str),
}

/// The offsets of the running kernel.
pub(crate) fn offsets() -> Result<Offsets, BtfError> {
    from_file(Path::new(VMLINUX))
}

fn from_file(path: &Path) -> Result<Offsets, BtfError> {
    let bytes = std::fs::read(path)?;
    let btf = Btf::parse(&bytes).ok_or(BtfError::Malformed)?;
    Offsets::look_up(|path| btf.offset(path).ok_or(BtfError::Missing(path)))
}

struct Btf<'a> {
    strings: &'a [u8],
    types: &'a [u8],
    /// Start of each type in `types`; type IDs count from 1.
    starts: Vec<usize>,
    /// Start of each struct in `types`, by name; the first of several with one name.
    structs: HashMap<&'a [u8], usize>,
}

struct Type {
    name: u32,
    kind: u32,
    members: u32,
    bitfields: bool,
    /// Size of a struct, or ID of the wrapped type.
    inner: u32,
    /// Where the variable part begins.
    body: usize,
}

impl<'a> Btf<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let header = word(bytes, 4)? as usize;
        let section = |at| {
            let start = header.checked_add(word(bytes, at)? as usize)?;
            bytes.get(start..start.checked_add(word(bytes, at + 4)? as usize)?)
        };
        let mut btf = Self {
            types: section(8)?,
            strings: section(16)?,
            starts: Vec::new(),
            structs: HashMap::new(),
        };
        let mut at = 0;
        while at < btf.types.len() {
            btf.starts.push(at);
            let ty = btf.read(at)?;
            if ty.kind == STRUCT && ty.members > 0 {
                btf.structs.entry(btf.name(ty.name)?).or_insert(at);
            }
            at = ty.body.checked_add(ty.body_len()?)?;
        }
        Some(btf)
    }

    fn read(&self, at: usize) -> Option<Type> {
        let info = word(self.types, at + 4)?;
        Some(Type {
            name: word(self.types, at)?,
            kind: (info >> 24) & 0x1f,
            members: info & 0xffff,
            bitfields: info >> 31 == 1,
            inner: word(self.types, at + 8)?,
            body: at + 12,
        })
    }

    fn by_id(&self, id: u32) -> Option<Type> {
        self.read(*self.starts.get(id.checked_sub(1)? as usize)?)
    }

    fn name(&self, at: u32) -> Option<&'a [u8]> {
        self.strings.get(at as usize..)?.split(|&b| b == 0).next()
    }

    /// The offset in bytes of `struct.member.member`.
    fn offset(&self, path: &str) -> Option<u32> {
        let (name, members) = path.split_once('.')?;
        let mut ty = self.read(*self.structs.get(name.as_bytes())?)?;
        let mut bits = 0;
        for member in members.split('.') {
            let (offset, id) = self.member(&ty, member.as_bytes(), MAX_DEPTH)?;
            bits += offset;
            ty = self.unwrap(id)?;
        }
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// Offset in bits and type of a member, also inside anonymous structs and unions.
    fn member(&self, ty: &Type, wanted: &[u8], depth: u32) -> Option<(u32, u32)> {
        if !matches!(ty.kind, STRUCT | UNION) || depth == 0 {
            return None;
        }
        (0..ty.members as usize).find_map(|i| {
            let at = ty.body + i * 12;
            let (name, id) = (word(self.types, at)?, word(self.types, at + 4)?);
            let offset = word(self.types, at + 8)?;
            let offset = if ty.bitfields {
                offset & 0xff_ffff
            } else {
                offset
            };
            if name != 0 {
                return (self.name(name)? == wanted).then_some((offset, id));
            }
            let (inner, id) = self.member(&self.unwrap(id)?, wanted, depth - 1)?;
            Some((offset + inner, id))
        })
    }

    /// The type behind typedefs and qualifiers.
    fn unwrap(&self, id: u32) -> Option<Type> {
        let mut ty = self.by_id(id)?;
        for _ in 0..MAX_DEPTH {
            if !WRAPPERS.contains(&ty.kind) {
                return Some(ty);
            }
            ty = self.by_id(ty.inner)?;
        }
        None
    }
}

impl Type {
    /// Bytes of the variable part, by kind.
    fn body_len(&self) -> Option<usize> {
        let members = self.members as usize;
        Some(match self.kind {
            1 | 14 | 17 => 4,                         // int, var, declaration tag
            2 | 7..=12 | 16 | 18 => 0,                // pointer, forward, wrappers, func, float
            3 => 12,                                  // array
            STRUCT | UNION | 15 | 19 => members * 12, // also data section, enum64
            6 | 13 => members * 8,                    // enum, function prototype
            _ => return None,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_the_running_kernel_are_complete() {
        if !Path::new(VMLINUX).exists() {
            eprintln!("SKIPPED: this kernel has no BTF");
            return;
        }
        let offsets = offsets().unwrap();
        assert_eq!(offsets.valid, 1);
        assert!(offsets.mm_arg_end > offsets.mm_arg_start);
        assert!(offsets.task_comm > 0 && offsets.sock_owned > 0 && offsets.skb_sk > 0);
    }

    #[test]
    fn btf_cut_short_or_foreign_is_malformed() {
        let good = std::fs::read(VMLINUX).unwrap_or_default();
        for bytes in [
            &b""[..],
            b"\x9f\xeb",
            &[0x9f; 40],
            good.get(..1000).unwrap_or(b"x"),
        ] {
            assert!(Btf::parse(bytes).is_none(), "{} bytes", bytes.len());
        }
    }

    #[test]
    fn missing_btf_is_named() {
        let error = from_file(Path::new("/nonexistent"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(VMLINUX), "{error}");
    }
}
