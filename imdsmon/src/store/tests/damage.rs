//! Databases that cannot be used: renamed, never deleted, and watching goes on with a new one.

use std::{
    io::{Seek as _, SeekFrom, Write as _},
    process,
};

use super::*;

/// A closed store with a few hundred clients, and the path of its database.
fn filled(directory: &Path) -> PathBuf {
    let mut store = open(directory);
    let many: Vec<ClientStats> = (0..300)
        .map(|n| entry(&format!("app-{n}"), NOW, 1))
        .collect();
    store.close(&many, &watched(NOW - HOUR, NOW), NOW).unwrap();
    store.path.clone()
}

/// Opens it, and expects that it was set quarantined, whole, and a new one begun.
fn assert_quarantined(directory: &Path, word: &str, reason: &str) -> PathBuf {
    let database = directory.join(DATABASE);
    let before = fs::read(&database).unwrap();
    let mut store = open(directory);
    let Quarantined { path, reason: why } = store.quarantine().unwrap().clone();
    assert!(why.contains(reason), "{why}");
    assert!(why.contains(database.to_str().unwrap()), "{why}");
    assert!(path.to_str().unwrap().contains(word), "{path:?}");
    assert_eq!(fs::read(&path).unwrap(), before);
    store
        .commit(&[entry("app", NOW, 1)], &Coverage::default(), NOW)
        .unwrap();
    drop(store);
    assert_eq!(stored_calls(directory), 1);
    path
}

#[test]
fn garbage_is_quarantined_under_a_new_name_each_time() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let path = filled(directory.path());
        fs::write(path, "garbage".repeat(3000)).unwrap();
        assert_quarantined(directory.path(), "damaged", "not a database");
    }
    let quarantined = fs::read_dir(directory.path()).unwrap().filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        name.to_str().unwrap().contains("damaged")
    });
    assert_eq!(quarantined.count(), 3);
}

#[test]
fn a_truncated_database_is_quarantined() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path());
    let length = fs::metadata(&path).unwrap().len();
    for keep in [100, 4096 + 17, length / 2] {
        let path = filled(directory.path());
        fs::OpenOptions::new()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(keep)
            .unwrap();
        assert_quarantined(directory.path(), "damaged", "");
    }
}

#[test]
fn random_damage_is_detected_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let original = fs::read(filled(directory.path())).unwrap();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut quarantined = 0;
    for _ in 0..40 {
        let mut damaged = original.clone();
        for _ in 0..64 {
            // xorshift64
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let at = usize::try_from(random).unwrap() % damaged.len();
            damaged[at] = random.to_be_bytes()[0];
        }
        fs::write(directory.path().join(DATABASE), &damaged).unwrap();
        let mut store = open(directory.path());
        quarantined += usize::from(store.quarantine().is_some());
        // Nothing of it may panic; what is wrong in a text is an error or another text.
        drop(store.load(EPOCH));
        drop(store.commit(&[entry("app", NOW, 1)], &watched(NOW, NOW), NOW));
        drop(store);
        drop(StoreReader::open(directory.path()).map(|mut reader| reader.load(EPOCH)));
    }
    assert!(quarantined > 20, "{quarantined}");
}

#[test]
fn a_log_without_its_database_is_quarantined() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(DATABASE);
    let log = dir::sidecar(&path, "-wal");
    fs::write(&log, "the only copy").unwrap();
    let store = open(directory.path());
    let quarantined = store.quarantine().unwrap();
    assert_eq!(
        fs::read(dir::sidecar(&quarantined.path, "-wal")).unwrap(),
        b"the only copy"
    );
}

#[test]
fn a_newer_schema_is_quarantined_and_an_error_for_readers() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path());
    let connection = Connection::open(&path).unwrap();
    schema::set_pragma(&connection, "user_version", 7).unwrap();
    drop(connection);
    let error = StoreReader::open(directory.path()).err().unwrap();
    assert!(
        error.to_string().contains("newer imdsmon (schema 7"),
        "{error}"
    );
    let quarantined = assert_quarantined(directory.path(), "newer", "newer imdsmon (schema 7");
    // The newer imdsmon can have it back.
    let connection = Connection::open(quarantined).unwrap();
    let clients: i64 = connection
        .query_row("SELECT count(*) FROM client", [], |row| row.get(0))
        .unwrap();
    assert_eq!(clients, 300);
}

