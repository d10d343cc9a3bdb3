//! The service: it survives what kills it, loses nothing that it acknowledged, and says what it
//! did not see.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::{
    fs::{self, File, Permissions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tests::{
    service::{Service, eventually, report},
    stage::Stage,
};

/// Without the canary, which only its own story needs.
const PLAIN: &[&str] = &["--canary", "off"];
/// How long a service may take to write down what it saw; a second, and what a busy machine adds.
const WRITTEN: Duration = Duration::from_millis(1500);

/// Pauses of random length: where the kernel puts a program is random (ASLR), which is enough.
fn some_time(least: u64, most: u64) -> Duration {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut bytes)
        .unwrap();
    Duration::from_millis(least + u64::from_le_bytes(bytes) % (most - least))
}

/// A name that no other run of this test on this host has, which may last half an hour. Of letters:
/// names that only differ in a number are one client's.
fn soaker() -> String {
    let letter =
        |digit: char| char::from(b'a' + u8::try_from(digit.to_digit(10).unwrap()).unwrap());
    let letters: String = std::process::id().to_string().chars().map(letter).collect();
    format!("soaker{letters}")
}

/// `IMDSMON_TEST_SOAK=1800` plays it for half an hour.
#[test]
fn service_killed_at_random_keeps_what_it_acknowledged() {
    let Some(stage) = Stage::new(&soaker()) else {
        return;
    };
    let soak = std::env::var("IMDSMON_TEST_SOAK").ok();
    let soak: u64 = soak.and_then(|s| s.parse().ok()).unwrap_or(15);
    // Once a minute, or three times in a short run.
    let most = (soak * 1000 / 3).min(60_000);
    let until = Instant::now() + Duration::from_secs(soak);
    let mut load = stage.load(u32::try_from(soak * 200).unwrap() + 400, 200);
    let calls = || stage.simulator.requests().v1;
    let (mut surely, mut acknowledged, mut lives) = (0, 0, 0);
    while Instant::now() < until {
        let service = Service::start(stage.place(), PLAIN);
        lives += 1;
        let since = calls();
        let again = stage.reported();
        assert!(
            again >= acknowledged,
            "{acknowledged} were acknowledged, {again} are left"
        );
        thread::sleep(some_time(most / 2, most));
        let written = calls();
        thread::sleep(WRITTEN);
        acknowledged = stage.reported();
        surely += written - since;
        assert!(
            acknowledged >= surely,
            "{surely} were surely seen, {acknowledged} are counted"
        );
        service.kill();
        eprintln!("life {lives}: {acknowledged} counted, at least {surely} seen");
    }
    drop(load.kill());
    drop(load.wait());
    let report = report(stage.place(), &[]);
    let counted = stage.counted(&report);
    assert!(
        counted >= acknowledged && counted <= calls(),
        "{counted} of {}",
        calls()
    );
    let spans = report["window"]["coverage"]["spans"].as_array().unwrap();
    assert_eq!(spans.len(), lives, "{spans:#?}");
    assert_eq!(report["window"]["gaps"].as_u64().unwrap() + 1, lives as u64);
    assert!(
        spans.iter().all(|span| span["is_complete"] == false),
        "{spans:#?}"
    );
    let observed = report["window"]["observed_s"].as_u64().unwrap();
    assert!(observed <= report["window"]["length_s"].as_u64().unwrap());
}

#[test]
fn a_stop_writes_everything_down_and_nothing_is_counted_twice() {
    let Some(stage) = Stage::new("stopper") else {
        return;
    };
    for life in 1..=2 {
        let service = Service::start(stage.place(), PLAIN);
        stage.call(50);
        assert!(service.stop().success());
        assert_eq!(stage.reported(), life * 50);
    }
    let report = report(stage.place(), &[]);
    let spans = report["window"]["coverage"]["spans"].as_array().unwrap();
    assert!(
        spans.iter().all(|span| span["is_complete"] == true),
        "{spans:#?}"
    );
}

