//! The way to user space: one ring buffer, and counters for what it could not take.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::bpf_ktime_get_boot_ns,
    macros::map,
    maps::{PerCpuArray, RingBuf, ring_buf::RingBufEntry},
};
use aya_log_ebpf::warn;
use imdsmon_common::{Header, counter};

/// User space sets the real size at load.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 21, 0);

#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(counter::COUNT, 0);

/// Adds to a counter. Atomic, because egress in process context can be interrupted by the same
/// program in softirq.
#[inline(always)]
pub fn count(index: u32, by: u64) {
    if let Some(counter) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: `counter` is a map value that the null check above made valid.
        unsafe { add(counter, by) };
    }
}

/// `BPF_XADD`, which core has no function for on this target.
///
/// # Safety
///
/// `to` must be a valid map value.
#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn add(to: *mut u64, by: u64) {
    // SAFETY: the caller vouches for `to`; the instruction touches nothing else.
    unsafe { core::arch::asm!("lock *(u64 *)({to} + 0) += {by}", to = in(reg) to, by = in(reg) by) }
}

#[cfg(not(target_arch = "bpf"))]
unsafe fn add(_to: *mut u64, _by: u64) {}

/// Room for a `T`. A full ring is counted: nothing is lost silently.
#[inline(always)]
pub fn reserve<T: 'static>(ctx: &impl EbpfContext) -> Option<RingBufEntry<T>> {
    let entry = EVENTS.reserve::<T>(0);
    if entry.is_none() {
        count(counter::LOST, 1);
        warn!(
            ctx,
            "the ring buffer is full: {} bytes lost",
            size_of::<T>()
        );
    }
    entry
}

/// Hands a record over.
#[inline(always)]
pub fn submit<T>(entry: RingBufEntry<T>) {
    count(counter::CAPTURED, 1);
    entry.submit(0);
}

/// The beginning of a record that is made now.
#[inline(always)]
pub fn header(kind: u32, ip: u32, cookie: u64) -> Header {
    Header {
        kind,
        ip,
        // SAFETY: the helper takes nothing and gives a number.
        time: unsafe { bpf_ktime_get_boot_ns() },
        cookie,
    }
}
