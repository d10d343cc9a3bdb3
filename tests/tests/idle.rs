//! What the service does when there is nothing to do. Alone in its file, so that no other test
//! calls at the same time.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use tests::{
    service::{Service, report},
    skipped,
};

/// How long it is looked at; `IMDSMON_TEST_IDLE=600` takes ten minutes.
fn time() -> Duration {
    let wanted = std::env::var("IMDSMON_TEST_IDLE").ok();
    Duration::from_secs(wanted.and_then(|s| s.parse().ok()).unwrap_or(5))
}

#[test]
fn an_idle_service_sleeps() {
    if skipped() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let service = Service::start(place.path(), &["--canary", "off"]);
    // What belongs to the start is over by then.
    thread::sleep(Duration::from_secs(3));
    let began = Instant::now();
    let before = Usage::of(service.pid());
    thread::sleep(time());
    let after = Usage::of(service.pid());
    let seconds = began.elapsed().as_secs();
    // Every 30 s it tells the watchdog that it is alive, and the store how far it has watched; each
    // may wake two threads, which go to sleep again a few times.
    let allowed = 8 * (seconds / 30 + 1);
    let wakes = after.wakes - before.wakes;
    println!(
        "{seconds} s: {wakes} wake-ups, {} ms of processor time, {} KiB resident (peak {})",
        after.cpu_ms - before.cpu_ms,
        after.resident_kib,
        after.peak_kib
    );
    assert!(service.stop().success());
    let report = report(place.path(), &[]);
    let spans = report["window"]["coverage"]["spans"].as_array().unwrap();
    if spans.iter().any(|span| span["segments"] != 0) {
        eprintln!("SKIPPED: another process on this host called IMDS; the service was not idle");
        return;
    }
    assert!(wakes <= allowed, "{wakes} wake-ups in {seconds} s");
}

/// What a process has used so far.
struct Usage {
    wakes: u64,
    cpu_ms: u64,
    resident_kib: u64,
    peak_kib: u64,
}

impl Usage {
    fn of(pid: u32) -> Self {
        let field = |text: &str, name: &str| -> u64 {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let wakes = tasks.map(|task| {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            field(&status, "voluntary_ctxt_switches")
        });
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, rest) = stat.rsplit_once(')').unwrap();
        let ticks = rest.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|n| n.parse::<u64>().unwrap()).sum();
        Self {
            wakes: wakes.sum(),
            cpu_ms: ticks * 10,
            resident_kib: field(&status, "VmRSS"),
            peak_kib: field(&status, "VmHWM"),
        }
    }
}
