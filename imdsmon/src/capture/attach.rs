//! Loads the kernel programs and attaches them at the cgroup v2 root.
//!
//! BPF links attach them. A link detaches its program when its last descriptor is closed, even if
//! the process is killed:
//! <https://elixir.bootlin.com/linux/v6.12.43/source/kernel/bpf/syscall.c#L3061>

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{HashMap, MapData, MapError, PerCpuArray, RingBuf},
    programs::{
        CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, ProgramError,
    },
};
use aya_log::EbpfLogger;
use imdsmon_common::{Counter, Offsets};
use log::Log;

use super::{
    btf,
    cgroup::Root,
    error::{self, AttachError, check_capabilities},
};

/// Built by `cargo xtask ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/imdsmon.bpf.o");

#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Size of the ring buffer in bytes: a power of two from [`MIN_RING_BYTES`] to
    /// [`MAX_RING_BYTES`]. It is mapped twice, so it counts twice toward RSS. The default, 2 MiB,
    /// holds about 3,000 requests.
    pub(crate) ring_bytes: u32,
    /// Read a snapshot of each task from kernel structs, if the kernel allows it.
    pub(crate) snapshot: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ring_bytes: 1 << 21,
            snapshot: true,
        }
    }
}

/// One page, at most 64 KiB on any architecture.
pub(crate) const MIN_RING_BYTES: u32 = 1 << 16;
/// 256 MiB.
pub(crate) const MAX_RING_BYTES: u32 = 1 << 28;
/// For the log records of the programs, if their log is enabled.
const LOG_RING_BYTES: u32 = 1 << 17;

/// Whether the programs read a snapshot of each task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Snapshot {
    /// Arguments, ancestors, start time and sender are known even if the process has ended.
    On,
    /// Only `/proc` identifies processes, for this reason.
    Off(String),
}

/// Dropping it detaches the programs.
pub(crate) struct Attached {
    /// `None` once detached.
    ebpf: Option<Ebpf>,
    /// The last known owner of a connection, by socket cookie.
    owners: HashMap<MapData, u64, [u8; 16]>,
    logger: Option<EbpfLogger<&'static dyn Log>>,
    counters: PerCpuArray<MapData, u64>,
    pub(crate) snapshot: Snapshot,
    pub(crate) hooks: Vec<&'static str>,
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct PodOffsets(Offsets);

// SAFETY: `Offsets` is `repr(C)` and made of `u32` only: no padding, every bit pattern valid.
unsafe impl Pod for PodOffsets {}

/// Loads and attaches the programs; returns the ring buffer to which they write.
///
/// If the kernel rejects reading its structs (lockdown), the programs are loaded without.
pub(crate) fn attach(
    root: &Root,
    options: Options,
) -> Result<(Attached, RingBuf<MapData>), AttachError> {
    check_kernel()?;
    check_capabilities()?;
    let (offsets, mut snapshot) = match options.snapshot.then(btf::offsets) {
        Some(Ok(offsets)) => (offsets, Snapshot::On),
        Some(Err(error)) => (Offsets::ZERO, Snapshot::Off(error.to_string())),
        None => (Offsets::ZERO, Snapshot::Off("disabled by option".into())),
    };
    let mut loaded = load(offsets, options.ring_bytes);
    if let (Err(AttachError::Program(..)), Snapshot::On) = (&loaded, &snapshot) {
        snapshot = Snapshot::Off("the kernel rejects reads of kernel structs (lockdown)".into());
        loaded = load(Offsets::ZERO, options.ring_bytes);
    }
    let (mut ebpf, has_release) = loaded?;
    let hooks = attach_all(&mut ebpf, root, has_release)?;
    let ring = take_map(&mut ebpf, "EVENTS")?;
    let counters = take_map(&mut ebpf, "COUNTERS")?;
    let owners = take_map(&mut ebpf, "OWNERS")?;
    let logger = if log_enabled() {
        EbpfLogger::init(&mut ebpf).ok()
    } else {
        None
    };
    trim_heap();
    Ok((
        Attached {
            ebpf: Some(ebpf),
            owners,
            logger,
            counters,
            snapshot,
            hooks,
        },
        ring,
    ))
}

impl Attached {
    /// Sum over all CPUs.
    pub(crate) fn counter(&self, counter: Counter) -> u64 {
        self.counters
            .get(&(counter as u32), 0)
            .map_or(0, |values| values.iter().sum())
    }

    /// Makes the next send on a connection report its sender.
    pub(crate) fn forget_owner(&mut self, cookie: u64) {
        // The kernel may have evicted the entry.
        let _ = self.owners.remove(&cookie);
    }

    /// The maps stay readable.
    pub(crate) fn detach(&mut self) {
        self.ebpf = None;
    }

