//! Strips the linked object and checks that it contains no path of this machine.

use anyhow::{Context as _, Result, bail};
use object::build::elf::{Builder, SectionData};
use object::elf;

/// Removes DWARF and file names. BTF stays: the kernel needs its types for maps, and its lines for
/// the verifier log.
pub fn strip(linked: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(linked).context("read the linked object")?;
    let mut debug = Vec::new();
    for section in &mut builder.sections {
        if section.name.starts_with(b".debug_") {
            section.delete = true;
            debug.push(section.id());
        }
    }
    // Relocations of removed sections.
    for section in &mut builder.sections {
        let relocations = matches!(section.data, SectionData::Relocation(_));
        if relocations
            && section
                .sh_info_section
                .is_some_and(|of| debug.contains(&of))
        {
            section.delete = true;
        }
    }
    for symbol in &mut builder.symbols {
        let of_debug = symbol
            .section
            .is_some_and(|section| debug.contains(&section));
        symbol.delete |= of_debug || symbol.st_type() == elf::STT_FILE;
    }
    // LLVM writes symbol and section names to one table; `Builder` needs two.
    if !builder
        .sections
        .iter()
        .any(|section| matches!(section.data, SectionData::SectionString))
    {
        let names = builder.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = elf::SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    builder
        .write(&mut stripped)
        .context("write the stripped object")?;
    Ok(stripped)
}

/// Fails if the object contains one of `paths`.
pub fn reject_paths(object: &[u8], paths: &[String]) -> Result<()> {
    for path in paths {
        let path = path.as_bytes();
        if object.windows(path.len()).any(|bytes| bytes == path) {
            bail!(
                "the object contains {}; a directory of this machine has no remapped name",
                String::from_utf8_lossy(path)
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_this_machine_is_rejected() {
        let paths = ["/home/ann".to_owned()];
        assert!(reject_paths(b"crates/aya-ebpf/src/lib.rs", &paths).is_ok());
        let error = reject_paths(b"\0/home/ann/.cargo\0", &paths).unwrap_err();
        assert!(error.to_string().contains("/home/ann"), "{error}");
    }
}
