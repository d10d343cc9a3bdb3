//! From the bytes of a ring-buffer record to the kernel's structs.

use imdsmon_common::{Header, Segment, Task, kind};

/// A record as the kernel wrote it.
pub enum Record<'a> {
    /// A task connects, or is new on a connection.
    Task(Box<Task>),
    /// A segment to IMDS, with its captured bytes.
    Sent(Segment, &'a [u8]),
    /// A segment from IMDS, with the head of a response if one begins.
    Received(Segment, &'a [u8]),
    /// A socket is released.
    Release(Header),
}

/// A struct that the kernel programs write: `repr(C)`, integers only, no padding.
///
/// # Safety
///
/// Every bit pattern must be a valid value of the type.
unsafe trait Wire: Copy {}
// SAFETY: made of integers and arrays of them only.
unsafe impl Wire for Header {}
// SAFETY: made of integers and arrays of them only.
unsafe impl Wire for Segment {}
// SAFETY: made of integers and arrays of them only.
unsafe impl Wire for Task {}

impl<'a> Record<'a> {
    /// Reads a record; `None` if it is not one of ours, which only another version's object
    /// could cause.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header: Header = read(bytes)?;
        Some(match header.kind {
            kind::CONNECT | kind::SENDER => Self::Task(Box::new(read(bytes)?)),
            kind::SENT | kind::RECEIVED => {
                let segment: Segment = read(bytes)?;
                let payload = bytes.get(size_of::<Segment>()..)?;
                let payload = payload.get(..segment.captured as usize)?;
                if header.kind == kind::SENT {
                    Self::Sent(segment, payload)
                } else {
                    Self::Received(segment, payload)
                }
            }
            kind::RELEASE => Self::Release(header),
            _ => return None,
        })
    }
}

fn read<T: Wire>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: `bytes` is as long as `T`, any bytes are a valid `T` (it is `Wire`), and the read
    // does not ask for alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_cut_short_or_unknown_is_none() {
        for len in 0..size_of::<Segment>() {
            let mut bytes = vec![0; len];
            if let Some(first) = bytes.first_mut() {
                *first = u8::try_from(kind::SENT).unwrap();
            }
            assert!(Record::parse(&bytes).is_none(), "{len} bytes");
        }
        assert!(Record::parse(&[0xff; 64]).is_none());
    }

    #[test]
    fn captured_bytes_beyond_the_record_are_none() {
        let mut bytes = vec![0; size_of::<Segment>() + 4];
        bytes[0] = u8::try_from(kind::SENT).unwrap();
        let captured = std::mem::offset_of!(Segment, captured);
        bytes[captured] = 4;
        assert!(matches!(
            Record::parse(&bytes),
            Some(Record::Sent(_, [0, 0, 0, 0]))
        ));
        bytes[captured] = 5;
        assert!(Record::parse(&bytes).is_none());
    }
}
