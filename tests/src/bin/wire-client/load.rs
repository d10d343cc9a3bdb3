//! Many requests on many connections.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use imdsmon::sandbox::client::{ClientError, ImdsConnection, ensure_inside};

use crate::{
    options::{Load, Pattern},
    say, wait_for_line,
};

const TIMEOUT: Duration = Duration::from_secs(10);
const PATH: &str = "/latest/meta-data/instance-id";

/// Answers by status.
type Counts = BTreeMap<u16, u64>;

pub(crate) fn run(load: &Load) -> anyhow::Result<()> {
    let target = load.target.address()?;
    ensure_inside(target)?;
    say(format_args!("pid {}", process::id()))?;
    let token = match load.pattern {
        Pattern::V2 => Some(ImdsConnection::open(target, TIMEOUT)?.token(21_600)?),
        Pattern::V1 | Pattern::Sdk => None,
    };
    if load.wait_stdin {
        wait_for_line()?;
    }
    let together = Barrier::new(load.parallel.into());
    let began = Instant::now();
    let counts = thread::scope(|scope| {
        let workers: Vec<_> = (0..load.parallel)
            .map(|_| {
                scope.spawn(|| {
                    together.wait();
                    work(load, target, token.as_deref())
                })
            })
            .collect();
        let mut all = Counts::new();
        for worker in workers {
            match worker.join() {
                Ok(counts) => counts?
                    .into_iter()
                    .for_each(|(status, n)| *all.entry(status).or_default() += n),
                Err(_panic) => bail!("a worker panicked"),
            }
        }
        Ok(all)
    })?;
    let seconds = began.elapsed().as_secs_f64();
    for (status, n) in counts {
        say(format_args!("count {status} {n}"))?;
    }
    say(format_args!("seconds {seconds:.6}"))
}

fn work(load: &Load, target: SocketAddr, token: Option<&str>) -> Result<Counts, ClientError> {
    let mut counts = Counts::new();
    let mut kept = None;
    let began = Instant::now();
    for round in 0..load.count {
        if let Some(rate) = load.rate {
            let due = began + Duration::from_secs_f64(f64::from(round) / f64::from(rate));
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        match load.pattern {
            Pattern::V1 | Pattern::V2 => get(load, target, &mut kept, token, &mut counts)?,
            Pattern::Sdk => {
                let token = connection(load, target, &mut kept)?.token(21_600)?;
                *counts.entry(200).or_default() += 1;
                for _ in 0..2 {
                    get(load, target, &mut kept, Some(&token), &mut counts)?;
                }
            }
        }
    }
    Ok(counts)
}

fn get(
    load: &Load,
    target: SocketAddr,
    kept: &mut Option<ImdsConnection>,
    token: Option<&str>,
    counts: &mut Counts,
) -> Result<(), ClientError> {
    let response = connection(load, target, kept)?.get(PATH, token)?;
    *counts.entry(response.status).or_default() += 1;
    Ok(())
}

/// The connection for the next request.
fn connection<'k>(
    load: &Load,
    target: SocketAddr,
    kept: &'k mut Option<ImdsConnection>,
) -> Result<&'k mut ImdsConnection, ClientError> {
    let old = if load.new_connections {
        None
    } else {
        kept.take()
    };
    let next = match old {
        Some(connection) => connection,
        None => ImdsConnection::open(target, TIMEOUT)?,
    };
    Ok(kept.insert(next))
}
