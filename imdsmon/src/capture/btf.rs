//! Offsets of kernel struct members, from the kernel's own description of its types (BTF).
//!
//! The one crate that reads BTF members is LGPL, which a static binary under MIT/Apache cannot
//! take in, and aya keeps members to itself; so this is a reader of the little that is needed.
//! Format: the kernel's `Documentation/bpf/btf.rst`.

use std::path::Path;

use imdsmon_common::Offsets;

/// Where the running kernel describes its types (5.4 and later, `CONFIG_DEBUG_INFO_BTF`).
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// typedef, volatile, const, restrict, type tag: names and qualifiers around another type.
const WRAPPERS: [u32; 5] = [8, 9, 10, 11, 18];
/// How deep anonymous structs and wrappers may nest; the kernel's nest about three deep.
const DEPTH: u32 = 16;

/// Why the offsets cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// No BTF on this host.
    #[error("cannot read {VMLINUX}: {0}")]
    Read(#[from] std::io::Error),
    /// The file is not BTF, or cut short.
    #[error("{VMLINUX} is not BTF")]
    Malformed,
    /// This kernel's structs are other than expected.
    #[error("this kernel has no {0}")]
    Missing(&'static str),
}

/// The offsets of the running kernel.
pub fn offsets() -> Result<Offsets, BtfError> {
    from_file(Path::new(VMLINUX))
}

fn from_file(path: &Path) -> Result<Offsets, BtfError> {
    let bytes = std::fs::read(path)?;
    let btf = Btf::parse(&bytes).ok_or(BtfError::Malformed)?;
    let at = |path: &'static str| btf.offset(path).ok_or(BtfError::Missing(path));
    Ok(Offsets {
        valid: 1,
        task_tgid: at("task_struct.tgid")?,
        task_pid: at("task_struct.pid")?,
        task_comm: at("task_struct.comm")?,
        task_mm: at("task_struct.mm")?,
        task_flags: at("task_struct.flags")?,
        task_self_exec_id: at("task_struct.self_exec_id")?,
        task_real_parent: at("task_struct.real_parent")?,
        task_group_leader: at("task_struct.group_leader")?,
        task_start_boottime: at("task_struct.start_boottime")?,
        task_nsproxy: at("task_struct.nsproxy")?,
        task_cred: at("task_struct.cred")?,
        cred_uid: at("cred.uid")?,
        cred_gid: at("cred.gid")?,
        mm_arg_start: at("mm_struct.arg_start")?,
        mm_arg_end: at("mm_struct.arg_end")?,
        mm_exe_file: at("mm_struct.exe_file")?,
        file_dentry: at("file.f_path.dentry")?,
        dentry_name: at("dentry.d_name.name")?,
        file_inode: at("file.f_inode")?,
        inode_ino: at("inode.i_ino")?,
        inode_sb: at("inode.i_sb")?,
        sb_dev: at("super_block.s_dev")?,
        nsproxy_net: at("nsproxy.net_ns")?,
        net_inum: at("net.ns.inum")?,
        skb_sk: at("sk_buff.sk")?,
        sock_owned: at("sock.sk_lock.owned")?,
        task_cgroups: at("task_struct.cgroups")?,
        css_set_dfl_cgrp: at("css_set.dfl_cgrp")?,
        cgroup_kn: at("cgroup.kn")?,
        kernfs_node_id: at("kernfs_node.id")?,
    })
}

/// The structs that are asked for.
const STRUCTS: [&str; 14] = [
    "task_struct",
    "mm_struct",
    "cred",
    "file",
    "dentry",
    "inode",
    "super_block",
    "nsproxy",
    "net",
    "sk_buff",
    "sock",
    "css_set",
    "cgroup",
    "kernfs_node",
];

struct Btf<'a> {
    strings: &'a [u8],
    types: &'a [u8],
    /// Where each type begins in `types`; type ids count from 1.
    starts: Vec<u32>,
    /// Where each of [`STRUCTS`] begins in `types`.
    structs: [Option<usize>; STRUCTS.len()],
}

struct Type {
    name: u32,
    kind: u32,
    members: u32,
    bitfields: bool,
    /// Size of a struct, or the type that a wrapper wraps.
    inner: u32,
    /// Where what follows the fixed part begins.
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
            structs: [None; STRUCTS.len()],
        };
        let mut at = 0;
        while at < btf.types.len() {
            btf.starts.push(u32::try_from(at).ok()?);
            let ty = btf.read(at)?;
            if ty.kind == STRUCT && ty.members > 0 {
                let name = btf.name(ty.name)?;
                if let Some(i) = STRUCTS.iter().position(|s| s.as_bytes() == name) {
                    btf.structs[i].get_or_insert(at);
                }
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
        self.read(*self.starts.get(id.checked_sub(1)? as usize)? as usize)
    }

    fn name(&self, at: u32) -> Option<&'a [u8]> {
        self.strings.get(at as usize..)?.split(|&b| b == 0).next()
    }

    /// The offset in bytes of `struct.member.member...`.
    fn offset(&self, path: &str) -> Option<u32> {
        let mut path = path.split('.');
        let name = path.next()?;
        let wanted = STRUCTS.iter().position(|known| *known == name)?;
        let mut ty = self.read(self.structs[wanted]?)?;
        let mut bits = 0;
        for member in path {
            let (offset, id) = self.member(&ty, member.as_bytes(), DEPTH)?;
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
        for _ in 0..DEPTH {
            if !WRAPPERS.contains(&ty.kind) {
                return Some(ty);
            }
            ty = self.by_id(ty.inner)?;
        }
        None
    }
}

impl Type {
    /// Bytes that follow the fixed part, by kind.
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
    fn the_running_kernel_has_every_member() {
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
    fn anything_else_is_malformed_not_a_panic() {
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
    fn a_missing_file_says_which() {
        let error = from_file(Path::new("/nonexistent"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(VMLINUX), "{error}");
    }
}
