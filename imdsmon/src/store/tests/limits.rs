//! How much room the store takes, and what happens when there is none.

use std::process::Command;

use super::*;
use crate::ledger::coverage::DoubtKind;

/// Bytes of all files of the store.
fn size(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A client with as much evidence as a client can have.
fn talkative(name: &str, time: Timestamp) -> ClientStats {
    let mut entry = entry(name, time, 1);
    for number in 0..64 {
        let path = format!("/{number:0>200}");
        entry.evidence.paths.insert(path, PathSeen::default());
    }
    entry
}

#[test]
fn too_many_clients_stay_within_the_limit_and_are_a_doubt() {
    let directory = tempfile::tempdir().unwrap();
    let limits = StoreLimits {
        days: 90,
        mib: StoreLimits::MIN_MIB,
    };
    let mut store = Store::open(directory.path(), limits).unwrap();
    let victim = entry("victim", NOW, 5);
    store
        .commit(std::slice::from_ref(&victim), &watched(NOW, NOW), NOW)
        .unwrap();
    let mut largest = 0;
    for round in 0..30 {
        let many: Vec<ClientStats> = (0..40)
            .map(|n| talkative(&format!("made-up-{round}-{n}"), NOW))
            .collect();
        store.commit(&many, &watched(NOW, NOW), NOW).unwrap();
        largest = largest.max(size(directory.path()));
    }
    // The index of the log is not in the limit: 32 KiB for each 4096 pages.
    assert!(largest <= (8 << 20) + (64 << 10), "{largest}");
    let (entries, coverage) = store.load(EPOCH).unwrap();
    assert!(entries.contains(&victim), "who came first is still there");
    let kept = u64::try_from(entries.len()).unwrap();
    let dropped = &coverage.spans[0].doubts[0];
    assert_eq!(dropped.count + kept, 1201, "{dropped:?}");
    assert_eq!(dropped.kind, DoubtKind::DroppedClients);
    // It is no doubt about what was watched days later.
    let later = NOW + 48 * HOUR;
    store
        .commit(&[], &watched(later, later + HOUR), later + HOUR)
        .unwrap();
    let doubts = |(_, coverage): (Vec<ClientStats>, Coverage)| {
        let spans = coverage.spans.into_iter();
        spans.map(|span| span.doubts.len()).sum::<usize>()
    };
    assert_eq!(doubts(store.load(later).unwrap()), 0);
    assert_eq!(doubts(store.load(EPOCH).unwrap()), 1);
}

#[test]
fn a_commit_larger_than_what_is_left_makes_room() {
    let directory = tempfile::tempdir().unwrap();
    let limits = StoreLimits {
        days: 90,
        mib: StoreLimits::MIN_MIB,
    };
    let mut store = Store::open(directory.path(), limits).unwrap();
    for hours in [3, 2, 1] {
        let time = NOW - hours * HOUR;
        let many: Vec<ClientStats> = (0..90)
            .map(|n| talkative(&format!("made-up-{hours}-{n}"), time))
            .collect();
        store.commit(&many, &watched(time, time), time).unwrap();
    }
    let many: Vec<ClientStats> = (0..150)
        .map(|n| talkative(&format!("large-{n}"), NOW))
        .collect();
    store.commit(&many, &watched(NOW, NOW), NOW).unwrap();
    let (entries, coverage) = store.load(EPOCH).unwrap();
    let large = entries
        .iter()
        .filter(|entry| entry.client.program.starts_with("large"));
    assert_eq!(large.count(), 150);
    assert!(entries.len() < 420, "the oldest are gone");
    let oldest = entries
        .iter()
        .flat_map(|entry| entry.buckets.keys())
        .map(|bucket| bucket.hour)
        .min();
    let begin = coverage.spans[0].from;
    assert!(
        begin.hour() <= oldest.unwrap(),
        "coverage is not longer than counts"
    );
    assert!(begin > NOW - 3 * HOUR, "and not shorter");
}

#[test]
fn expired_data_takes_its_client_and_coverage_along() {
    let directory = tempfile::tempdir().unwrap();
    let limits = StoreLimits { days: 2, mib: 256 };
    let mut store = Store::open(directory.path(), limits).unwrap();
    for day in 0..5 {
        let time = NOW + day * 24 * HOUR;
        let delta = [
            entry(&format!("day-{day}"), time, 1),
            entry("always", time, 1),
        ];
        store.commit(&delta, &watched(NOW, time), time).unwrap();
    }
    assert_eq!(
        store.load(EPOCH).unwrap().0.len(),
        6,
        "an hour has to begin"
    );
    let time = NOW + (4 * 24 + 1) * HOUR;
    store.commit(&[], &watched(NOW, time), time).unwrap();
    let (entries, coverage) = store.load(EPOCH).unwrap();
    let names = entries.iter().map(|entry| &entry.client.program[..]);
    assert_eq!(names.collect::<Vec<_>>(), ["always", "day-3", "day-4"]);
    assert_eq!(entries[0].buckets.len(), 2);
    let begin = (time - 48 * HOUR).hour().begin();
    assert_eq!((coverage.spans.len(), coverage.spans[0].from), (1, begin));
}

#[test]
fn a_clock_that_jumps_expires_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let year = 365 * 24 * HOUR;
    for time in [NOW, NOW + HOUR, NOW + year, NOW + 2 * HOUR, NOW + 3 * HOUR] {
        let delta = [entry("app", time, 1)];
        store.commit(&delta, &watched(NOW, time), time).unwrap();
    }
    assert_eq!(calls(&store.load(EPOCH).unwrap().0), 5);
}

