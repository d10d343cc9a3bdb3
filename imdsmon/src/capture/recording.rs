//! Recordings: the event stream on disk, for replay without root on any machine.
//!
//! One JSON object per line. The first has the format and its version; the others are [`Event`]s.
//! An `end` event closes a complete recording. Token values are blanked before an event is created.

use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;
use crate::{event::Event, host::RecordedHost};

/// The format version that is written, and the newest that is read.
pub(crate) const VERSION: u32 = 1;
/// Maximum bytes of a line. The largest event, a 4 KiB segment with six JSON characters per byte,
/// is far below it.
const MAX_LINE_BYTES: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(rename = "imdsmon.recording")]
    version: u32,
    #[serde(rename = "imdsmon.version")]
    imdsmon: String,
    started: Timestamp,
    #[serde(flatten)]
    host: RecordedHost,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordingError {
    #[error("read failed")]
    Io(#[from] io::Error),
    #[error(
        "the first line is not the header of a recording; make one with `imdsmon watch --record` \
         (the output of --json is not one)"
    )]
    NotARecording,
    #[error("the file is empty; make a recording with `imdsmon watch --record`")]
    Empty,
    #[error("it has format {0}, and this imdsmon reads up to {VERSION}; use a newer imdsmon")]
    Newer(u32),
    #[error("line {line} is damaged: {why}")]
    Damaged { line: u64, why: String },
}

pub(crate) struct Writer<W: Write> {
    out: W,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(mut out: W, started: Timestamp, host: RecordedHost) -> io::Result<Self> {
        let imdsmon = env!("CARGO_PKG_VERSION").into();
        line(
            &mut out,
            &Header {
                version: VERSION,
                imdsmon,
                started,
                host,
            },
        )?;
        Ok(Self { out })
    }

    pub(crate) fn write(&mut self, event: &Event) -> io::Result<()> {
        line(&mut self.out, event)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

pub(crate) struct RecordingReader<R: BufRead> {
    input: R,
    host: RecordedHost,
    line: u64,
    /// The recording ends within a line, which is not an error.
    truncated: bool,
}

impl<R: BufRead> RecordingReader<R> {
    pub(crate) fn new(input: R) -> Result<Self, RecordingError> {
        let mut reader = Self {
            input,
            host: RecordedHost::default(),
            line: 0,
            truncated: false,
        };
        let header = reader.line()?.ok_or(RecordingError::Empty)?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|_other_file| RecordingError::NotARecording)?;
        if header.version > VERSION {
            return Err(RecordingError::Newer(header.version));
        }
        reader.host = header.host;
        Ok(reader)
    }

    pub(crate) fn host(&self) -> &RecordedHost {
        &self.host
    }

    /// `None` at the end.
    pub(crate) fn read(&mut self) -> Result<Option<Event>, RecordingError> {
        let Some(line) = self.line()? else {
            return Ok(None);
        };
        match serde_json::from_slice(&line) {
            Ok(event) => Ok(Some(event)),
            Err(_) if line.last() != Some(&b'\n') => {
                self.truncated = true;
                Ok(None)
            }
            Err(error) => Err(RecordingError::Damaged {
                line: self.line,
                why: error.to_string(),
            }),
        }
    }

    /// Whether the last line is incomplete, for example after a full disk or a kill.
    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated
    }

    fn line(&mut self) -> Result<Option<Vec<u8>>, RecordingError> {
        let mut line = Vec::new();
        self.line += 1;
        self.input
            .by_ref()
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)?;
        if line.len() as u64 == MAX_LINE_BYTES {
            let why = format!("it is longer than {MAX_LINE_BYTES} bytes");
            return Err(RecordingError::Damaged {
                line: self.line,
                why,
            });
        }
        Ok((!line.is_empty()).then_some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(events: &[Event]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(
            &mut bytes,
            Timestamp::from_nanos(1),
            RecordedHost::default(),
        )
        .unwrap();
        for event in events {
            writer.write(event).unwrap();
        }
        writer.flush().unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(Vec<Event>, bool), RecordingError> {
        let mut reader = RecordingReader::new(bytes)?;
        let mut events = Vec::new();
        while let Some(event) = reader.read()? {
            events.push(event);
        }
        Ok((events, reader.is_truncated()))
    }

    fn events() -> Vec<Event> {
        vec![
            Event::Tick {
                time: Timestamp::from_nanos(5),
            },
            Event::Lost {
                time: Timestamp::from_nanos(6),
                records: 7,
            },
        ]
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(read(&recorded(&events())).unwrap(), (events(), false));
    }

    #[test]
    fn a_last_line_may_be_cut_off_anywhere() {
        let bytes = recorded(&events());
        let last = bytes[..bytes.len() - 1]
            .iter()
            .rposition(|&b| b == b'\n')
            .unwrap()
            + 1;
        for end in last + 1..bytes.len() - 1 {
            assert_eq!(read(&bytes[..end]).unwrap(), (events()[..1].to_vec(), true));
        }
    }

    #[test]
    fn damage_in_the_middle_names_the_line() {
        let mut bytes = recorded(&events());
        let middle = bytes.iter().position(|&b| b == b'\n').unwrap() + 3;
        bytes[middle] = 0xff;
        assert!(matches!(
            read(&bytes),
            Err(RecordingError::Damaged { line: 2, .. })
        ));
    }

    #[test]
    fn other_files_and_newer_formats_are_refused() {
        assert!(matches!(read(b""), Err(RecordingError::Empty)));
        assert!(matches!(
            read(b"\x7fELF\n"),
            Err(RecordingError::NotARecording)
        ));
        let newer = br#"{"imdsmon.recording":2,"imdsmon.version":"9","started":0}"#;
        assert!(matches!(read(newer), Err(RecordingError::Newer(2))));
        let endless = vec![b' '; 2 << 20];
        assert!(matches!(
            read(&endless),
            Err(RecordingError::Damaged { line: 1, .. })
        ));
    }
}
