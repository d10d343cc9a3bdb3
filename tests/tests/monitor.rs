//! The monitor itself: how it starts, ends, records, and what it leaves behind.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt as _,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use imdsmon::sandbox::ImdsConfig;
use tests::{Scene, Watch, program, skipped, watch::lost};

fn imdsmon(args: &[&str]) -> Output {
    Command::new(program("imdsmon"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The ids of programs that this monitor's process holds, from its descriptors.
fn programs_of(pid: u32) -> Vec<u32> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .unwrap()
        .flatten()
    {
        let info = fs::read_to_string(entry.path()).unwrap_or_default();
        let id = info.lines().find_map(|line| line.strip_prefix("prog_id:"));
        ids.extend(id.and_then(|id| id.trim().parse::<u32>().ok()));
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Whether the kernel still has a program with this id.
fn is_loaded(id: u32) -> bool {
    const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
    #[repr(C)]
    struct Attr {
        id: u32,
        next: u32,
        flags: u32,
    }
    let attr = Attr {
        id,
        next: 0,
        flags: 0,
    };
    // SAFETY: the attribute is as long as it says and outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_GET_FD_BY_ID,
            &raw const attr,
            size_of::<Attr>(),
        )
    };
    if fd >= 0 {
        // SAFETY: the kernel has just given us this descriptor.
        unsafe { libc::close(i32::try_from(fd).unwrap()) };
    }
    fd >= 0
}

#[test]
fn a_killed_monitor_leaves_nothing_attached() {
    if skipped() {
        return;
    }
    for signal in ["-KILL", "-TERM", "-INT"] {
        let mut watch = Watch::start(&[]);
        let programs = programs_of(watch.pid());
        assert_eq!(
            programs.len(),
            5,
            "connect4, connect6, egress, ingress, release"
        );
        assert!(programs.iter().all(|&id| is_loaded(id)));
        let ended = watch.end(signal);
        assert_eq!(ended.status.success(), signal != "-KILL", "{ended:?}");
        // The kernel frees them after a grace period of its own.
        let gone = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(50));
            programs.iter().all(|&id| !is_loaded(id))
        });
        assert!(gone, "programs {programs:?} outlived the monitor");
    }
}

#[test]
fn a_replay_gives_the_same_bytes() {
    if skipped() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("calls.imdsmon");
    let mut scene = Scene::without_monitor(ImdsConfig::default());
    scene.start_monitor(&["--record", file.to_str().unwrap()]);
    for requests in ["v1", "v2,v1", "put,empty-token", "garbage"] {
        let _ = scene.wire(&["send", "--request", requests]);
    }
    let live = scene.end();
    assert!(live.lines.len() >= 7, "{live:?}");
    let recording = fs::read_to_string(&file).unwrap();
    assert!(!recording.contains("AQAE"), "a token is in the recording");
    let replay = imdsmon(&["replay", "--json", file.to_str().unwrap()]);
    assert!(replay.status.success());
    assert_eq!(text(&replay.stdout).lines().collect::<Vec<_>>(), live.lines);
    assert_eq!(lost(&text(&replay.stderr)), 0);

    // Without root, too, and from a recording that was incomplete.
    let cut = directory.path().join("cut.imdsmon");
    fs::write(&cut, &recording.as_bytes()[..recording.len() - 30]).unwrap();
    for path in [directory.path(), &cut, &file] {
        let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, everyone).unwrap();
    }
    let unprivileged = Command::new(readable_copy(directory.path()))
        .args(["replay", "--json", cut.to_str().unwrap()])
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert!(unprivileged.status.success(), "{unprivileged:?}");
    assert!(
        text(&unprivileged.stderr).contains("is incomplete"),
        "{}",
        text(&unprivileged.stderr)
    );
    assert_eq!(
        text(&unprivileged.stdout).lines().collect::<Vec<_>>(),
        live.lines
    );
}

/// The binary where another user can run it.
fn readable_copy(directory: &std::path::Path) -> std::path::PathBuf {
    let copy = directory.join("imdsmon");
    fs::copy(program("imdsmon"), &copy).unwrap();
    copy
}

