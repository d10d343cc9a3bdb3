//! What a client's program is called: the script and not its interpreter, the job and not its
//! shell.

#![expect(
    clippy::unwrap_used,
    reason = "a test may fail, outside of its test functions as well"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use tests::{Cgroup, Scene, optional, skipped, watch::lacks};

const URL: &str = "http://169.254.169.254/latest/meta-data/instance-id";

/// A script below a directory of its own.
fn script(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Runs commands on one stage, in one cgroup, and gives their clients' names.
fn names_of(cgroup: &Cgroup, commands: &[Vec<&str>]) -> Vec<String> {
    let mut scene = Scene::without_monitor(optional());
    scene.start_monitor(&["--buffer", "16M", "--host-root", "/"]);
    for words in commands {
        let mut command = scene.command(words[0]);
        cgroup.enter(command.args(&words[1..]));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        assert!(command.status().unwrap().success(), "{words:?}");
    }
    let seen = scene.finish();
    seen.iter()
        .map(|call| call["imds.client"].as_str().unwrap().to_owned())
        .collect()
}

/// A place whose name stays the same from run to run, as far as a client's name is concerned.
fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("imdsmon-test-")
        .rand_bytes(4)
        .tempdir_in("/var/tmp")
        .unwrap()
}

#[test]
fn the_script_is_the_program_and_its_arguments_are_not() {
    if skipped() {
        return;
    }
    if lacks(&["curl", "bash", "python3"]) {
        return;
    }
    let directory = directory();
    let get = format!("import urllib.request as u; u.urlopen('{URL}').read()");
    let python = script(directory.path(), "worker.py", &get);
    let curl = format!("#!/bin/bash\ncurl -s {URL}?$1 > /dev/null\nsleep 0.3\n");
    let bash = script(directory.path(), "backup.sh", &curl);
    let (python, bash) = (python.to_str().unwrap(), bash.to_str().unwrap());
    let Some(cgroup) = Cgroup::below("/system.slice/imdsmon-test-scripts.service") else {
        return;
    };
    let inner = format!("{bash} 9; true");
    let names = names_of(
        &cgroup,
        &[
            vec!["python3", "-u", python, "--port", "80"],
            vec!["python3", python, "--port", "81"],
            vec![bash, "1"],
            vec!["bash", bash, "2"],
            vec!["sh", "-c", &inner],
            vec!["curl", "-s", URL],
            vec!["python3", "-c", &get],
        ],
    );
    let unit = "imdsmon-test-scripts.service";
    let expected = [
        format!("{unit}: python3 {python} (root)"),
        format!("{unit}: python3 {python} (root)"),
        format!("{unit}: curl from {bash} (root)"),
        format!("{unit}: curl from {bash} (root)"),
        format!("{unit}: curl from {bash} (root)"),
    ];
    assert_eq!(names[..5], expected);
    // Nothing above these is a script of ours; the suite itself may be run by one.
    assert!(
        names[5].starts_with(&format!("{unit}: curl")),
        "{}",
        names[5]
    );
    assert!(
        names[6].starts_with(&format!("{unit}: python3 -c import urllib.request as u;")),
        "{}",
        names[6]
    );
}

#[test]
fn a_cron_job_is_what_the_crontab_says() {
    if skipped() {
        return;
    }
    if lacks(&["curl", "bash"]) {
        return;
    }
    let directory = directory();
    let sh = fs::canonicalize("/bin/bash").unwrap();
    // What cron does: a daemon of this name starts a shell with the crontab's line.
    fs::copy(sh, directory.path().join("cron")).unwrap();
    let cron = directory.path().join("cron");
    let cron = cron.to_str().unwrap();
    let curl = format!("#!/bin/bash\ncurl -s {URL} > /dev/null\nsleep 0.3\n");
    let job = script(directory.path(), "job", &curl);
    let job = job.to_str().unwrap();
    let with_script = format!("/bin/sh -c '{job}; true'; true");
    let with_command = format!("/bin/sh -c 'curl -s {URL} >/dev/null; sleep 0.3'; true");
    let Some(cgroup) = Cgroup::below("/user.slice/user-0.slice/session-987655.scope") else {
        return;
    };
    let names = names_of(
        &cgroup,
        &[
            vec![cron, "-c", &with_script],
            vec![cron, "-c", &with_command],
        ],
    );
    assert_eq!(names[0], format!("cron job {job}: curl from {job} (root)"));
    assert!(
        names[1].starts_with("cron job curl -s http:/"),
        "{}",
        names[1]
    );
}
