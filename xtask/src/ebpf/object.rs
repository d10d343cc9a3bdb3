//! From what the linker wrote to what is committed: smaller, and free of this machine's paths.

use anyhow::{Context as _, Result, bail};
use object::build::elf::{Builder, SectionData};
use object::elf;

/// Removes DWARF and file names. BTF stays: maps need its types, the verifier's log its lines.
pub fn strip(linked: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(linked).context("read the linked object")?;
    let mut debug = Vec::new();
    for section in &mut builder.sections {
        if section.name.starts_with(b".debug_") {
            section.delete = true;
            debug.push(section.id());
        }
    }
    // Relocations go with what they relocate.
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
    // LLVM keeps the names of symbols and sections in one table; the writer wants two.
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

/// Fails if one of `paths` stands in the object.
pub fn refuse_paths(object: &[u8], paths: &[String]) -> Result<()> {
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
    fn a_path_of_this_machine_is_refused() {
        let paths = ["/home/ann".to_owned()];
        assert!(refuse_paths(b"crates/aya-ebpf/src/lib.rs", &paths).is_ok());
        let error = refuse_paths(b"\0/home/ann/.cargo\0", &paths).unwrap_err();
        assert!(error.to_string().contains("/home/ann"), "{error}");
    }
}
