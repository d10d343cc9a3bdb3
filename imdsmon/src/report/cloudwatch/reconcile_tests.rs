//! What imdsmon saw beside what CloudWatch counted.

use std::{collections::BTreeMap, fmt::Write as _};

use proptest::prelude::*;

use super::{
    read_tests::{T0, parse},
    *,
};
use crate::{
    http::call::{Auth, TokenValue},
    knowledge::PathClass,
    ledger::{BucketKey, Cause, ClientStats, ResponseClass as Status, coverage::Span},
    report::model::{MetricReport, Reconciliation},
    time::{Hour, Timestamp},
};

/// CloudWatch's count of five minutes each, from [`T0`] on.
fn five_minutes(metric: &str, sums: impl IntoIterator<Item = u64>) -> CloudWatchMetrics {
    let mut text = format!(r#"{{"Label": "{metric}", "Datapoints": ["#);
    for (i, sum) in sums.into_iter().enumerate() {
        let at = rfc3339(T0 + i64::try_from(i).unwrap() * 300);
        let comma = if i == 0 { "" } else { "," };
        write!(text, r#"{comma}{{"Timestamp": "{at}", "Sum": {sum}.0}}"#).unwrap();
    }
    parse(&(text + "]}")).unwrap()
}

/// Calls that imdsmon saw, by the hour from [`T0`] on: successful and rejected.
fn hours(counts: &[(u64, u64)]) -> BTreeMap<i64, Counts> {
    let hour = |(i, &(successful, rejected)): (usize, &(u64, u64))| {
        let counts = Counts {
            successful,
            rejected,
        };
        (T0 / HOUR + i64::try_from(i).unwrap(), counts)
    };
    counts.iter().enumerate().map(hour).collect()
}

/// Watched from one minute after [`T0`] to another.
fn watched(from: i64, to: i64) -> Span {
    Span {
        from: Timestamp::from_secs(T0 + from * 60),
        to: Timestamp::from_secs(T0 + to * 60),
        is_complete: true,
        ..Span::default()
    }
}

fn only(reconciliation: &Reconciliation) -> &MetricReport {
    assert_eq!(reconciliation.metrics.len(), 1, "{reconciliation:#?}");
    &reconciliation.metrics[0]
}

#[test]
fn all_is_explained() {
    let metrics = five_minutes("MetadataNoToken", [1; 24]);
    let result = reconcile(&metrics, &hours(&[(12, 0), (12, 7)]), &[watched(-5, 125)]);
    let report = only(&result);
    assert_eq!((report.cloudwatch, report.imdsmon), (24.0, 24));
    assert_eq!(report.explained, Some(1.0));
    assert_eq!(
        (report.period_s, report.compared, report.left_out),
        (3600, 2, 0)
    );
    assert!(report.differences.is_empty());
    assert_eq!(
        result.sentence,
        "MetadataNoToken: imdsmon captured all 24 calls that CloudWatch counted in 2 whole hours."
    );
}

#[test]
fn missed_calls_are_placed_in_their_hour() {
    let metrics = five_minutes("MetadataNoToken", [1; 36]);
    let mut span = watched(0, 180);
    let seen = hours(&[(12, 0), (2, 0), (11, 0)]);
    let result = reconcile(&metrics, &seen, &[span.clone()]);
    let report = only(&result);
    assert_eq!(report.explained, Some(25.0 / 36.0));
    let differences: Vec<_> = report
        .differences
        .iter()
        .map(|one| (one.begin.to_rfc3339_seconds(), one.cloudwatch, one.imdsmon))
        .collect();
    assert_eq!(
        differences,
        [
            ("2026-11-28T01:00:00Z".to_owned(), 12.0, 2),
            ("2026-11-28T02:00:00Z".to_owned(), 12.0, 11)
        ]
    );
    for words in [
        "captured 69.4 % of the 36 calls",
        "missed 11 of them, 10 from 2026-11-28T01:00:00Z on.",
        "before you require IMDSv2",
    ] {
        assert!(result.sentence.contains(words), "{}", result.sentence);
    }
    assert!(!result.sentence.contains("dropped"), "{}", result.sentence);
    span.lost_records = 3;
    let sentence = reconcile(&metrics, &seen, &[span]).sentence;
    assert!(
        sentence.contains("3 ring buffer records were dropped"),
        "{sentence}"
    );
}

#[test]
fn one_missed_call_of_many_is_not_rounded_away() {
    let metrics = five_minutes("MetadataNoToken", [100_000; 12]);
    let result = reconcile(&metrics, &hours(&[(1_199_999, 0)]), &[watched(0, 60)]);
    assert!(result.sentence.contains("99.9 %"), "{}", result.sentence);
    assert!(only(&result).explained.unwrap() < 1.0);
}

#[test]
fn hours_not_observed_in_full_are_left_out() {
    let metrics = five_minutes("MetadataNoToken", [1; 48]);
    // The second hour has a gap, the fourth ends early: their counts are no evidence.
    let spans = [watched(0, 90), watched(91, 239)];
    let seen = hours(&[(12, 0), (3, 0), (12, 0), (3, 0)]);
    let result = reconcile(&metrics, &seen, &spans);
    let report = only(&result);
    assert_eq!((report.compared, report.left_out), (2, 2));
    assert_eq!(report.explained, Some(1.0));
}

#[test]
fn hours_incomplete_in_cloudwatch_are_left_out() {
    let metrics = five_minutes("MetadataNoToken", [1; 23]);
    let result = reconcile(&metrics, &hours(&[(12, 0), (12, 0)]), &[watched(0, 120)]);
    let report = only(&result);
    assert_eq!((report.compared, report.left_out), (1, 1));
}

#[test]
fn a_call_at_the_turn_of_the_hour_is_not_missing() {
    let metrics = five_minutes("MetadataNoToken", [1; 24]);
    let spans = [watched(0, 120)];
    for (first, second) in [(13, 11), (11, 13)] {
        let result = reconcile(&metrics, &hours(&[(first, 0), (second, 0)]), &spans);
        assert_eq!(only(&result).explained, Some(1.0), "{}", result.sentence);
        assert_eq!(only(&result).differences.len(), 2);
    }
    // What is hours away explains nothing.
    let metrics = five_minutes("MetadataNoToken", [1; 36]);
    let seen = hours(&[(22, 0), (12, 0), (2, 0)]);
    let result = reconcile(&metrics, &seen, &[watched(0, 180)]);
    assert_eq!(only(&result).explained, Some(26.0 / 36.0));
}

#[test]
fn calls_that_cloudwatch_did_not_count_are_reported() {
    let spans = [watched(0, 60)];
    let metrics = five_minutes("MetadataNoToken", [1; 12]);
    let result = reconcile(&metrics, &hours(&[(15, 0)]), &spans);
    assert!(
        result.sentence.contains("and 3 more"),
        "{}",
        result.sentence
    );
    assert_eq!(only(&result).explained, Some(1.0));
    let metrics = five_minutes("MetadataNoToken", [0; 12]);
    let result = reconcile(&metrics, &hours(&[(15, 0)]), &spans);
    assert!(
        result.sentence.contains("none of the 15"),
        "{}",
        result.sentence
    );
    assert_eq!(only(&result).explained, None);
    let result = reconcile(&metrics, &BTreeMap::new(), &spans);
    assert!(
        result.sentence.contains("missed none"),
        "{}",
        result.sentence
    );
}

#[test]
fn rejected_calls_are_compared_once_imdsv2_is_required() {
    let metrics = five_minutes("MetadataNoTokenRejected", [2; 12]);
    let result = reconcile(&metrics, &hours(&[(0, 20)]), &[watched(0, 60)]);
    let report = only(&result);
    assert_eq!(report.metric, "MetadataNoTokenRejected");
    assert_eq!((report.cloudwatch, report.imdsmon), (24.0, 20));
    assert!(
        result.sentence.contains("Their clients are unknown"),
        "{}",
        result.sentence
    );
    assert!(
        !result.sentence.contains("require IMDSv2"),
        "{}",
        result.sentence
    );
}

#[test]
fn period_without_a_whole_hour_only_shows_missed_calls() {
    let metrics = five_minutes("MetadataNoToken", [2; 12]);
    // Five points were watched whole, from 00:10 to 00:35.
    let spans = [watched(7, 36)];
    let result = reconcile(&metrics, &hours(&[(12, 0)]), &spans);
    let report = only(&result);
    assert_eq!((report.cloudwatch, report.imdsmon), (10.0, 12));
    assert_eq!(
        (report.period_s, report.compared, report.left_out),
        (300, 5, 7)
    );
    assert_eq!(report.explained, Some(1.0));
    assert!(
        result
            .sentence
            .contains("one whole hour of observation is required"),
        "{}",
        result.sentence
    );
    let result = reconcile(&metrics, &hours(&[(4, 0)]), &spans);
    assert_eq!(only(&result).explained, Some(0.4));
    assert!(
        result.sentence.contains("at most 40.0 %"),
        "{}",
        result.sentence
    );
}

#[test]
fn longer_periods_are_compared_as_they_are() {
    let text = r#"{"Label": "MetadataNoToken", "Datapoints": [
        {"Timestamp": "2026-11-28T00:00:00Z", "Sum": 5},
        {"Timestamp": "2026-11-28T02:00:00Z", "Sum": 6}]}"#;
    let metrics = parse(text).unwrap();
    let seen = hours(&[(2, 0), (3, 0), (6, 0), (0, 0)]);
    let result = reconcile(&metrics, &seen, &[watched(0, 240)]);
    let report = only(&result);
    assert_eq!((report.period_s, report.compared), (7200, 2));
    assert_eq!(report.explained, Some(1.0));
    assert!(
        result.sentence.contains("2 periods of 2 hours"),
        "{}",
        result.sentence
    );
}

