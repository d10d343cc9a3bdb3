//! Stores written by schema 1, with sentences in place of words for doubts.

use super::*;
use crate::ledger::coverage::DoubtKind;

const WRITTEN_BY_1: &str = include_str!("../../../tests/fixtures/store-v1.sql");

fn written(directory: &Path) -> PathBuf {
    let path = directory.join(DATABASE);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(WRITTEN_BY_1).unwrap();
    path
}

fn assert_loaded((entries, coverage): &(Vec<ClientStats>, Coverage)) {
    let counts: Vec<_> = entries
        .iter()
        .map(|entry| (entry.client.program.as_str(), entry.calls()))
        .collect();
    assert_eq!(
        counts,
        [("curl", 4), ("curl from /opt/app/empty-token.sh", 2)]
    );
    let sample = &entries[1].evidence.samples[0];
    assert_eq!(sample.cause, Cause::HeaderInArguments);
    assert_eq!(sample.response, ResponseClass::Ok);
    let doubts: Vec<Vec<_>> = coverage
        .spans
        .iter()
        .map(|span| span.doubts.iter().map(|d| (d.count, &d.kind)).collect())
        .collect();
    let unknown = DoubtKind::Other("things of an unknown version went wrong".into());
    assert_eq!(
        doubts,
        [
            vec![
                (1, &DoubtKind::TruncatedBytes),
                (2, &DoubtKind::UnknownRecords),
                (3, &DoubtKind::MissingBytes),
                (4, &DoubtKind::UnseenResponses),
                (5, &DoubtKind::UnmatchedResponses),
                (6, &DoubtKind::EvictedConnections),
                (7, &DoubtKind::MergedProcesses),
                (8, &DoubtKind::ForgottenProcesses),
                (9, &DoubtKind::FailedSelfTests),
            ],
            vec![(10, &DoubtKind::MissingBytes), (11, &unknown)],
        ]
    );
}

#[test]
fn a_store_of_schema_1_is_read_without_being_migrated() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(directory.path());
    assert_loaded(
        &StoreReader::open(directory.path())
            .unwrap()
            .load(EPOCH)
            .unwrap(),
    );
    let connection = Connection::open(&path).unwrap();
    assert_eq!(schema::pragma(&connection, "user_version").unwrap(), 1);
}

#[test]
fn a_store_of_schema_1_is_migrated_and_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(directory.path());
    let mut store = open(directory.path());
    assert_eq!(store.quarantine(), None);
    assert_loaded(&store.load(EPOCH).unwrap());
    let doubts: String = store
        .connection
        .query_row("SELECT group_concat(doubts) FROM span", [], |row| {
            row.get(0)
        })
        .unwrap();
    // Every known sentence became a word; the one of an unknown version is kept as it was.
    let kept = "things of an unknown version went wrong";
    assert_eq!(doubts.matches(kept).count(), 1, "{doubts}");
    assert!(!doubts.replace(kept, "").contains(' '), "{doubts}");
    // The same client is recognised.
    let (mut entries, _) = store.load(EPOCH).unwrap();
    entries.truncate(1);
    store.commit(&entries, &Coverage::default(), NOW).unwrap();
    drop(store);
    let connection = Connection::open(&path).unwrap();
    assert_eq!(schema::pragma(&connection, "user_version").unwrap(), 2);
    let (entries, _) = StoreReader::open(directory.path())
        .unwrap()
        .load(EPOCH)
        .unwrap();
    assert_eq!((entries.len(), entries[0].calls()), (2, 8));
}