#[test]
fn wrong_usage_and_wrong_configuration_exit_with_78() {
    let status = |args: &[&str]| {
        let output = Command::new(tests::program("imdsmon")).args(args).output();
        output.unwrap().status.code()
    };
    // EX_CONFIG: RestartPreventExitStatus= of the unit has the same number.
    for args in [
        &["run", "--bogus"][..],
        &["run", "--canary", "banana"],
        &["run", "--config", "/nonexistent"],
    ] {
        assert_eq!(status(args), Some(78), "{args:?}");
    }
    assert_eq!(status(&["watch", "--bogus"]), Some(1));
    assert_eq!(status(&["run", "--help"]), Some(0));
}

#[test]
fn two_services_cannot_share_a_store() {
    let Some(stage) = Stage::new("twin") else {
        return;
    };
    let first = Service::start(stage.place(), PLAIN);
    let Err(said) = Service::try_start(stage.place(), PLAIN) else {
        panic!("the second started, too")
    };
    let error = said.lines().last().unwrap();
    assert!(error.contains("another imdsmon service"), "{said}");
    assert!(!said.contains("ERROR"), "one word is enough: {said}");
    stage.call(3);
    stage.has(3);
    drop(first);
}

#[test]
fn a_file_is_no_place_for_a_store() {
    let Some(stage) = Stage::new("placer") else {
        return;
    };
    fs::write(stage.place().join("store"), "a file").unwrap();
    let Err(said) = Service::try_start(stage.place(), PLAIN) else {
        panic!("it started without a store")
    };
    let error = said.lines().last().unwrap();
    assert!(error.contains("not a directory"), "{said}");
}

#[test]
fn a_damaged_store_is_set_aside_and_watching_goes_on() {
    let Some(stage) = Stage::new("mender") else {
        return;
    };
    let service = Service::start(stage.place(), PLAIN);
    stage.call(5);
    assert!(service.stop().success());
    let store = stage.place().join("store");
    let damaged = fs::read_dir(&store)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "db"))
        .unwrap();
    let mut file = File::options().write(true).open(&damaged).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&[0x55; 8192]).unwrap();
    drop(file);
    let service = Service::start(stage.place(), PLAIN);
    service.says("renamed it to");
    let kept = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap());
    let kept = kept.filter(|entry| entry.metadata().unwrap().len() >= 8192);
    assert!(
        kept.map(|entry| fs::read(entry.path()).unwrap())
            .any(|bytes| bytes.starts_with(&[0x55; 8192])),
        "what was there is gone"
    );
    stage.call(4);
    stage.has(4);
}

#[test]
fn a_full_disk_costs_nothing_but_memory() {
    let Some(stage) = Stage::new("filler") else {
        return;
    };
    let disk = stage.place().join("store");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m,mode=700", "none"])
        .arg(&disk)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no file system can be mounted here");
        return;
    }
    let unmount = || Command::new("umount").arg("-l").arg(&disk).status();
    let ballast = disk.join("ballast");
    let service = Service::start(stage.place(), PLAIN);
    stage.call(2);
    stage.has(2);
    let mut fill = File::create(&ballast).unwrap();
    while fill.write_all(&[1; 4096]).is_ok() {}
    drop(fill);
    stage.call(40);
    service.says("cannot write the store");
    thread::sleep(Duration::from_secs(2));
    fs::remove_file(&ballast).unwrap();
    stage.has(42);
    assert!(service.stop().success());
    assert_eq!(stage.reported(), 42);
    drop(unmount());
}

#[test]
fn a_directory_that_cannot_be_written_is_said_and_tried_again() {
    let Some(stage) = Stage::new("waiter") else {
        return;
    };
    let store = stage.place().join("store");
    fs::create_dir(&store).unwrap();
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        command.args(["-o", options]).arg(&store);
        command
    };
    let tmpfs = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "mode=700", "none"])
        .arg(&store)
        .status();
    if !tmpfs.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no file system can be mounted here");
        return;
    }
    assert!(mount("remount,ro").status().unwrap().success());
    // A store that cannot be had does not keep it from watching.
    let service = Service::start(stage.place(), PLAIN);
    service.says("cannot write the store");
    stage.call(7);
    assert!(mount("remount,rw").status().unwrap().success());
    stage.has(7);
    assert!(service.stop().success());
    drop(Command::new("umount").arg("-l").arg(&store).status());
}