#[test]
fn nothing_to_compare_is_no_agreement() {
    let metrics = five_minutes("MetadataNoToken", [1; 12]);
    for spans in [vec![], vec![watched(-600, -300)], vec![watched(1, 4)]] {
        let result = reconcile(&metrics, &hours(&[(12, 0)]), &spans);
        assert_eq!(only(&result).compared, 0);
        assert_eq!(only(&result).explained, None);
        assert!(
            result.sentence.contains("nothing can be compared"),
            "{}",
            result.sentence
        );
    }
    let none = parse(r#"{"Label": "MetadataNoToken", "Datapoints": []}"#).unwrap();
    let result = reconcile(&none, &BTreeMap::new(), &[watched(0, 60)]);
    assert!(result.metrics.is_empty());
    assert!(
        result.sentence.contains("check its region"),
        "{}",
        result.sentence
    );
}

#[test]
fn only_imdsv1_calls_with_a_response_count() {
    let bucket = |auth, response| BucketKey {
        hour: Hour::new(7),
        auth,
        response,
        path: PathClass::Credentials,
        cause: Cause::Plain,
    };
    let entry = |buckets: &[(Auth, Status, i64)]| ClientStats {
        buckets: buckets
            .iter()
            .map(|&(auth, response, count)| (bucket(auth, response), count))
            .collect(),
        ..ClientStats::default()
    };
    let entries = [
        entry(&[
            (Auth::V1, Status::Ok, 3),
            (Auth::V1, Status::Unauthorized, 2),
            (Auth::V1, Status::NotImds, 50),
            (Auth::V1, Status::NotFound, 60),
            (Auth::V2(TokenValue::Present), Status::Ok, 70),
            (Auth::TokenRequest, Status::Ok, 80),
        ]),
        entry(&[(Auth::V1, Status::Ok, 4)]),
        // Takes back what was counted before.
        entry(&[(Auth::V1, Status::Ok, -1)]),
    ];
    let expected = Counts {
        successful: 6,
        rejected: 2,
    };
    assert_eq!(counts(&entries), [(7, expected)].into());
}

/// Hours since 1970 that CloudWatch may name: near those that are watched, or anywhere.
fn hour() -> impl Strategy<Value = i64> {
    prop_oneof![T0 / HOUR..T0 / HOUR + 48, 0..70_000_000_i64]
}

/// Times near those hours, or any that there are.
fn time() -> impl Strategy<Value = Timestamp> {
    let near = (T0 * 1_000_000_000)..((T0 + 48 * HOUR) * 1_000_000_000);
    prop_oneof![near, any::<i64>()].prop_map(Timestamp::from_nanos)
}

proptest! {
    #[test]
    fn no_points_and_times_make_it_panic(
        points in prop::collection::vec((hour(), 0.0..2e12_f64), 0..20),
        spans in prop::collection::vec((time(), time()), 0..4),
    ) {
        let points: Vec<_> = points
            .iter()
            .map(|(at, sum)| serde_json::json!({"Timestamp": at * 3600, "Sum": sum.trunc()}))
            .collect();
        let text = serde_json::json!({"Label": "MetadataNoToken", "Datapoints": points}).to_string();
        let spans: Vec<_> = spans
            .iter()
            .map(|&(from, to)| Span { from, to, ..Span::default() })
            .collect();
        if let Ok(metrics) = parse(&text) {
            let result = reconcile(&metrics, &hours(&[(1, 1)]), &spans);
            for report in result.metrics {
                prop_assert!(report.explained.is_none_or(|share| (0.0..=1.0).contains(&share)));
            }
        }
        for span in &spans {
            prop_assert_eq!(commands(None, span.from, span.to).len(), 2);
        }
    }
}
