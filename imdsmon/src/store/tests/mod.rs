//! Stories of a store: what goes in comes out, whatever happens in between.

mod coverage;
mod crash;
mod damage;
mod limits;
mod schema_1;
mod sum;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

use super::*;
use crate::{
    http::call::{Auth, ImdsVersion, TokenValue},
    identity::{
        client::Client,
        workload::{Workload, WorkloadKind},
    },
    knowledge::{PathClass, Sdk},
    ledger::{
        BucketKey, Cause, Evidence, ResponseClass, Sample,
        client_stats::PathSeen,
        coverage::{SelfTest, Span},
    },
    time::{Hour, Timestamp},
};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const EPOCH: Timestamp = Timestamp::from_nanos(0);
/// 2023-11-14 22:13:20 UTC.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

pub(crate) fn bucket(hour: Hour) -> BucketKey {
    BucketKey {
        hour,
        auth: Auth::V1,
        response: ResponseClass::Ok,
        path: PathClass::Credentials,
        cause: Cause::Plain,
    }
}

/// A client with `count` calls at `time`.
pub(crate) fn entry(name: &str, time: Timestamp, count: i64) -> ClientStats {
    ClientStats {
        client: Client {
            program: name.into(),
            workload: Workload {
                kind: WorkloadKind::Unit,
                name: format!("{name}.service"),
                ..Workload::default()
            },
            user: "nobody".into(),
            package: None,
            host_network: Some(true),
        },
        first: time,
        last: time,
        buckets: BTreeMap::from([(bucket(time.hour()), count)]),
        evidence: Evidence::default(),
    }
}

pub(crate) fn sample(cause: Cause, pid: u32) -> Sample {
    Sample {
        time: NOW,
        version: ImdsVersion::V1,
        cause,
        response: ResponseClass::Ok,
        status: Some(200),
        server: Some("EC2ws".into()),
        method: "GET".into(),
        target: "/latest/\u{1b}[31m'; DROP TABLE client; --".into(),
        user_agent: None,
        address: "169.254.169.254".into(),
        pid: Some(pid),
        executable: Some("/usr/bin/curl".into()),
        args: vec!["curl".into(), "\0\u{202e}".into()],
        ancestors: vec![(1, "init".into())],
        connector: None,
    }
}

pub(crate) fn watched(from: Timestamp, to: Timestamp) -> Coverage {
    Coverage {
        spans: vec![Span {
            from,
            to,
            is_complete: true,
            segments: 1,
            ..Span::default()
        }],
        self_test: None,
    }
}

pub(crate) fn open(directory: &Path) -> Store {
    Store::open(directory, StoreLimits::default()).unwrap()
}

pub(crate) fn calls(entries: &[ClientStats]) -> i64 {
    entries
        .iter()
        .flat_map(|entry| entry.buckets.values())
        .sum()
}

pub(crate) fn stored_calls(directory: &Path) -> i64 {
    calls(&StoreReader::open(directory).unwrap().load(EPOCH).unwrap().0)
}

#[test]
fn committed_data_is_loaded_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let mut first = entry("app", NOW, 3);
    first.buckets.insert(
        BucketKey {
            auth: Auth::V2(TokenValue::Empty),
            response: ResponseClass::NotImds,
            path: PathClass::UserData,
            cause: Cause::RetryAfterUnauthorized,
            ..bucket(NOW.hour().plus(-1))
        },
        5,
    );
    first.evidence = Evidence {
        sdks: vec![Sdk {
            name: "botocore".into(),
            version: Some("1.12.0".into()),
        }],
        user_agents: vec!["Botocore/1.12".into()],
        paths: BTreeMap::from([("/latest/user-data".into(), PathSeen::default())]),
        more_paths: 1,
        samples: vec![sample(Cause::Plain, 1)],
        unparsed_bytes: 7,
        more_agents: 0,
    };
    let second = entry("'\"\\\0\u{1b}]0;x\u{7}", NOW, 1);
    let coverage = Coverage {
        self_test: Some(SelfTest {
            time: NOW,
            result: Err("no calls were captured".into()),
        }),
        ..watched(NOW - HOUR, NOW)
    };
    let all = vec![first, second];
    store.commit(&all, &coverage, NOW).unwrap();
    assert_eq!(store.load(EPOCH).unwrap(), (all.clone(), coverage.clone()));
    let mut reader = StoreReader::open(directory.path()).unwrap();
    assert_eq!(reader.load(EPOCH).unwrap(), (all, coverage));
}

#[test]
fn a_delta_adds_to_earlier_runs() {
    let directory = tempfile::tempdir().unwrap();
    let mut delta = entry("app", NOW, 2);
    delta.evidence.samples.push(sample(Cause::Plain, 1));
    delta.evidence.paths.insert(
        "/latest/".into(),
        PathSeen {
            tokenless: 2,
            ..PathSeen::default()
        },
    );
    for run in 0..3 {
        let mut store = open(directory.path());
        let later = ClientStats {
            first: NOW + Duration::from_nanos(run),
            last: NOW + Duration::from_nanos(run),
            ..delta.clone()
        };
        store
            .commit(std::slice::from_ref(&later), &Coverage::default(), NOW)
            .unwrap();
        store.close(&[later], &Coverage::default(), NOW).unwrap();
    }
    let (entries, _) = StoreReader::open(directory.path())
        .unwrap()
        .load(EPOCH)
        .unwrap();
    let [app] = &entries[..] else {
        panic!("one client, not {entries:?}");
    };
    assert_eq!(
        (calls(&entries), app.first, app.last),
        (12, NOW, NOW + Duration::from_nanos(2))
    );
    assert_eq!(app.evidence.samples, [sample(Cause::Plain, 1)]);
    assert_eq!(app.evidence.paths["/latest/"].tokenless, 12);
}