#[test]
fn an_endless_reader_does_not_grow_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let limits = StoreLimits {
        days: 90,
        mib: StoreLimits::MIN_MIB,
    };
    let mut store = Store::open(directory.path(), limits).unwrap();
    store
        .commit(&[entry("app", NOW, 1)], &Coverage::default(), NOW)
        .unwrap();
    let reader = Connection::open(&store.path).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM client;")
        .unwrap();
    let one = [entry("app", NOW, 1)];
    let mut commits = 1;
    let error = loop {
        match store.commit(&one, &Coverage::default(), NOW) {
            Ok(()) => commits += 1,
            Err(error) => break error,
        }
        assert!(size(directory.path()) < 3 << 20, "after {commits} commits");
    };
    assert!(matches!(error, StoreError::Busy(_)), "{error}");
    drop(reader);
    store.commit(&one, &Coverage::default(), NOW).unwrap();
    assert_eq!(stored_calls(directory.path()), commits + 1);
}

/// A file system of a few MiB of the test's own, gone at the end.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(mib: u32) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = is_root()
            && Command::new("mount")
                .args([
                    "-t",
                    "tmpfs",
                    "-o",
                    &format!("size={mib}m,mode=700"),
                    "tmpfs",
                ])
                .arg(directory.path())
                .status()
                .is_ok_and(|status| status.success());
        if mounted {
            return Some(Self(directory));
        }
        println!("SKIPPED: a small file system needs root and mount(8)");
        None
    }

    fn remount(&self, option: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{option}")])
            .arg(self.0.path())
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

#[test]
fn a_full_disk_loses_nothing_once_there_is_room() {
    let Some(disk) = Disk::new(6) else { return };
    let directory = disk.0.path().join("store");
    let mut store = open(&directory);
    store
        .commit(&[entry("app", NOW, 1)], &watched(NOW, NOW), NOW)
        .unwrap();
    let ballast = disk.0.path().join("ballast");
    // As much as there is: the write that fails has filled the rest.
    drop(fs::write(&ballast, vec![0; 8 << 20]));
    let many: Vec<ClientStats> = (0..50)
        .map(|n| talkative(&format!("app-{n}"), NOW))
        .collect();
    for _ in 0..3 {
        let error = store.commit(&many, &watched(NOW, NOW), NOW).unwrap_err();
        assert!(matches!(error, StoreError::Full(_)), "{error}");
        assert_eq!(stored_calls(&directory), 1, "readers still read");
    }
    fs::remove_file(&ballast).unwrap();
    store.commit(&many, &watched(NOW, NOW), NOW).unwrap();
    assert_eq!(calls(&store.load(EPOCH).unwrap().0), 51);
    drop(store);
    assert_eq!(open(&directory).quarantine(), None);
}

#[test]
fn a_store_on_a_full_disk_is_an_error() {
    let Some(disk) = Disk::new(1) else { return };
    let directory = disk.0.path().join("store");
    let ballast = disk.0.path().join("ballast");
    drop(fs::write(&ballast, vec![0; 2 << 20]));
    let error = Store::open(&directory, StoreLimits::default())
        .err()
        .unwrap();
    assert!(!error.is_damage(), "{error}");
    fs::remove_file(&ballast).unwrap();
    let mut store = open(&directory);
    assert_eq!(store.quarantine(), None, "a begin that failed is no damage");
    store
        .commit(&[entry("app", NOW, 1)], &Coverage::default(), NOW)
        .unwrap();
}

#[test]
fn a_read_only_disk_is_read_and_later_written() {
    let Some(disk) = Disk::new(6) else { return };
    let directory = disk.0.path().join("store");
    let mut store = open(&directory);
    store
        .close(&[entry("app", NOW, 1)], &watched(NOW, NOW), NOW)
        .unwrap();
    drop(store);
    disk.remount("ro");
    assert_eq!(stored_calls(&directory), 1);
    let error = Store::open(&directory, StoreLimits::default())
        .err()
        .unwrap();
    assert!(matches!(error, StoreError::Directory { .. }), "{error}");
    assert!(error.to_string().contains("read-only"), "{error}");
    disk.remount("rw");
    assert_eq!(calls(&open(&directory).load(EPOCH).unwrap().0), 1);
}

#[test]
fn reading_needs_read_permission_only() {
    if !is_root() {
        println!("SKIPPED: becoming another user needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    store
        .close(&[entry("app", NOW, 1)], &watched(NOW, NOW), NOW)
        .unwrap();
    let path = store.path.clone();
    let as_unprivileged = |path: &Path| {
        let path = path.to_owned();
        // A thread has its own file system identity, and its rights end with it.
        let thread = std::thread::spawn(move || {
            // SAFETY: changes this thread's identity for file access alone; it takes numbers and
            // touches no memory.
            unsafe {
                libc::setfsgid(65534);
                libc::setfsuid(65534);
            }
            StoreReader::open(&path).and_then(|mut reader| reader.load(EPOCH))
        });
        thread.join().unwrap()
    };
    let open_up = |directory: &Path| {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        for file in fs::read_dir(directory).unwrap() {
            let path = file.unwrap().path();
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        }
    };
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = as_unprivileged(&path).unwrap_err();
    assert!(matches!(error, StoreError::Denied(_)), "{error}");
    assert!(error.to_string().contains("root"), "{error}");
    open_up(directory.path());
    assert_eq!(
        calls(&as_unprivileged(&path).unwrap().0),
        1,
        "while the service runs"
    );
    // As a kill leaves it: the log is not in the database yet.
    let killed = tempfile::tempdir().unwrap();
    for file in fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), killed.path().join(file.file_name())).unwrap();
    }
    assert!(killed.path().join(format!("{DATABASE}-wal")).exists());
    open_up(killed.path());
    assert_eq!(
        calls(&as_unprivileged(killed.path()).unwrap().0),
        1,
        "after a kill"
    );
    drop(store);
    assert_eq!(
        calls(&as_unprivileged(&path).unwrap().0),
        1,
        "after the end"
    );
}
