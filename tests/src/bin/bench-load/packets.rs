//! What traffic pays that is not IMDS: the same work with nothing attached, with a floor, and
//! with imdsmon's programs, in turns.
//!
//! A machine's speed changes from one second to the next, by more than a program costs. So turns
//! are short, a few milliseconds, and what counts is the difference between neighbours: each
//! round visits all variants, in rotated order. The programs of imdsmon are those that the real
//! monitor has loaded, taken over from it. A visit that found other programs at the hooks than
//! its own is marked, and does not count.

use crate::{
    hooks::{self, Attached, Programs},
    monitor::Monitor,
    workload::{self, Workload},
};
use anyhow::{Context as _, Result, bail};
use imdsmon::{
    capture::cgroup::Root,
    sandbox::{ImdsConfig, ImdsSimulator},
};
use std::{
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

/// How long to wait for others who test here, too: they come and go.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a monitor is started until it was alone at the hooks.
const ATTEMPTS: u32 = 10;

/// Measure traffic that is not IMDS.
///
/// Prints `packet ROUND VARIANT WORKLOAD MEDIAN STATE`: the median of the nanoseconds of one
/// operation (with qemu's `-icount shift=0`: instructions), and `quiet` or `disturbed`.
#[derive(clap::Args)]
pub struct Args {
    /// The program to measure
    #[arg(long)]
    imdsmon: PathBuf,
    /// How often each variant is visited
    #[arg(long, default_value_t = 400)]
    rounds: usize,
    /// Samples of each workload in a visit
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..))]
    samples: u16,
    /// Operations in a sample; 1 where the clock is exact
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
}

/// What is attached during a visit.
struct Variant {
    name: &'static str,
    programs: Option<Programs>,
}

/// Runs all rounds.
pub fn run(args: &Args) -> Result<()> {
    let root = Root::find()?;
    let variants = [
        Variant {
            name: "off",
            programs: None,
        },
        Variant {
            name: "floor",
            programs: Some(Programs::floor().context("load the floor")?),
        },
        Variant {
            name: "imdsmon",
            programs: Some(loaded(&args.imdsmon, &root)?),
        },
    ];
    let simulator = ImdsSimulator::start(ImdsConfig::default())?;
    simulator.run(|| {
        pin()?;
        in_turn();
        let mut workloads = workload::all()?;
        for (name, workload) in &mut workloads {
            sample(workload.as_mut(), args).with_context(|| format!("warm up {name}"))?;
        }
        for round in 0..args.rounds {
            for (name, workload) in &mut workloads {
                for turn in 0..variants.len() {
                    let variant = &variants[(round + turn) % variants.len()];
                    let (median, quiet) = visit(variant, workload.as_mut(), &root, args)
                        .with_context(|| format!("measure {name}"))?;
                    let state = if quiet { "quiet" } else { "disturbed" };
                    println!("packet {round} {} {name} {median:.2} {state}", variant.name);
                }
            }
        }
        Ok(())
    })?
}

/// The programs of a real monitor. They stay loaded when it has ended, and are the same ones;
/// its other programs are for connections that open and close, which do not happen here.
fn loaded(imdsmon: &Path, root: &Root) -> Result<Programs> {
    for _ in 0..ATTEMPTS {
        wait_for_quiet(root)?;
        let monitor = Monitor::start(imdsmon, Stdio::null())?;
        let programs = Programs::of(root.as_fd());
        monitor.end()?;
        if let Ok(programs) = programs {
            return Ok(programs);
        }
    }
    bail!("others attach programs at the cgroup v2 root all the time: end them first")
}

fn wait_for_quiet(root: &Root) -> Result<()> {
    let start = Instant::now();
    while hooks::attached(root.as_fd()).context("ask who is attached")? != [0, 0] {
        if start.elapsed() > PATIENCE {
            bail!("other programs stay attached at the cgroup v2 root: end them first");
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The median of one variant, and whether the machine was quiet.
fn visit(
    variant: &Variant,
    workload: &mut dyn Workload,
    root: &Root,
    args: &Args,
) -> Result<(f64, bool)> {
    wait_for_quiet(root)?;
    let attached = variant.attach(root).context("attach")?;
    let wanted = [u32::from(attached.is_some()); 2];
    // Others get a turn, too: a thread that never waits is in the way of all.
    thread::sleep(Duration::from_millis(1));
    let before = hooks::attached(root.as_fd())?;
    let median = sample(workload, args)?;
    let after = hooks::attached(root.as_fd())?;
    Ok((median, before == wanted && after == wanted))
}

impl Variant {
    fn attach(&self, root: &Root) -> std::io::Result<Option<Attached>> {
        let attach = |programs: &Programs| programs.attach(root.as_fd());
        self.programs.as_ref().map(attach).transpose()
    }
}

/// The median of the nanoseconds of one operation.
fn sample(workload: &mut dyn Workload, args: &Args) -> Result<f64> {
    // What has gone cold since the last visit.
    for _ in 0..args.batch.max(20) {
        workload.once()?;
    }
    let mut samples = Vec::with_capacity(args.samples.into());
    for _ in 0..args.samples {
        let start = Instant::now();
        for _ in 0..args.batch {
            workload.once()?;
        }
        samples.push(start.elapsed());
    }
    samples.sort_unstable();
    let median = samples[samples.len() / 2];
    Ok(median.as_secs_f64() * 1e9 / f64::from(args.batch))
}

/// Keeps this thread, and those it will start, on one processor: the last one, because
/// interrupts prefer the first.
fn pin() -> Result<()> {
    let status = fs::read_to_string("/proc/thread-self/status").context("read my processors")?;
    let last = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .and_then(|list| list.rsplit([',', '-']).next())
        .and_then(|last| last.trim().parse().ok())
        .context("find my processors")?;
    // SAFETY: an all-zero set is a valid, empty one; both calls stay within it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(last, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result != 0 {
        return Err(std::io::Error::last_os_error()).context("stay on one processor");
    }
    Ok(())
}

/// Threads of this kind run until they wait: ordinary load on their processor does not come
/// between. Under `-icount` some rounds of two threads are still thousands of instructions longer
/// than others, whatever is attached; the cause is not known.
fn in_turn() {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the kernel only reads the live parameters.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) } != 0 {
        let error = std::io::Error::last_os_error();
        eprintln!("without real-time scheduling ({error}): two threads may show more than packets");
    }
}
