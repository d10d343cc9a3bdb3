//! Loads the kernel programs and attaches them at the cgroup v2 root.
//!
//! They are attached through links, which the kernel removes when the process ends, however it
//! ends.

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{HashMap, MapData, MapError, PerCpuArray, RingBuf},
    programs::{
        CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, ProgramError,
    },
};
use aya_log::EbpfLogger;
use imdsmon_common::{Offsets, counter};
use log::Log;

use super::{
    btf,
    cgroup::Root,
    error::{self, AttachError, check_capabilities},
};

/// The object that `cargo xtask ebpf` built.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/imdsmon.bpf.o");

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of the ring buffer in bytes: a power of two from [`MIN_RING_BYTES`] to
    /// [`MAX_RING_BYTES`]. It is mapped twice, so it counts twice in the resident memory; the
    /// default, 2 MiB, holds about 3,000 requests that user space has not come to yet.
    pub ring_bytes: u32,
    /// Let the programs read who calls from kernel structs, where the kernel allows it.
    pub snapshot: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ring_bytes: 1 << 21,
            snapshot: true,
        }
    }
}

/// The smallest ring buffer that every architecture's page size allows.
pub const MIN_RING_BYTES: u32 = 1 << 16;
/// The largest that is sensible: 256 MiB.
pub const MAX_RING_BYTES: u32 = 1 << 28;
/// Ring buffer of the programs' diagnostics, if they are wanted.
const LOG_BYTES: u32 = 1 << 17;

/// Whether the kernel hands over a snapshot of each task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// argv, ancestors, start time and the sender are known even if the process is gone.
    On,
    /// `/proc` alone attributes, for this reason.
    Off(String),
}