#[test]
fn without_privilege_there_is_one_sentence_with_the_remedy() {
    if skipped() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(directory.path(), everyone).unwrap();
    let copy = readable_copy(directory.path());
    for subcommand in ["watch", "demo", "doctor"] {
        let output = Command::new(&copy)
            .arg(subcommand)
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{subcommand}: {output:?}");
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(said.contains("run as root"), "{subcommand}: {said}");
        if subcommand != "doctor" {
            assert_eq!(
                text(&output.stderr).lines().count(),
                1,
                "{subcommand}: {said}"
            );
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_a_normal_end() {
    if skipped() {
        return;
    }
    let scene = Scene::without_monitor(ImdsConfig::default());
    let mut child = Command::new(program("imdsmon"))
        .args(["watch", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    err.read_line(&mut String::new()).unwrap();
    drop(child.stdout.take());
    for _ in 0..100 {
        let _ = scene.wire(&["send", "--request", "v1"]);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return;
        }
    }
    child.kill().unwrap();
    panic!("the monitor goes on writing without a reader");
}

#[test]
fn a_run_ends_when_its_time_is_over() {
    if skipped() {
        return;
    }
    let output = imdsmon(&["watch", "--duration", "200ms"]);
    assert!(output.status.success());
    assert!(text(&output.stdout).contains("Observed"), "{output:?}");
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_watch() {
    if skipped() {
        return;
    }
    let mut scene = Scene::without_monitor(ImdsConfig::default());
    let directory = tempfile::tempdir().unwrap();
    let full = directory.path().join("full");
    fs::create_dir(&full).unwrap();
    let mount = |args: &[&str]| {
        Command::new("mount")
            .args(args)
            .arg(&full)
            .status()
            .unwrap()
    };
    if !mount(&["-t", "tmpfs", "-o", "size=16k", "none"]).success() {
        eprintln!("SKIPPED: no small file system can be mounted here");
        return;
    }
    let file = full.join("calls.imdsmon");
    let mut watch = Watch::start(&["--record", file.to_str().unwrap()]);
    scene.start_monitor(&[]);
    for _ in 0..40 {
        let _ = scene.wire(&["send", "--request", "v1"]);
    }
    thread::sleep(Duration::from_millis(100));
    let ended = watch.end("-INT");
    let written = fs::read(&file).unwrap();
    assert!(
        Command::new("umount")
            .arg(&full)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(
        ended
            .err
            .contains("cannot write the recording; capture continues without it"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("is incomplete"), "{}", ended.err);
    let netns = scene.simulator.netns();
    let mine = ended
        .json()
        .into_iter()
        .filter(|l| l["linux.netns"] == netns)
        .count();
    assert_eq!(mine, 40, "watching went on");
    assert!(written.starts_with(b"{\"imdsmon.recording\":1"));
}

#[test]
fn what_the_buffer_has_no_room_for_is_counted_and_said() {
    if skipped() {
        return;
    }
    let scene = Scene::without_monitor(ImdsConfig::default());
    let mut command = Command::new(program("imdsmon"));
    command.args(["watch", "--json", "--buffer", "64K"]);
    let mut watch = Watch::spawn(command.env("IMDSMON_LOG", "imdsmon_ebpf=warn"));
    // A monitor that does not read: the ring fills up.
    tests::watch::signal_to(watch.pid(), "-STOP");
    let ran = scene.wire(&["load", "--parallel", "4", "--count", "500"]);
    tests::watch::signal_to(watch.pid(), "-CONT");
    thread::sleep(Duration::from_millis(300));
    let ended = watch.end("-INT");
    assert!(
        ran.printed.iter().any(|line| line == "count 200 2000"),
        "{ran:?}"
    );
    let lost = lost(&ended.err);
    assert!(lost > 1000, "{lost}");
    assert!(ended.err.contains("calls may be missing"), "{}", ended.err);
    assert!(ended.json().len() < 2000);
    assert!(
        ended.err.contains("ring buffer full"),
        "the programs' own word: {}",
        ended.err
    );
}

#[test]
fn without_a_snapshot_proc_alone_attributes() {
    if skipped() {
        return;
    }
    let mut scene = Scene::without_monitor(ImdsConfig::default());
    let mut watch = None;
    let start = || watch = Some(Watch::start(&["--no-snapshot"]));
    let patient = ["send", "--request", "v1", "--hold-after", "1"];
    let open = scene.wire_after(&[&patient[..], &["--wait-stdin"]].concat(), start);
    let later = scene.wire(&patient);
    scene.start_monitor(&[]);
    let ended = watch.unwrap().interrupt();
    let netns = scene.simulator.netns();
    let seen: Vec<_> = ended
        .json()
        .into_iter()
        .filter(|l| l["linux.netns"] == netns)
        .collect();
    assert_eq!(seen.len(), 2, "{ended:?}");
    for (who, call) in [open, later].iter().zip(&seen) {
        assert_eq!(call["process.pid"], who.pid);
        assert_eq!(call["process.executable.name"], "wire-client");
        assert_eq!(call["process.command_args"][1], "send");
        assert_eq!(call["process.user.name"], "root");
        assert_eq!(call["imds.version"], "v1");
    }
}

#[test]
fn a_recording_never_replaces_a_file() {
    if skipped() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("precious");
    fs::write(&file, "data").unwrap();
    let output = imdsmon(&[
        "watch",
        "--duration",
        "1s",
        "--record",
        file.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("precious"), "{output:?}");
    assert_eq!(fs::read(&file).unwrap(), b"data");
}

#[test]
fn other_files_are_no_recordings() {
    for (content, complaint) in [
        (&b"\x7fELF\0\0"[..], "not the header of a recording"),
        (b"", "the file is empty"),
        (
            br#"{"imdsmon.recording":99,"imdsmon.version":"9","started":0}"#,
            "use a newer imdsmon",
        ),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        let output = imdsmon(&["replay", file.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(complaint), "{output:?}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "{output:?}");
    }
    let missing = imdsmon(&["replay", "/nonexistent/file"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        text(&missing.stderr).contains("no such file or directory; check the path"),
        "{missing:?}"
    );
}

#[test]
fn a_hostile_name_cannot_reach_the_terminal() {
    if skipped() {
        return;
    }
    let scene = Scene::without_monitor(ImdsConfig::default());
    let mut child = Command::new(program("imdsmon"))
        .args(["watch", "--duration", "2s"])
        .env_remove("CLICOLOR_FORCE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    err.read_line(&mut String::new()).unwrap();
    let evil = "/latest/\\x1b]0;owned\\x07\\x1b[2J";
    let raw = format!("GET {evil} HTTP/1.1\\r\\nUser-Agent: \\x1b[31m\\r\\n\\r\\n");
    let _ = scene.wire(&["send", "--raw", &raw, "--comm", "\\x1b[2Jevil"]);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(!output.stdout.contains(&0x1b), "{}", text(&output.stdout));
    assert!(
        text(&output.stdout).contains("owned"),
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn the_demo_shows_its_clients_and_leaves_nothing_behind() {
    if skipped() {
        return;
    }
    let output = imdsmon(&["demo", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let lines = text(&output.stdout);
    for expected in [
        "\"imds.version\":\"v1\"",
        "\"imds.version\":\"v2\"",
        "\"imds.version\":\"token\"",
    ] {
        assert!(lines.contains(expected), "{lines}");
    }
    let refused = imdsmon(&["demo", "--http-tokens", "required"]);
    assert!(text(&refused.stdout).contains(" 401 "), "{refused:?}");
    let left = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let left: Vec<_> = left
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("imdsmon-demo-"))
        .collect();
    assert_eq!(left, [] as [String; 0]);
}

#[test]
fn doctor_says_that_this_host_can_be_watched() {
    if skipped() {
        return;
    }
    let output = imdsmon(&["doctor"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("self-test") && !said.contains("FAIL"),
        "{said}"
    );
}
