//! The ring buffer to user space, and counters of what went into it and what did not.

use core::ops::{Deref, DerefMut};

use aya_ebpf::{
    EbpfContext,
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::map,
    maps::{PerCpuArray, RingBuf, ring_buf::RingBufEntry},
};
use aya_log_ebpf::warn;
use imdsmon_common::{Counter, Family, Header, Pod, RecordType};

/// User space sets the size before it loads the programs.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 21, 0);

#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);

/// Adds to a counter. Atomic, because a softirq that runs the same program can interrupt `egress`
/// in process context on the same CPU.
#[inline(always)]
pub fn count(counter: Counter, by: u64) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the lookup gave a valid map value.
        unsafe { atomic_add(value, by) };
    }
}

/// The instruction `BPF_ATOMIC | BPF_ADD`; `core` has no function for it on this target.
///
/// # Safety
///
/// `to` must point to a map value.
#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn atomic_add(to: *mut u64, by: u64) {
    // SAFETY: the caller vouches for `to`; the instruction touches nothing else.
    unsafe { core::arch::asm!("lock *(u64 *)({to} + 0) += {by}", to = in(reg) to, by = in(reg) by) }
}

#[cfg(not(target_arch = "bpf"))]
unsafe fn atomic_add(_to: *mut u64, _by: u64) {}

/// Memory in the ring buffer for one record, which the program fills in place: a record may be
/// larger than the 512 bytes of a BPF stack. The verifier rejects a program that does not
/// [`submit`](Self::submit) it.
///
/// Bytes that the program does not write are those of older records, or 0: the kernel allocates the
/// ring buffer with `__GFP_ZERO`.
/// <https://elixir.bootlin.com/linux/v6.12.43/source/kernel/bpf/ringbuf.c#L91>
#[must_use = "the verifier rejects a program that does not submit its reservation"]
pub struct Reservation<T: Pod>(RingBufEntry<T>);

/// Reserves memory for a record. If the ring buffer is full, the record is counted as dropped.
#[inline(always)]
pub fn reserve<T: Pod>(ctx: &impl EbpfContext) -> Option<Reservation<T>> {
    let entry = EVENTS.reserve::<T>(0);
    if entry.is_none() {
        count(Counter::Dropped, 1);
        warn!(ctx, "ring buffer full: {} bytes dropped", size_of::<T>());
    }
    entry.map(Reservation)
}

impl<T: Pod> Reservation<T> {
    /// Hands the record over to user space.
    #[inline(always)]
    pub fn submit(self) {
        count(Counter::Captured, 1);
        self.0.submit(0);
    }
}

impl<T: Pod> Deref for Reservation<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: all bytes of the ring buffer have a value, and any are a valid `Pod`.
        unsafe { self.0.assume_init_ref() }
    }
}

impl<T: Pod> DerefMut for Reservation<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; the reservation is exclusive until it is submitted.
        unsafe { self.0.assume_init_mut() }
    }
}

/// The header of a record of what happens now.
#[inline(always)]
pub fn header(record_type: RecordType, family: Family, cookie: u64) -> Header {
    Header {
        record_type: record_type as u32,
        family: family as u16,
        reserved: 0,
        // SAFETY: the helper takes no argument.
        time: unsafe { bpf_ktime_get_boot_ns() },
        cookie,
    }
}
