//! `kill -9` in the middle of commits: what was acknowledged is there, and nothing is there twice.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use super::*;

const DIRECTORY: &str = "IMDSMON_TEST_STORE";

/// The service that is killed: commits for ever, and says so after each.
#[test]
#[ignore = "the other half of the test below, which starts it"]
fn commits_until_it_is_killed() {
    let Some(directory) = env::var_os(DIRECTORY) else {
        return;
    };
    let mut store = open(Path::new(&directory));
    // Bounded, so that it ends even if it is not killed.
    for number in 0..20_000 {
        let clients = (0..10).map(|n| entry(&format!("app-{}", (number * 7 + n) % 500), NOW, 1));
        store
            .commit(
                &clients.collect::<Vec<_>>(),
                &watched(NOW, NOW + Duration::from_nanos(number)),
                NOW,
            )
            .unwrap();
        println!("acknowledged {number}");
    }
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut least = 0;
    let mut most = 0;
    for round in 0..8 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture"])
            .arg("store::tests::crash::commits_until_it_is_killed")
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains("acknowledged") {
            text.clear();
            assert!(
                out.read_line(&mut text).unwrap() > 0,
                "the child ended by itself"
            );
        }
        sleep(Duration::from_millis(20 + 37 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        out.read_to_string(&mut text).unwrap();
        let acknowledged = text
            .lines()
            .filter(|line| line.contains("acknowledged"))
            .count();
        least += i64::try_from(acknowledged).unwrap() * 10;
        // One commit may have been made and not yet told.
        most = most.max(least) + 10;
        let stored = stored_calls(directory.path());
        assert!(
            (least..=most).contains(&stored),
            "{stored} is not in {least}..={most}"
        );
        assert_eq!(stored % 10, 0, "half a commit");
        (least, most) = (stored, stored);
    }
    let mut store = open(directory.path());
    assert_eq!(store.quarantine(), None);
    let (_, coverage) = store.load(EPOCH).unwrap();
    assert!(!coverage.spans.last().unwrap().is_complete);
    store.commit(&[], &Coverage::default(), NOW).unwrap();
}