#[test]
fn store_is_readable_by_root_only() {
    let Some(stage) = Stage::new("keeper") else {
        return;
    };
    fs::set_permissions(stage.place(), Permissions::from_mode(0o755)).unwrap();
    let service = Service::start(stage.place(), PLAIN);
    stage.call(1);
    stage.has(1);
    let store = stage.place().join("store");
    for entry in fs::read_dir(&store).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
    assert_eq!(
        fs::metadata(&store).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert!(service.stop().success());
}

#[test]
fn canary_passes_and_its_metric_says_so() {
    let Some(stage) = Stage::new("singer") else {
        return;
    };
    let socket = stage.place().join("metrics.sock");
    let metrics = format!("unix:{}", socket.display());
    let mut service = Service::start(stage.place(), &["--canary", "1h", "--metrics", &metrics]);
    let report = eventually("the canary passes", || {
        let report = report(stage.place(), &[]);
        (!report["window"]["coverage"]["self_test"].is_null()).then_some(report)
    });
    assert_eq!(
        report["window"]["coverage"]["self_test"]["passed"], true,
        "{report}"
    );
    // Other tests may call at the same time, and from imdsmon's own programs, too: but not from
    // this process.
    let by_service = |sample: &Value| sample["pid"] == service.pid();
    let clients = report["clients"].as_array().unwrap();
    let samples = clients
        .iter()
        .flat_map(|client| client["samples"].as_array().unwrap());
    assert_eq!(
        samples.filter(|sample| by_service(sample)).count(),
        0,
        "the canary is no client"
    );
    stage.call(9);
    stage.has(9);
    let text = scrape(&socket);
    assert!(text.contains("\nimdsmon_canary_success{} 1\n"), "{text}");
    assert!(text.contains("imdsmon_build_info"), "{text}");
    assert!(
        service
            .told()
            .iter()
            .any(|state| state.starts_with("STATUS="))
    );
    assert!(service.stop().success());
    assert!(!socket.exists(), "the socket is left behind");
}

fn scrape(socket: &Path) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn settings_that_are_wrong_do_not_stop_it() {
    let Some(stage) = Stage::new("setter") else {
        return;
    };
    let config = stage.place().join("imdsmon.toml");
    fs::write(&config, "[canary]\ninterval = \"off\"\n").unwrap();
    let path = config.to_str().unwrap();
    let mut service = Service::start(stage.place(), &["--config", path]);
    fs::write(
        &config,
        "[metrics]\nlisten = \"127.0.0.1:0\"\nlissten = 1\n",
    )
    .unwrap();
    service.reload();
    eventually("systemd is notified of the reload", || {
        let told = service.told();
        told.iter()
            .any(|state| state.starts_with("RELOADING"))
            .then_some(())
    });
    service.says("lissten");
    stage.call(2);
    stage.has(2);
    assert!(service.stop().success());
}

#[test]
fn metrics_over_tcp_follow_a_reload() {
    let Some(stage) = Stage::new("mover") else {
        return;
    };
    let config = stage.place().join("imdsmon.toml");
    fs::write(&config, "[canary]\ninterval = \"off\"\n").unwrap();
    let service = Service::start(stage.place(), &["--config", config.to_str().unwrap()]);
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    fs::write(
        &config,
        format!("[canary]\ninterval = \"off\"\n[metrics]\nlisten = \"{port}\"\n"),
    )
    .unwrap();
    service.reload();
    let mut stream = eventually("the endpoint is there", || TcpStream::connect(port).ok());
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("imdsmon_ready"), "{text}");
    assert!(service.stop().success());
}