    /// Passes log records of the programs to `log`, if their log is enabled.
    pub(crate) fn flush_logs(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}

/// Returns freed memory to the system: `EbpfLoader::new` parses the BTF of the whole kernel, and 12
/// MiB of heap would stay resident.
fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number; the allocator is thread-safe.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Fails if the kernel is older than 5.10.
pub(crate) fn check_kernel() -> Result<(), AttachError> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (5, 10) => {
            Err(AttachError::Kernel(release))
        }
        _ => Ok(()),
    }
}

/// Whether the log filter enables the log of the programs (`IMDSMON_LOG=imdsmon_ebpf=warn`).
/// Otherwise the verifier removes the code that writes it.
fn log_enabled() -> bool {
    tracing::enabled!(target: "imdsmon_ebpf", tracing::Level::WARN)
}

fn load(offsets: Offsets, ring_bytes: u32) -> Result<(Ebpf, bool), AttachError> {
    let log_level = if log_enabled() {
        aya_log::Level::Trace as u8
    } else {
        0
    };
    let offsets = PodOffsets(offsets);
    let mut ebpf = EbpfLoader::new()
        // No relocation needs the kernel's types.
        .btf(None)
        .override_global("OFFSETS", &offsets, true)
        .override_global("AYA_LOG_LEVEL", &log_level, true)
        .map_max_entries("EVENTS", ring_bytes)
        .map_max_entries(
            "AYA_LOGS",
            if log_level == 0 {
                MIN_RING_BYTES
            } else {
                LOG_RING_BYTES
            },
        )
        .load(OBJECT)
        .map_err(|cause| error::object(&cause))?;
    program::<CgroupSockAddr>(&mut ebpf, "connect4")?
        .load()
        .map_err(rejected("connect4"))?;
    program::<CgroupSockAddr>(&mut ebpf, "connect6")?
        .load()
        .map_err(rejected("connect6"))?;
    program::<CgroupSkb>(&mut ebpf, "egress")?
        .load()
        .map_err(rejected("egress"))?;
    program::<CgroupSkb>(&mut ebpf, "ingress")?
        .load()
        .map_err(rejected("ingress"))?;
    // Optional: the hook exists since Linux 5.9, and a vendor's kernel may lack it. Without it, a
    // client that closes the connection before the response is not recorded.
    let release = program::<CgroupSock>(&mut ebpf, "release")?.load();
    if let Err(error) = &release {
        tracing::debug!(%error, "the kernel rejected the BPF program `release`");
    }
    Ok((ebpf, release.is_ok()))
}

fn attach_all(
    ebpf: &mut Ebpf,
    root: &Root,
    has_release: bool,
) -> Result<Vec<&'static str>, AttachError> {
    // A link in any mode allows other programs: the kernel sets BPF_F_ALLOW_MULTI itself and
    // rejects a link that requests it.
    // https://elixir.bootlin.com/linux/v6.12.43/source/kernel/bpf/cgroup.c#L1315
    // https://elixir.bootlin.com/linux/v6.12.43/source/kernel/bpf/cgroup.c#L1339
    let mode = CgroupAttachMode::Single;
    for name in ["connect4", "connect6"] {
        let program = program::<CgroupSockAddr>(ebpf, name)?;
        program.attach(root, mode).map_err(rejected(name))?;
    }
    for (name, direction) in [
        ("egress", CgroupSkbAttachType::Egress),
        ("ingress", CgroupSkbAttachType::Ingress),
    ] {
        let program = program::<CgroupSkb>(ebpf, name)?;
        program
            .attach(root, direction, mode)
            .map_err(rejected(name))?;
    }
    let mut hooks = vec!["connect4", "connect6", "egress", "ingress"];
    if has_release {
        let program = program::<CgroupSock>(ebpf, "release")?;
        program.attach(root, mode).map_err(rejected("release"))?;
        hooks.push("release");
    }
    Ok(hooks)
}

fn program<'e, P>(ebpf: &'e mut Ebpf, name: &'static str) -> Result<&'e mut P, AttachError>
where
    &'e mut P: TryFrom<&'e mut aya::programs::Program>,
{
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| AttachError::Object(format!("no program `{name}`")))
}

fn take_map<M: TryFrom<aya::maps::Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &str,
) -> Result<M, AttachError> {
    ebpf.take_map(name)
        .ok_or_else(|| AttachError::Object(format!("no map `{name}`")))
        .and_then(|map| M::try_from(map).map_err(|e| AttachError::Object(e.to_string())))
}

fn rejected(name: &'static str) -> impl FnOnce(ProgramError) -> AttachError {
    move |cause| error::program(name, &cause)
}
