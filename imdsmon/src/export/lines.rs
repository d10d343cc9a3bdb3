//! Lines in a rotated file that only its owner can read. A full disk affects nothing else.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::export::Destination;

pub(crate) struct Lines {
    target: Target,
}

enum Target {
    Stdout,
    File(Rotated),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// Maximum size in bytes; one longer write stays in one file.
    pub(crate) bytes: u64,
    /// Rotated files to keep; `NAME.1` is the latest.
    pub(crate) keep: u32,
}

struct Rotated {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    /// Bytes of whole lines; `None` if the target is not a regular file.
    bytes: Option<u64>,
}

impl Lines {
    /// Creates the file or appends to it.
    pub(crate) fn open(destination: &Destination, rotation: Rotation) -> io::Result<Self> {
        let target = match destination {
            Destination::Stdout => Target::Stdout,
            Destination::File(path) => Target::File(Rotated::open(path.clone(), rotation)?),
        };
        Ok(Self { target })
    }

    /// Writes all lines or none. Waits for neither the disk nor the reader of a FIFO.
    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match &mut self.target {
            Target::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Target::File(file) => file.write(lines),
        }
    }
}

impl Rotated {
    fn open(path: PathBuf, rotation: Rotation) -> io::Result<Self> {
        let mut file = open(&path)?;
        let metadata = file.metadata()?;
        let mut bytes = None;
        if metadata.is_file() {
            bytes = Some(metadata.len());
            if metadata.len() > 0 && !ends_a_line(&mut file)? {
                // A power failure cut the last line: it must not spoil the next.
                file.write_all(b"\n")?;
                bytes = Some(metadata.len() + 1);
            }
        }
        Ok(Self {
            path,
            rotation,
            file,
            bytes,
        })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let more = lines.len() as u64;
        if self
            .bytes
            .is_some_and(|bytes| bytes > 0 && bytes.saturating_add(more) > self.rotation.bytes)
        {
            self.rotate()?;
        }
        let written = self.file.write_all(lines);
        if let Some(bytes) = &mut self.bytes {
            if written.is_ok() {
                *bytes = bytes.saturating_add(more);
            } else {
                // Remove a partial line.
                self.file.set_len(*bytes)?;
            }
        }
        written
    }

    fn rotate(&mut self) -> io::Result<()> {
        let Self {
            path,
            rotation: Rotation { keep, .. },
            ..
        } = self;
        for number in (1..*keep).rev() {
            ignore_missing(fs::rename(
                numbered(path, number),
                numbered(path, number + 1),
            ))?;
        }
        if *keep > 0 {
            ignore_missing(fs::rename(&path, numbered(path, 1)))?;
        } else {
            ignore_missing(fs::remove_file(&path))?;
        }
        self.file = open(path)?;
        self.bytes = Some(0);
        Ok(())
    }
}

/// Mode 0600; follows no symlink and never blocks.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn lines(path: &Path, bytes: u64, keep: u32) -> Lines {
        let destination = Destination::File(path.to_owned());
        Lines::open(&destination, Rotation { bytes, keep }).unwrap()
    }

    #[test]
    fn a_file_that_is_long_enough_makes_room_for_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("calls");
        let mut out = lines(&path, 20, 2);
        for number in 0..9 {
            out.write(format!("line {number}\n").as_bytes()).unwrap();
        }
        let text = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(text("calls"), "line 8\n");
        assert_eq!(text("calls.1"), "line 6\nline 7\n");
        assert_eq!(text("calls.2"), "line 4\nline 5\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // It goes on where it was, and what is too long for any file gets one of its own.
        drop(out);
        let mut out = lines(&path, 20, 2);
        out.write(b"line 9\n").unwrap();
        out.write(&[b'x'; 100]).unwrap();
        assert_eq!(text("calls.1"), "line 8\nline 9\n");
        assert_eq!(text("calls").len(), 100);
    }

    #[test]
    fn without_files_to_keep_the_only_one_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("calls");
        let mut out = lines(&path, 10, 0);
        for number in 0..5 {
            out.write(format!("line {number}\n").as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "line 4\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_was_moved_is_created_again_when_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("calls");
        let mut out = lines(&path, 1000, 1);
        out.write(b"one\n").unwrap();
        let moved = directory.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        out.write(b"two\n").unwrap();
        let mut out = lines(&path, 1000, 1);
        out.write(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(moved).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(path).unwrap(), "three\n");
    }

    #[test]
    fn half_a_line_of_a_power_cut_does_not_spoil_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("calls");
        fs::write(&path, "whole\nhal").unwrap();
        lines(&path, 1000, 1).write(b"next\n").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "whole\nhal\nnext\n");
    }

    #[test]
    fn a_link_is_rejected_and_a_full_pipe_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        fs::write(&target, "precious").unwrap();
        let link = directory.path().join("link");
        symlink(&target, &link).unwrap();
        let rotation = Rotation { bytes: 1, keep: 1 };
        assert!(Lines::open(&Destination::File(link), rotation).is_err());
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from(0o600),
            0,
        )
        .unwrap();
        // Opened for reading, too, it has a reader, itself; a full one is an error, not a wait.
        let mut out = Lines::open(&Destination::File(pipe), rotation).unwrap();
        let full = (0..100).find_map(|_| out.write(&[b'x'; 4096]).err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn full_disk_is_reported() {
        let full = Destination::File("/dev/full".into());
        let mut out = Lines::open(&full, Rotation { bytes: 1, keep: 1 }).unwrap();
        let error = out.write(b"line\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn what_does_not_fit_leaves_no_part_of_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("calls");
        let mut out = lines(&path, 1 << 30, 1);
        out.write(b"whole\n").unwrap();
        // A reader's file stands for the disk: nothing can be written to it.
        let Target::File(rotated) = &mut out.target else {
            panic!("a file");
        };
        let writable = std::mem::replace(&mut rotated.file, File::open(&path).unwrap());
        assert!(out.write(b"lost\n").is_err());
        let Target::File(rotated) = &mut out.target else {
            panic!("a file");
        };
        rotated.file = writable;
        out.write(b"next\n").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "whole\nnext\n");
    }
}
