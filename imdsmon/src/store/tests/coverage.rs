//! When the monitor ran: through restarts, crashes and clocks that are set back.

use super::*;
use crate::ledger::coverage::{Doubt, DoubtKind};

fn spans(directory: &Path) -> Vec<(i64, i64, bool)> {
    let (_, coverage) = StoreReader::open(directory).unwrap().load(EPOCH).unwrap();
    let spans = coverage.spans.iter();
    spans
        .map(|span| {
            (
                span.from.hour().since(NOW.hour()),
                span.to.hour().since(NOW.hour()),
                span.is_complete,
            )
        })
        .collect()
}

fn at(hours: i64) -> Timestamp {
    NOW.hour().plus(hours).begin() + NOW.since(NOW.hour().begin())
}

#[test]
fn a_span_grows_and_a_restart_leaves_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    for hours in 1..4 {
        store
            .commit(&[], &watched(at(0), at(hours)), at(hours))
            .unwrap();
    }
    assert_eq!(spans(directory.path()), [(0, 3, true)]);
    store.close(&[], &watched(at(0), at(4)), at(4)).unwrap();
    drop(store);
    assert_eq!(spans(directory.path()), [(0, 4, true)]);
    let mut store = open(directory.path());
    store.commit(&[], &watched(at(6), at(7)), at(7)).unwrap();
    assert_eq!(spans(directory.path()), [(0, 4, true), (6, 7, true)]);
}

#[test]
fn a_killed_service_leaves_an_incomplete_span() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    store.commit(&[], &watched(at(0), at(1)), at(1)).unwrap();
    assert_eq!(spans(directory.path()), [(0, 1, true)], "it still watches");
    drop(store);
    assert_eq!(spans(directory.path()), [(0, 1, false)], "it is gone");
    let mut store = open(directory.path());
    let (_, coverage) = store.load(EPOCH).unwrap();
    assert!(!coverage.spans[0].is_complete, "the next run knows it, too");
    store.commit(&[], &watched(at(2), at(3)), at(3)).unwrap();
    assert_eq!(spans(directory.path()), [(0, 1, false), (2, 3, true)]);
}

#[test]
fn a_clock_set_back_by_a_day_removes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let first = [entry("app", at(3), 1)];
    store.commit(&first, &watched(at(0), at(3)), at(3)).unwrap();
    // In the same run, and again in the next.
    let second = [entry("app", at(-21), 1)];
    store
        .commit(&second, &watched(at(0), at(-21)), at(-21))
        .unwrap();
    assert_eq!(spans(directory.path()), [(0, 3, true)]);
    store.close(&[], &watched(at(0), at(-20)), at(-20)).unwrap();
    drop(store);
    let mut store = open(directory.path());
    let third = [entry("app", at(1), 1)];
    store
        .commit(&third, &watched(at(-20), at(1)), at(1))
        .unwrap();
    let (entries, coverage) = store.load(EPOCH).unwrap();
    assert_eq!(calls(&entries), 3);
    assert_eq!(
        spans(directory.path()),
        [(-20, 3, true)],
        "in order, without overlap"
    );
    assert_eq!(coverage.spans[0].segments, 2);
}

#[test]
fn doubts_of_spans_that_overlap_are_added() {
    let directory = tempfile::tempdir().unwrap();
    let cut = |count| Doubt {
        count,
        kind: DoubtKind::TruncatedBytes,
    };
    let other = Doubt {
        count: 3,
        kind: DoubtKind::Other("of a later version".into()),
    };
    for (from, doubts) in [(at(0), vec![cut(1)]), (at(1), vec![cut(2), other.clone()])] {
        let mut store = open(directory.path());
        let mut coverage = watched(from, at(2));
        coverage.spans[0].doubts = doubts;
        coverage.spans[0].lost_records = 5;
        store.close(&[], &coverage, at(2)).unwrap();
    }
    let (_, coverage) = StoreReader::open(directory.path())
        .unwrap()
        .load(EPOCH)
        .unwrap();
    let [span] = &coverage.spans[..] else {
        panic!("one span, not {coverage:?}");
    };
    assert_eq!(span.lost_records, 10);
    assert_eq!(span.doubts, [cut(3), other]);
}

#[test]
fn the_latest_self_test_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    for (time, result) in [(at(1), Err("no calls".to_owned())), (at(2), Ok(()))] {
        let coverage = Coverage {
            spans: Vec::new(),
            self_test: Some(SelfTest { time, result }),
        };
        store.commit(&[], &coverage, time).unwrap();
    }
    let (_, coverage) = store.load(EPOCH).unwrap();
    assert_eq!(
        coverage.self_test,
        Some(SelfTest {
            time: at(2),
            result: Ok(())
        })
    );
}
