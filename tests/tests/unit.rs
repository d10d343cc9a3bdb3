//! What systemd leaves the service of its rights is enough: the capabilities of the packaged unit,
//! a user that is not root, and a network of its own instead of `CAP_SYS_ADMIN`.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
};

use tests::{program, skipped};

const UNIT: &str = include_str!("../../packaging/systemd/imdsmon.service");
/// Any user but root will do.
const UNPRIVILEGED: &str = "65534";

/// Runs the self-test with the service's rights, behind `before`.
fn doctor(before: &[&str]) -> Output {
    let setting = "\nAmbientCapabilities=";
    let (_, line) = UNIT.split_once(setting).unwrap();
    let mut only = "-all".to_owned();
    for name in line.lines().next().unwrap().split(' ') {
        only += ",+";
        only += &name.trim_start_matches("CAP_").to_lowercase();
    }
    // Where every user may run it.
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    let imdsmon = place.path().join("imdsmon");
    fs::copy(program("imdsmon"), &imdsmon).unwrap();
    fs::set_permissions(&imdsmon, Permissions::from_mode(0o755)).unwrap();
    let setpriv = [
        "setpriv",
        "--reuid",
        UNPRIVILEGED,
        "--regid",
        UNPRIVILEGED,
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
        .arg(imdsmon)
        .arg("doctor")
        .output()
        .unwrap()
}

#[test]
fn canary_passes_with_the_rights_of_the_unit() {
    if skipped() {
        return;
    }
    let doctor = doctor(&["unshare", "--net"]);
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.status.success(), "{said}");
    assert!(said.contains("missing: CAP_SYS_ADMIN"), "{said}");
    assert!(said.contains("were captured and attributed"), "{said}");
}

#[test]
fn the_network_of_the_host_is_never_taken_for_a_private_one() {
    if skipped() {
        return;
    }
    let doctor = doctor(&[]);
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert_eq!(doctor.status.code(), Some(1), "{said}");
    assert!(
        said.contains("cannot create a private network namespace"),
        "{said}"
    );
}
