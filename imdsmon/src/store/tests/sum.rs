//! However counts are cut into deltas, what is loaded is their sum.

use proptest::prelude::*;

use super::*;

/// Which client, which hour, which answer, how often.
type Add = (u8, u32, bool, i64);

fn adds() -> impl Strategy<Value = Vec<Vec<Add>>> {
    let add = (0..4_u8, 0..5_u32, any::<bool>(), 1..1000_i64);
    prop::collection::vec(prop::collection::vec(add, 0..8), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_sum_of_deltas_is_what_is_loaded(deltas in adds(), restarts: u8) {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open(directory.path());
        let mut sum: BTreeMap<(String, BucketKey), i64> = BTreeMap::new();
        for (number, delta) in deltas.iter().enumerate() {
            if restarts >> (number % 8) & 1 == 1 {
                drop(store);
                store = open(directory.path());
            }
            let mut entries = Vec::new();
            for (client, hour, is_ok, count) in delta {
                let time = NOW - *hour * HOUR;
                let mut new = entry(&format!("client-{client}"), time, 0);
                let response = if *is_ok { ResponseClass::Ok } else { ResponseClass::None };
                let bucket = BucketKey { response, ..bucket(time.hour()) };
                new.buckets = BTreeMap::from([(bucket, *count)]);
                *sum.entry((new.client.program.clone(), bucket)).or_default() += count;
                entries.push(new);
            }
            store.commit(&entries, &Coverage::default(), NOW).unwrap();
        }
        let (entries, _) = store.load(EPOCH).unwrap();
        let loaded: BTreeMap<(String, BucketKey), i64> = entries
            .into_iter()
            .flat_map(|entry| {
                let name = entry.client.program;
                entry.buckets.into_iter().map(move |(bucket, count)| ((name.clone(), bucket), count))
            })
            .collect();
        prop_assert_eq!(loaded, sum);
    }
}

#[test]
fn corrected_counts_are_not_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    store
        .commit(&[entry("app", NOW, 3)], &Coverage::default(), NOW)
        .unwrap();
    let mut correction = entry("app", NOW, -2);
    let shown = BucketKey {
        cause: Cause::AfterNoResponse,
        ..bucket(NOW.hour())
    };
    correction.buckets.insert(shown, 2);
    store
        .commit(&[correction], &Coverage::default(), NOW)
        .unwrap();
    let (entries, _) = store.load(EPOCH).unwrap();
    let expected = BTreeMap::from([(bucket(NOW.hour()), 1), (shown, 2)]);
    assert_eq!(entries[0].buckets, expected);
}
