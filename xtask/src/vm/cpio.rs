//! The initramfs format: cpio, "newc" variant
//! (`Documentation/driver-api/early-userspace/buffer-format.rst` in Linux).
//!
//! Own code: the crates for this format are larger than it and not maintained.

use anyhow::{Context as _, Result};
use std::fmt::Write as _;
use std::io::Write;

pub struct Writer<W: Write> {
    to: W,
    inode: u32,
    /// Bytes written; entries start at multiples of four.
    written: usize,
}

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

impl<W: Write> Writer<W> {
    pub fn new(to: W) -> Self {
        Self {
            to,
            inode: 0,
            written: 0,
        }
    }

    /// Adds a directory; its parent must have been added before.
    pub fn directory(&mut self, name: &str) -> Result<()> {
        self.entry(name, DIRECTORY, (0, 0), &[])
    }

    /// Adds an executable file; most files in the archive are programs.
    pub fn file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.entry(name, FILE, (0, 0), content)
    }

    pub fn character_device(&mut self, name: &str, major: u32, minor: u32) -> Result<()> {
        self.entry(name, CHARACTER_DEVICE, (major, minor), &[])
    }

    pub fn finish(mut self) -> Result<()> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.to.flush().context("write the archive")
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len()).with_context(|| format!("{name} is too large"))?;
        let name_size = u32::try_from(name.len() + 1).context("a name is too long")?;
        self.inode += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        // Inode, mode, uid, gid, links, time, size, device, device of a node, name size, check.
        // Time and owner are zero: the same files give the same archive.
        let fields = [
            self.inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        let mut header = String::from("070701");
        for field in fields {
            // Writing to a string cannot fail.
            let _ = write!(header, "{field:08X}");
        }
        self.put(header.as_bytes())?;
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad()?;
        self.put(content)?;
        self.pad()
    }

    fn pad(&mut self) -> Result<()> {
        let missing = self.written.next_multiple_of(4) - self.written;
        self.put(&[0; 4][..missing])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes).context("write the archive")?;
        self.written += bytes.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_has_the_kernel_format() {
        let mut bytes = Vec::new();
        let mut archive = Writer::new(&mut bytes);
        archive.directory("dev").unwrap();
        archive.character_device("dev/console", 5, 1).unwrap();
        archive.file("init", b"hello").unwrap();
        archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        let entries: Vec<&str> = text.split("070701").collect();
        assert_eq!(entries.len(), 5);
        assert!(entries[1].starts_with("00000001000041ED"), "{}", entries[1]);
        assert!(entries[1].ends_with("dev\0\0\0"), "{:?}", entries[1]);
        assert!(
            entries[2].contains("00000005000000010000000C"),
            "{}",
            entries[2]
        );
        // 6 + 13 * 8 = 110 bytes of header and "init\0" leave one byte to the next word.
        assert!(
            entries[3].ends_with("init\0\0hello\0\0\0"),
            "{:?}",
            entries[3]
        );
        assert!(entries[4].contains("TRAILER!!!\0"));
    }
}