#[test]
fn a_database_of_another_program_is_quarantined() {
    let directory = tempfile::tempdir().unwrap();
    let connection = Connection::open(directory.path().join(DATABASE)).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(connection);
    assert_quarantined(directory.path(), "damaged", "not a store of imdsmon");
}

#[test]
fn migrations_are_ordered_and_atomic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("any.db");
    let mut connection = Connection::open(&path).unwrap();
    let first = "CREATE TABLE a (x); INSERT INTO a VALUES (1);";
    let second = "ALTER TABLE a ADD COLUMN y; UPDATE a SET y = x + 1;";
    let broken = "UPDATE a SET y = 9; INSERT INTO nowhere VALUES (1);";
    let y = |connection: &Connection| -> i64 {
        connection
            .query_row("SELECT y FROM a", [], |row| row.get(0))
            .unwrap()
    };
    schema::migrate(&mut connection, &path, &[first]).unwrap();
    assert_eq!(schema::pragma(&connection, "user_version").unwrap(), 1);
    schema::migrate(&mut connection, &path, &[first, second]).unwrap();
    schema::migrate(&mut connection, &path, &[first, second]).unwrap();
    assert_eq!(
        (
            schema::pragma(&connection, "user_version").unwrap(),
            y(&connection)
        ),
        (2, 2)
    );
    schema::migrate(&mut connection, &path, &[first, second, broken]).unwrap_err();
    assert_eq!(
        (
            schema::pragma(&connection, "user_version").unwrap(),
            y(&connection)
        ),
        (2, 2)
    );
}

#[test]
fn unreadable_evidence_keeps_the_counts() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path());
    let connection = Connection::open(&path).unwrap();
    connection
        .execute("UPDATE client SET evidence = '{\"paths\": 3'", [])
        .unwrap();
    drop(connection);
    let mut store = open(directory.path());
    assert_eq!(calls(&store.load(EPOCH).unwrap().0), 300);
    store
        .commit(&[entry("app-7", NOW, 1)], &Coverage::default(), NOW)
        .unwrap();
    assert_eq!(calls(&store.load(EPOCH).unwrap().0), 301);
}

#[test]
fn damage_at_run_time_is_an_error_and_loses_no_delta() {
    let directory = tempfile::tempdir().unwrap();
    let path = filled(directory.path());
    let mut store = open(directory.path());
    store.commit(&[], &watched(NOW, NOW), NOW).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(4096)).unwrap();
    file.write_all(&vec![
        0xa5;
        usize::try_from(fs::metadata(&path).unwrap().len())
            .unwrap()
    ])
    .unwrap();
    let delta = [entry(&format!("app-{}", process::id()), NOW, 1)];
    let mut result = Ok(());
    // The pages that it needs may still be in memory.
    for _ in 0..100 {
        store
            .connection
            .execute_batch("PRAGMA shrink_memory")
            .unwrap();
        result = store.commit(&delta, &Coverage::default(), NOW);
        if result.is_err() {
            break;
        }
    }
    assert!(
        result.as_ref().is_err_and(StoreError::is_damage),
        "{result:?}"
    );
    drop(store);
    let mut store = open(directory.path());
    assert!(store.quarantine().is_some());
    store.commit(&delta, &Coverage::default(), NOW).unwrap();
    assert_eq!(calls(&store.load(EPOCH).unwrap().0), 1);
}

#[test]
fn a_database_removed_at_run_time_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let delta = [entry("app", NOW, 1)];
    for remove_all in [false, true] {
        let path = filled(directory.path());
        let mut store = open(directory.path());
        store.commit(&[], &watched(NOW, NOW), NOW).unwrap();
        fs::remove_file(&path).unwrap();
        if remove_all {
            for file in fs::read_dir(directory.path()).unwrap() {
                fs::remove_file(file.unwrap().path()).unwrap();
            }
        }
        let error = store.commit(&delta, &Coverage::default(), NOW).unwrap_err();
        assert!(
            error.is_damage() && error.to_string().contains("removed"),
            "{error}"
        );
        drop(store);
        let mut store = open(directory.path());
        store.commit(&delta, &Coverage::default(), NOW).unwrap();
        drop(store);
        assert_eq!(stored_calls(directory.path()), 1);
    }
}
