//! The initramfs of a test machine: static programs, and modules that its kernel needs.

use super::cpio::Writer;
use super::kernel::Kernel;
use super::qemu;
use crate::arch::Arch;
use crate::debian::Debian;
use crate::process::{self, BUILD_TIMEOUT};
use crate::progress::{note, step};
use crate::static_build;
use anyhow::{Context as _, Result};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs as process 1.
const INIT: &str = "vm-init";

/// End-to-end tests that need no other program, by file in `tests/tests`. Init runs each.
const TESTS: &[&str] = &["kernel"];

/// Modules that imdsmon or its tests need and that Debian does not build in, in dependency order:
/// to list sockets that were open before the start, and to connect two network namespaces.
const MODULES: &[&str] = &["inet_diag", "tcp_diag", "mptcp_diag", "veth"];

pub struct Program {
    path: PathBuf,
    /// Its path in the initramfs.
    inside: String,
}

/// Builds all programs for `arch` as static binaries.
pub fn build(arch: Arch, root: &Path, debian: &Debian) -> Result<Vec<Program>> {
    let target_dir = build_directory(debian);
    let cargo = |task: &[&str]| -> Result<Command> {
        let mut cargo = static_build::cargo(arch, &[], debian)?;
        cargo
            .current_dir(root)
            .args(task)
            .args(["--release", "--locked", "--target", &arch.rust_target()])
            .arg("--target-dir")
            .arg(&target_dir)
            // The tests check behavior, so minutes of optimization would be wasted.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            // As the tests need it; otherwise every crate would be built twice.
            .env("CARGO_PROFILE_RELEASE_PANIC", "unwind");
        Ok(cargo)
    };
    let mut binaries = cargo(&[
        "build",
        "--package",
        "imdsmon",
        "--package",
        "tests",
        "--bins",
    ])?;
    step(
        &format!("build static programs for {}", arch.name()),
        || process::run(&mut binaries, BUILD_TIMEOUT),
    )?;
    let built = target_dir.join(arch.rust_target()).join("release");
    let mut programs: Vec<_> = names(root)?
        .into_iter()
        .map(|name| Program {
            path: built.join(&name),
            inside: inside(&name),
        })
        .collect();
    for test in TESTS {
        let mut compile = cargo(&["test", "--no-run", "--package", "tests", "--test", test])?;
        compile.arg("--message-format=json");
        let path = step(
            &format!("build the test `{test}` for {}", arch.name()),
            || executable(&process::output(&mut compile, BUILD_TIMEOUT)?, test),
        )?;
        programs.push(Program {
            path,
            inside: format!("tests/{test}"),
        });
    }
    Ok(programs)
}

/// Where programs for test machines are built.
pub fn build_directory(debian: &Debian) -> PathBuf {
    debian.cache.join("build")
}

/// The path in the initramfs of the program `name`.
fn inside(name: &str) -> String {
    if name == INIT {
        "init".to_owned()
    } else {
        name.to_owned()
    }
}

/// The path of the binary of `test` in cargo's JSON messages, one on each line.
fn executable(messages: &str, test: &str) -> Result<PathBuf> {
    const KEY: &str = "\"executable\":\"";
    let name = format!("\"name\":\"{test}\"");
    let path = messages
        .lines()
        .filter(|line| line.contains(&name))
        .find_map(|line| line.split_once(KEY)?.1.split('"').next());
    path.map(PathBuf::from)
        .with_context(|| format!("cargo reports no executable of `{test}`"))
}

/// Writes `programs` and the kernel's modules to the file `initramfs`.
pub fn pack(programs: &[Program], kernel: &Kernel, initramfs: &Path) -> Result<()> {
    let file =
        File::create(initramfs).with_context(|| format!("create {}", initramfs.display()))?;
    let mut archive = Writer::new(BufWriter::new(file));
    for directory in ["dev", "modules", "proc", "run", "sys", "tests", "tmp"] {
        archive.directory(directory)?;
    }
    archive.character_device("dev/console", 5, 1)?;
    for Program { path, inside } in programs {
        let content = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        archive.file(inside, &content)?;
    }
    for (index, module) in MODULES.iter().enumerate() {
        if let Some(content) = kernel.module(module)? {
            archive.file(&format!("modules/{index}-{module}.ko"), &content)?;
        }
    }
    archive.finish()?;
    note(format!("initramfs of {} MiB", qemu::mebibytes(initramfs)?));
    Ok(())
}

/// The names of all binaries of the packages imdsmon and tests.
fn names(root: &Path) -> Result<Vec<String>> {
    let directory = root.join("tests/src/bin");
    let entries =
        fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?;
    let mut names = vec!["imdsmon".to_owned()];
    for entry in entries {
        let path = entry
            .with_context(|| format!("read {}", directory.display()))?
            .path();
        let binary =
            path.extension().is_some_and(|ext| ext == "rs") || path.join("main.rs").exists();
        if let (true, Some(name)) = (binary, path.file_stem()) {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
