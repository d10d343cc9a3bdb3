//! What earlier versions wrote reads the same: a recording of four runs of `imdsmon demo`, made by
//! 0.1.0 at b6754b6, and the JSON that this version printed for it.

use std::{path::Path, process::Command};

#[test]
fn recording_of_an_earlier_version_replays_to_the_same_bytes() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let expected = std::fs::read_to_string(fixtures.join("recording-v1.json")).unwrap();
    let replay = Command::new(env!("CARGO_BIN_EXE_imdsmon"))
        .args(["replay", "--json"])
        .arg(fixtures.join("recording-v1.imdsmon"))
        .output()
        .unwrap();
    assert!(replay.status.success(), "{replay:?}");
    let printed = String::from_utf8(replay.stdout).unwrap();
    for (number, (printed, expected)) in printed.lines().zip(expected.lines()).enumerate() {
        assert_eq!(printed, expected, "line {}", number + 1);
    }
    assert_eq!(printed, expected);
}
