//! Reads of kernel structs.
//!
//! Their layout differs between kernels, so no offset is compiled in. User space puts the offsets
//! of the running kernel into [`OFFSETS`] before it loads the programs. The verifier sees a frozen,
//! read-only map and treats each load from it as the constant that is there; what follows a test of
//! [`is_known`] on a kernel of unknown layout is dead code, which it removes:
//! <https://elixir.bootlin.com/linux/v5.10.251/source/kernel/bpf/verifier.c#L4026>

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel};
use imdsmon_common::{Offsets, Pod};

/// Set by user space before it loads the programs.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Offsets = Offsets::ZERO;

/// The offset of a kernel struct's member, one of the fields of [`Offsets`].
macro_rules! offset {
    ($member:ident) => {
        $crate::kernel::constant(&raw const $crate::kernel::OFFSETS.$member)
    };
}
pub(crate) use offset;

/// Reads a member of [`OFFSETS`]; only for [`offset!`].
#[inline(always)]
pub(crate) fn constant(member: *const u32) -> u64 {
    // SAFETY: `member` points into a static. Volatile, because the value is set after compilation.
    u64::from(unsafe { member.read_volatile() })
}

/// Whether the layout of kernel structs is known.
#[inline(always)]
pub(crate) fn is_known() -> bool {
    offset!(valid) != 0
}

/// The address of a kernel struct. It is only a number: `bpf_probe_read_kernel` checks every
/// address, and a read of a bad one gives zeros.
#[derive(Clone, Copy)]
pub(crate) struct KernelPtr(pub(crate) u64);

impl KernelPtr {
    /// The task that runs on this CPU.
    #[inline(always)]
    pub(crate) fn current_task() -> Self {
        // SAFETY: the helper takes no argument.
        Self(unsafe { bpf_get_current_task() })
    }

    /// Reads a member; zeros if the read faults.
    #[inline(always)]
    pub(crate) fn read<T: Pod + Default>(self, offset: u64) -> T {
        let mut value = T::default();
        self.read_to(offset, &mut value);
        value
    }

    /// Reads a member to `to`; zeros if the read faults.
    ///
    /// No program branches on the result of the helper, which writes zeros if it fails. The
    /// verifier of 5.10 follows both ways of each branch, and a snapshot has about 40 reads.
    /// <https://elixir.bootlin.com/linux/v5.10.251/source/kernel/trace/bpf_trace.c#L218>
    #[inline(always)]
    pub(crate) fn read_to<T: Pod>(self, offset: u64, to: &mut T) {
        // SAFETY: the helper checks the address and writes the size of `to`; any bytes are valid.
        unsafe {
            bpf_probe_read_kernel(
                (&raw mut *to).cast(),
                size_of::<T>() as u32,
                self.0.wrapping_add(offset) as *const _,
            )
        };
    }

    /// Reads a member that is a pointer.
    #[inline(always)]
    pub(crate) fn follow(self, offset: u64) -> Self {
        Self(self.read(offset))
    }
}