/// The attached programs. Dropping it detaches them.
pub struct Attached {
    /// Holds programs and links, until they are detached.
    ebpf: Option<Ebpf>,
    /// Who was last seen to use a connection, by socket cookie.
    owners: HashMap<MapData, u64, [u8; 16]>,
    logger: Option<EbpfLogger<&'static dyn Log>>,
    counters: PerCpuArray<MapData, u64>,
    /// Whether tasks come with a snapshot.
    pub snapshot: Snapshot,
    /// The hooks that are attached, by name.
    pub hooks: Vec<&'static str>,
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct PodOffsets(Offsets);

// SAFETY: `Offsets` is `repr(C)` and made of `u32` only: no padding, every bit pattern valid.
unsafe impl Pod for PodOffsets {}

/// Loads and attaches, and gives the ring buffer that the programs write to.
///
/// The snapshot is tried first; where the kernel refuses it (lockdown), it is left out.
pub fn attach(root: &Root, options: Options) -> Result<(Attached, RingBuf<MapData>), AttachError> {
    check_kernel()?;
    check_capabilities()?;
    let (offsets, mut snapshot) = match options.snapshot.then(btf::offsets) {
        Some(Ok(offsets)) => (offsets, Snapshot::On),
        Some(Err(error)) => (Offsets::default(), Snapshot::Off(error.to_string())),
        None => (Offsets::default(), Snapshot::Off("as asked for".into())),
    };
    let mut loaded = load(offsets, options.ring_bytes);
    if let (Err(AttachError::Program(..)), Snapshot::On) = (&loaded, &snapshot) {
        snapshot = Snapshot::Off("this kernel does not let programs read its structs".into());
        loaded = load(Offsets::default(), options.ring_bytes);
    }
    let (mut ebpf, has_release) = loaded?;
    let hooks = attach_all(&mut ebpf, root, has_release)?;
    let ring = take(&mut ebpf, "EVENTS")?;
    let counters = take(&mut ebpf, "COUNTERS")?;
    let owners = take(&mut ebpf, "OWNERS")?;
    let logger = if logs_wanted() {
        EbpfLogger::init(&mut ebpf).ok()
    } else {
        None
    };
    give_back();
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
    /// A counter's sum over all CPUs; `index` is one of [`counter`].
    pub fn counter(&self, index: u32) -> u64 {
        debug_assert!(index < counter::COUNT);
        self.counters
            .get(&index, 0)
            .map_or(0, |values| values.iter().sum())
    }

    /// Lets the kernel report anew who uses a connection.
    pub fn forget(&mut self, cookie: u64) {
        // It may be gone there already.
        let _ = self.owners.remove(&cookie);
    }

    /// Detaches the programs; the maps stay readable.
    pub fn detach(&mut self) {
        self.ebpf = None;
    }

    /// Passes the programs' diagnostics on to `log`, if they were asked for.
    pub fn flush_logs(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}

/// Gives freed memory back to the system: aya reads the types of the whole kernel when a loader is
/// made, wanted or not, and 12 MiB of heap would stay with us for weeks.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number; the allocator locks itself.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Whether this kernel is new enough.
pub fn check_kernel() -> Result<(), AttachError> {
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

/// Whether the log filter names the programs (`IMDSMON_LOG=imdsmon_ebpf=warn`). Otherwise the
/// verifier removes their diagnostics, and they cost nothing.
fn logs_wanted() -> bool {
    tracing::enabled!(target: "imdsmon_ebpf", tracing::Level::WARN)
}

fn load(offsets: Offsets, ring_bytes: u32) -> Result<(Ebpf, bool), AttachError> {
    let log_level = if logs_wanted() {
        aya_log::Level::Trace as u8
    } else {
        0
    };
    let offsets = PodOffsets(offsets);
    let mut ebpf = EbpfLoader::new()
        // No relocation needs the kernel's types; parsing all of them would cost megabytes.
        .btf(None)
        .override_global("OFFSETS", &offsets, true)
        .override_global("AYA_LOG_LEVEL", &log_level, true)
        .map_max_entries("EVENTS", ring_bytes)
        .map_max_entries(
            "AYA_LOGS",
            if log_level == 0 {
                MIN_RING_BYTES
            } else {
                LOG_BYTES
            },
        )
        .load(OBJECT)
        .map_err(|cause| error::object(&cause))?;
    program::<CgroupSockAddr>(&mut ebpf, "connect4")?
        .load()
        .map_err(refused("connect4"))?;
    program::<CgroupSockAddr>(&mut ebpf, "connect6")?
        .load()
        .map_err(refused("connect6"))?;
    program::<CgroupSkb>(&mut ebpf, "egress")?
        .load()
        .map_err(refused("egress"))?;
    program::<CgroupSkb>(&mut ebpf, "ingress")?
        .load()
        .map_err(refused("ingress"))?;
    // The only optional one: it came with 5.9, and a vendor's kernel may be without.
    let release = program::<CgroupSock>(&mut ebpf, "release")?.load();
    if let Err(error) = &release {
        tracing::debug!(%error, "the kernel refuses cgroup/sock_release");
    }
    Ok((ebpf, release.is_ok()))
}

fn attach_all(
    ebpf: &mut Ebpf,
    root: &Root,
    has_release: bool,
) -> Result<Vec<&'static str>, AttachError> {
    // A link allows other programs beside it whatever the mode says.
    let mode = CgroupAttachMode::Single;
    for name in ["connect4", "connect6"] {
        let program = program::<CgroupSockAddr>(ebpf, name)?;
        program.attach(root, mode).map_err(refused(name))?;
    }
    for (name, direction) in [
        ("egress", CgroupSkbAttachType::Egress),
        ("ingress", CgroupSkbAttachType::Ingress),
    ] {
        let program = program::<CgroupSkb>(ebpf, name)?;
        program
            .attach(root, direction, mode)
            .map_err(refused(name))?;
    }
    let mut hooks = vec!["connect4", "connect6", "egress", "ingress"];
    if has_release {
        let program = program::<CgroupSock>(ebpf, "release")?;
        program.attach(root, mode).map_err(refused("release"))?;
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
        .ok_or_else(|| AttachError::Object(format!("it has no program `{name}`")))
}

fn take<M: TryFrom<aya::maps::Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &str,
) -> Result<M, AttachError> {
    ebpf.take_map(name)
        .ok_or_else(|| AttachError::Object(format!("it has no map `{name}`")))
        .and_then(|map| M::try_from(map).map_err(|e| AttachError::Object(e.to_string())))
}

fn refused(name: &'static str) -> impl FnOnce(ProgramError) -> AttachError {
    move |cause| error::program(name, &cause)
}
