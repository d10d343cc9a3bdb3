//! The one table of the kernel struct members that the programs read.

/// Makes [`Offsets`] from lines of `name = "struct.member.member"`.
macro_rules! offsets {
    ($($member:ident = $path:literal,)+) => {
        /// Offsets in bytes of the kernel struct members that the programs read.
        ///
        /// No offset is compiled in: user space takes all of them from the BTF of the running
        /// kernel and sets them before it loads the programs. While `valid` is 0, the verifier
        /// removes the code that reads kernel structs.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets {
            /// 1 if the members below are set, else 0.
            pub valid: u32,
            $(
                #[doc = concat!("Offset of `", $path, "`.")]
                pub $member: u32,
            )+
        }

        impl Offsets {
            /// Nothing is known of the kernel's structs.
            pub const ZERO: Self = Self { valid: 0, $($member: 0,)+ };

            /// Looks every member up. `offset` gets `struct.member.member`.
            pub fn look_up<E>(
                mut offset: impl FnMut(&'static str) -> Result<u32, E>,
            ) -> Result<Self, E> {
                Ok(Self { valid: 1, $($member: offset($path)?,)+ })
            }
        }
    };
}

offsets! {
    task_tgid = "task_struct.tgid",
    task_pid = "task_struct.pid",
    task_comm = "task_struct.comm",
    task_mm = "task_struct.mm",
    task_flags = "task_struct.flags",
    task_self_exec_id = "task_struct.self_exec_id",
    task_real_parent = "task_struct.real_parent",
    task_group_leader = "task_struct.group_leader",
    task_start_boottime = "task_struct.start_boottime",
    task_nsproxy = "task_struct.nsproxy",
    task_cred = "task_struct.cred",
    task_cgroups = "task_struct.cgroups",
    cred_uid = "cred.uid",
    cred_gid = "cred.gid",
    mm_arg_start = "mm_struct.arg_start",
    mm_arg_end = "mm_struct.arg_end",
    mm_exe_file = "mm_struct.exe_file",
    file_dentry = "file.f_path.dentry",
    file_inode = "file.f_inode",
    dentry_name = "dentry.d_name.name",
    inode_ino = "inode.i_ino",
    inode_sb = "inode.i_sb",
    super_block_dev = "super_block.s_dev",
    nsproxy_net = "nsproxy.net_ns",
    net_inum = "net.ns.inum",
    css_set_dfl_cgrp = "css_set.dfl_cgrp",
    cgroup_kn = "cgroup.kn",
    kernfs_node_id = "kernfs_node.id",
    skb_sk = "sk_buff.sk",
    sock_owned = "sock.sk_lock.owned",
}
