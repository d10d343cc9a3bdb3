//! What systemd leaves the service of its rights is enough: the capabilities of the packaged unit,
//! a user that is not root, and a network of its own instead of `CAP_SYS_ADMIN`.

use std::process::{Command, Output};

use tests::{program, skipped};

const UNIT: &str = include_str!("../../packaging/systemd/imdsmon.service");
/// Any user but root will do.
const NOBODY: &str = "65534";

/// Runs the self-test with the service's rights, behind `before`.
fn doctor(before: &[&str]) -> Output {
    let setting = "\nAmbientCapabilities=";
    let (_, line) = UNIT.split_once(setting).expect("the unit has capabilities");
    let line = line.lines().next().expect("a line");
    let capabilities = line
        .split(' ')
        .map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect::<String>();
    let only = format!("-all{capabilities}");
    let setpriv = [
        "setpriv",
        "--reuid",
        NOBODY,
        "--regid",
        NOBODY,
        "--clear-groups",
        "--no-new-privs",
        "--bounding-set",
        &only,
        "--inh-caps",
        &only,
        "--ambient-caps",
        &only,
    ];
    let words = [before, &setpriv].concat();
    Command::new(words[0])
        .args(&words[1..])
        .arg(program("imdsmon"))
        .arg("doctor")
        .output()
        .expect("setpriv and unshare are parts of util-linux")
}

#[test]
fn the_canary_is_heard_with_the_rights_of_the_unit() {
    if skipped() {
        return;
    }
    let doctor = doctor(&["unshare", "--net"]);
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.status.success(), "{said}");
    assert!(said.contains("missing: CAP_SYS_ADMIN"), "{said}");
    assert!(said.contains("were heard and attributed"), "{said}");
}

#[test]
fn the_network_of_the_host_is_never_taken_for_a_private_one() {
    if skipped() {
        return;
    }
    let doctor = doctor(&[]);
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert_eq!(doctor.status.code(), Some(1), "{said}");
    assert!(said.contains("a private network namespace needs"), "{said}");
}