#[test]
fn evidence_is_bounded_however_often_it_grows() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let size = |store: &Store| -> i64 {
        let sum = "SELECT sum(length(evidence)) FROM client";
        store
            .connection
            .query_row(sum, [], |row| row.get(0))
            .unwrap()
    };
    for number in 0..300 {
        let mut new = entry("app", NOW, 1);
        new.evidence.user_agents = vec![format!("agent/{number}")];
        new.evidence.samples = vec![sample(Cause::Plain, number)];
        new.evidence.samples[0].args = vec!["x".repeat(1000)];
        let path = format!("/{number:0>200}");
        new.evidence.paths.insert(path, PathSeen::default());
        store.commit(&[new], &Coverage::default(), NOW).unwrap();
    }
    assert!(size(&store) < 64 << 10, "{}", size(&store));
    let (entries, _) = store.load(EPOCH).unwrap();
    assert!(!entries[0].evidence.samples.is_empty());
    // What other code may hand over one day is cut, too.
    let mut huge = entry("huge", NOW, 1);
    huge.evidence.user_agents = vec!["x".repeat(1 << 20)];
    huge.evidence.samples = vec![sample(Cause::Plain, 1)];
    store.commit(&[huge], &Coverage::default(), NOW).unwrap();
    assert!(size(&store) < 128 << 10, "{}", size(&store));
}

#[test]
fn a_package_update_does_not_change_the_client() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let old = entry("app", NOW, 1);
    let mut new = old.clone();
    new.client.package = Some("app 2.0".into());
    store.commit(&[old], &Coverage::default(), NOW).unwrap();
    store
        .commit(&[new.clone()], &Coverage::default(), NOW)
        .unwrap();
    let mut other = entry("app", NOW, 1);
    other.client.user = "root".into();
    store.commit(&[other], &Coverage::default(), NOW).unwrap();
    let (entries, _) = store.load(EPOCH).unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(calls(&entries[..1]), 2);
    assert_eq!(entries[0].client.package, new.client.package);
}

#[test]
fn only_what_is_asked_for_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let delta = [entry("old", NOW - 48 * HOUR, 1), entry("new", NOW, 1)];
    store
        .commit(&delta, &watched(NOW - 48 * HOUR, NOW), NOW)
        .unwrap();
    let (entries, coverage) = store.load(NOW - HOUR).unwrap();
    assert_eq!(entries, &delta[1..]);
    assert_eq!(coverage.spans[0].from, (NOW - HOUR).hour().begin());
}

#[test]
fn the_store_is_private_to_its_owner() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/b");
    let mut store = open(&directory);
    store
        .commit(&[entry("app", NOW, 1)], &Coverage::default(), NOW)
        .unwrap();
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
    let files: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|file| file.unwrap())
        .collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600, "{file:?}");
    }
}

#[test]
fn a_world_writable_directory_is_rejected_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let error = Store::open(directory.path(), StoreLimits::default())
        .err()
        .unwrap();
    assert!(matches!(error, StoreError::Public(_)), "{error}");
    assert_eq!(
        fs::metadata(directory.path()).unwrap().mode() & 0o7777,
        0o1777
    );
}

#[test]
fn a_link_in_place_of_the_database_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    fs::write(&target, "precious").unwrap();
    let store = directory.path().join("store");
    fs::create_dir(&store).unwrap();
    symlink(&target, store.join(DATABASE)).unwrap();
    let error = Store::open(&store, StoreLimits::default()).err().unwrap();
    assert!(matches!(error, StoreError::Directory { .. }), "{error}");
    assert_eq!(fs::read(&target).unwrap(), b"precious");
}

#[test]
fn two_services_do_not_write_to_one_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let error = Store::open(directory.path(), StoreLimits::default())
        .err()
        .unwrap();
    assert!(matches!(error, StoreError::InUse(_)), "{error}");
    drop(store);
    open(directory.path());
}

#[test]
fn a_reader_gets_whole_commits_during_writes() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let pair = [entry("one", NOW, 1), entry("two", NOW, 1)];
    store.commit(&pair, &Coverage::default(), NOW).unwrap();
    let path = directory.path().to_owned();
    let reading = std::thread::spawn(move || {
        let mut reader = StoreReader::open(&path).unwrap();
        let mut seen = Vec::new();
        for _ in 0..200 {
            let (entries, _) = reader.load(EPOCH).unwrap();
            let counts: Vec<i64> = entries
                .iter()
                .flat_map(|e| e.buckets.values().copied())
                .collect();
            assert_eq!(counts[0], counts[1], "half a commit");
            seen.push(counts[0]);
        }
        seen
    });
    let mut commits = 1;
    while !reading.is_finished() {
        store.commit(&pair, &Coverage::default(), NOW).unwrap();
        commits += 1;
    }
    let seen = reading.join().unwrap();
    assert!(
        seen.is_sorted() && *seen.last().unwrap() <= commits,
        "{seen:?}"
    );
    assert_eq!(stored_calls(directory.path()), 2 * commits);
}

#[test]
fn a_missing_store_is_an_error_for_readers() {
    let directory = tempfile::tempdir().unwrap();
    let error = StoreReader::open(directory.path()).err().unwrap();
    assert!(matches!(error, StoreError::Missing(_)), "{error}");
    fs::write(directory.path().join(DATABASE), "").unwrap();
    let error = StoreReader::open(directory.path()).err().unwrap();
    assert!(matches!(error, StoreError::Missing(_)), "{error}");
    fs::write(directory.path().join(DATABASE), "garbage".repeat(1000)).unwrap();
    let error = StoreReader::open(directory.path()).err().unwrap();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}
