//! Arithmetic in the form that the verifier understands.

/// The smaller of `len` and `N`. `len` must not be 0, and `N` is a power of two.
///
/// A helper that copies takes only a size of which the verifier knows that it is at least 1 and at
/// most the size of the buffer. Before Linux 6.8 the verifier does not learn from `len != 0` that
/// `len` is at least 1, so a mask says it:
/// <https://github.com/torvalds/linux/commit/d028f87517d6775dccff4ddbca2740826f9e53f1>
#[inline(always)]
pub fn at_most<const N: usize>(len: u32) -> u32 {
    const { assert!(N.is_power_of_two()) };
    let max = N as u32;
    let smaller = if len < max { len } else { max };
    (smaller.wrapping_sub(1) & (max - 1)) + 1
}

/// All bits set if `number` is not 0, else none.
///
/// The verifier follows both ways of a branch whose condition it does not know, and a branch in
/// each round of a loop multiplies the paths. This is arithmetic on one register: one path.
#[inline(always)]
pub fn mask_if_not_zero(number: u32) -> u32 {
    let mut number = u64::from(number);
    // In assembly, because the compiler would make it a branch.
    #[cfg(target_arch = "bpf")]
    // SAFETY: changes only this register. 0 - 1 sets the top bit, any other 32-bit number does not;
    // the shift moves the top bit to the lowest.
    unsafe {
        core::arch::asm!(
            "{n} += -1",
            "{n} >>= 63",
            n = inout(reg) number,
            options(pure, nomem, nostack)
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        number = number.wrapping_sub(1) >> 63;
    }
    (number as u32).wrapping_sub(1)
}
