//! What the monitor needs to follow many calls, each of which must come out once and right.
//!
//! The simulated IMDS and the client share this process, beside the monitor. Every request has a
//! number, so that one that is lost cannot hide behind one that came out twice.

use crate::{
    client::{self, Plan, Templates},
    monitor::{Monitor, Usage},
    tally::Tally,
};
use anyhow::{Context as _, Result};
use imdsmon::sandbox::{ImdsConfig, ImdsSimulator};
use std::{
    fs::File,
    path::PathBuf,
    process::{self, Stdio},
    thread,
    time::{Duration, Instant},
};

/// After the last answer the monitor still has what is in the ring; it needs milliseconds.
const SETTLE: Duration = Duration::from_millis(200);

/// Measure the monitor under many calls to a simulated IMDS.
///
/// Prints `calls ROW KEY=VALUE ...`; where a count is wrong, no figure but
/// `failed ROW: WHY`.
#[derive(clap::Args)]
pub struct Args {
    /// The program to measure
    #[arg(long)]
    imdsmon: PathBuf,
    /// Where the monitor's output goes, about 0.7 KiB for each call
    #[arg(long)]
    directory: PathBuf,
    /// Requests per second of the paced row
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Seconds of the paced row
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=300))]
    seconds: u32,
    /// Requests of the burst
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    burst: u32,
    /// Requests on a new connection each
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    new_connections: u32,
}

/// Measures one row after the other; one that fails does not keep the others from being tried.
pub fn run(args: &Args) {
    let burst = Plan {
        count: args.burst,
        rate: None,
        new_connections: false,
    };
    let rows = [
        (
            "paced",
            Plan {
                count: args.rate.saturating_mul(args.seconds),
                rate: Some(args.rate),
                ..burst
            },
        ),
        ("burst", burst),
        (
            "new-connections",
            Plan {
                count: args.new_connections,
                new_connections: true,
                ..burst
            },
        ),
    ];
    for (name, plan) in rows {
        if let Err(error) = row(name, plan, args) {
            println!("failed {name}: {}", format!("{error:#}").replace('\n', " "));
        }
    }
}

fn row(name: &str, plan: Plan, args: &Args) -> Result<()> {
    let simulator = ImdsSimulator::start(ImdsConfig::default())?;
    let mut templates = simulator.run(Templates::new)??;
    // What the machine can do without a monitor; of the paced row that is known.
    let unwatched = match plan.rate {
        Some(rate) => f64::from(rate),
        None => rate(
            plan,
            simulator.run(|| client::carry_out(plan, &mut templates))??,
        ),
    };
    let path = args
        .directory
        .join(format!("bench-calls-{}.json", process::id()));
    let output = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let measured = measure(plan, args, &simulator, &mut templates, output);
    let checked = measured.and_then(|(measured, summary, before)| {
        let tally = Tally::read(File::open(&path)?, process::id(), plan.count)?;
        tally.check(&simulator.requests(), &before, &summary)?;
        Ok((measured, tally))
    });
    std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    let (measured, tally) = checked?;
    measured.print(name, plan, unwatched, &tally);
    Ok(())
}

/// Of the monitor during one plan.
struct Measured {
    /// Of the plan.
    seconds: f64,
    /// From just before the plan until the monitor had read all.
    wall: f64,
    begin: Usage,
    end: Usage,
}

fn measure(
    plan: Plan,
    args: &Args,
    simulator: &ImdsSimulator,
    templates: &mut Templates,
    output: File,
) -> Result<(Measured, String, imdsmon::sandbox::RequestCounts)> {
    let monitor = Monitor::start(&args.imdsmon, Stdio::from(output))?;
    thread::sleep(SETTLE);
    let before = simulator.requests();
    let begin = monitor.usage()?;
    let start = Instant::now();
    let seconds = simulator.run(|| client::carry_out(plan, templates))??;
    let wall = start.elapsed().as_secs_f64();
    thread::sleep(SETTLE);
    let measured = Measured {
        seconds,
        wall,
        begin,
        end: monitor.usage()?,
    };
    Ok((measured, monitor.end()?, before))
}

impl Measured {
    fn print(&self, name: &str, plan: Plan, unwatched: f64, tally: &Tally) {
        let Self {
            seconds,
            wall,
            begin,
            end,
        } = self;
        let user = end.user - begin.user;
        let system = end.system - begin.system;
        println!(
            "calls {name} count={} {tally} seconds={seconds:.3} rate={:.0} unwatched={unwatched:.0} \
             user={user:.2} system={system:.2} cores={:.3} begin_kib={} rss_kib={} peak_kib={} \
             anon_kib={} file_kib={} shmem_kib={}",
            plan.count,
            rate(plan, *seconds),
            (user + system) / wall,
            begin.resident,
            end.resident,
            end.peak,
            end.anonymous,
            end.file,
            end.shared,
        );
    }
}

fn rate(plan: Plan, seconds: f64) -> f64 {
    f64::from(plan.count) / seconds
}
