//! Ring-buffer records as an enum.

use imdsmon_common::{Header, Pod as _, RecordType, Segment, TaskRecord};

pub(crate) enum Record<'a> {
    /// A task connects a socket.
    Connect(Box<TaskRecord>),
    /// A task that is new on a connection sends.
    Sender(Box<TaskRecord>),
    /// A segment to IMDS, with its captured bytes.
    Sent(Segment, &'a [u8]),
    /// A segment from IMDS, with the response head if one begins.
    Received(Segment, &'a [u8]),
    /// The last descriptor of a socket is closed.
    Release(Header),
}

impl<'a> Record<'a> {
    /// `None` if the type or the length is unknown, which only a BPF object of another version
    /// causes.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = Header::read_from(bytes)?;
        let record_type = RecordType::try_from(header.record_type).ok()?;
        Some(match record_type {
            RecordType::Connect => Self::Connect(Box::new(TaskRecord::read_from(bytes)?)),
            RecordType::Sender => Self::Sender(Box::new(TaskRecord::read_from(bytes)?)),
            RecordType::Sent => {
                let (segment, payload) = segment(bytes)?;
                Self::Sent(segment, payload)
            }
            RecordType::Received => {
                let (segment, payload) = segment(bytes)?;
                Self::Received(segment, payload)
            }
            RecordType::Release => Self::Release(header),
        })
    }
}

fn segment(bytes: &[u8]) -> Option<(Segment, &[u8])> {
    let segment = Segment::read_from(bytes)?;
    let payload = bytes.get(size_of::<Segment>()..)?;
    Some((segment, payload.get(..segment.captured as usize)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_cut_short_or_unknown_is_none() {
        for len in 0..size_of::<Segment>() {
            let mut bytes = vec![0; len];
            if let Some(first) = bytes.first_mut() {
                *first = RecordType::Sent as u8;
            }
            assert!(Record::parse(&bytes).is_none(), "{len} bytes");
        }
        assert!(Record::parse(&[0xff; 64]).is_none());
    }

    #[test]
    fn captured_bytes_beyond_the_record_are_none() {
        let mut bytes = vec![0; size_of::<Segment>() + 4];
        bytes[0] = RecordType::Sent as u8;
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
