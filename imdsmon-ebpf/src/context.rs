//! Reads of a program's context.

/// Reads a field of a context, where it is.
///
/// A context is not the struct that its type describes: the verifier rewrites each load to one or
/// more loads of kernel structs, and so accepts only loads of whole fields at their offsets. The
/// read is volatile, so that the compiler neither merges nor splits nor moves it.
macro_rules! field {
    ($context:expr, $($path:tt)+) => {{
        // SAFETY: the kernel passes a valid context to every program; the verifier checks offset
        // and size of the load.
        unsafe { core::ptr::read_volatile(&raw const (*$context).$($path)+) }
    }};
}
pub(crate) use field;
