//! What CloudWatch answers, and what it is asked.

use proptest::prelude::*;

use super::*;

/// 2026-11-28T00:00:00Z, a whole hour.
pub(super) const T0: i64 = 1_795_824_000;

/// What `aws cloudwatch get-metric-statistics --period 300` answers, points in any order.
const STATISTICS: &str = r#"{
    "Label": "MetadataNoToken",
    "Datapoints": [
        {"Timestamp": "2026-11-28T00:05:00+00:00", "Sum": 2.0, "Unit": "Count"},
        {"Timestamp": "2026-11-28T00:00:00+00:00", "Sum": 3.0, "Unit": "Count"},
        {"Timestamp": "2026-11-28T00:10:00Z", "Sum": 0.0, "Unit": "Count"}
    ]
}"#;

/// What `aws cloudwatch get-metric-data` answers.
const DATA: &str = r#"{
    "MetricDataResults": [
        {"Id": "a", "Label": "i-0123456789abcdef0 MetadataNoToken",
         "Timestamps": ["2026-11-28T00:05:00+00:00"], "Values": [2.0], "StatusCode": "PartialData"},
        {"Id": "b", "Label": "MetadataNoTokenRejected",
         "Timestamps": [], "Values": [], "StatusCode": "Complete"},
        {"Id": "a", "Label": "i-0123456789abcdef0 MetadataNoToken",
         "Timestamps": ["2026-11-28T00:00:00+00:00"], "Values": [3.0], "StatusCode": "Complete"}
    ],
    "Messages": []
}"#;

pub(super) fn parse(text: &str) -> Result<CloudWatchMetrics, CloudWatchError> {
    CloudWatchMetrics::read(text.as_bytes())
}

/// The error as a person reads it.
fn refused(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

fn points(metrics: &CloudWatchMetrics, metric: Metric) -> Vec<(i64, u64)> {
    let series = &metrics.0[&metric];
    series.points.iter().map(|(&at, &sum)| (at, sum)).collect()
}

#[test]
fn the_answers_of_both_commands_are_read() {
    let metrics = parse(STATISTICS).unwrap();
    let seen = points(&metrics, Metric::NoToken);
    assert_eq!(seen, [(T0, 3), (T0 + 300, 2), (T0 + 600, 0)]);
    assert_eq!(metrics.0[&Metric::NoToken].period, 300);

    let metrics = parse(DATA).unwrap();
    assert_eq!(points(&metrics, Metric::NoToken), [(T0, 3), (T0 + 300, 2)]);
    assert_eq!(points(&metrics, Metric::NoTokenRejected), []);
}

#[test]
fn answers_may_follow_each_other_in_one_file_or_come_in_two() {
    let rejected = STATISTICS.replace("NoToken", "NoTokenRejected");
    let both = parse(&format!("{STATISTICS}\n{rejected}")).unwrap();
    assert_eq!(points(&both, Metric::NoTokenRejected).len(), 3);
    let mut merged = parse(STATISTICS).unwrap();
    merged.merge(parse(&rejected).unwrap()).unwrap();
    assert_eq!(merged, both);
    // The same file again changes nothing.
    merged.merge(parse(STATISTICS).unwrap()).unwrap();
    assert_eq!(merged, both);
}

#[test]
fn seconds_and_other_time_zones_are_times_too() {
    let text = r#"{"Label": "MetadataNoToken", "Datapoints": [
        {"Timestamp": 1795824000.0, "Sum": 1},
        {"Timestamp": "2026-11-28T01:05:00+01:00", "Sum": 2}]}"#;
    let seen = points(&parse(text).unwrap(), Metric::NoToken);
    assert_eq!(seen, [(T0, 1), (T0 + 300, 2)]);
}

#[test]
fn one_point_of_a_metric_is_as_long_as_those_of_the_other() {
    let one = r#"{"Label": "MetadataNoTokenRejected", "Datapoints": [
        {"Timestamp": "2026-11-28T00:05:00Z", "Sum": 1}]}"#;
    assert!(
        refused(one).contains("more than one point"),
        "{}",
        refused(one)
    );
    let both = parse(&format!("{one}{STATISTICS}")).unwrap();
    assert_eq!(both.0[&Metric::NoTokenRejected].period, 300);
}

#[test]
fn what_is_something_else_is_refused_in_a_sentence() {
    let swap = |from: &str, to: &str| refused(&STATISTICS.replacen(from, to, 1));
    for (said, expected) in [
        (refused(""), "holds no metric"),
        (refused("{}"), "holds no metric"),
        (
            refused(r#"{"Label": "MetadataNoToken"}"#),
            "holds no metric",
        ),
        (refused(r#"{"MetricDataResults": []}"#), "holds no metric"),
        (refused("DATAPOINTS\t3.0\tCount"), "--output json"),
        (refused("[1, 2]"), "--output json"),
        (refused(&"[".repeat(1 << 20)), "--output json"),
        (refused(&STATISTICS[..100]), "--output json"),
        (refused("\u{0}\u{1}\u{2}"), "--output json"),
        (
            swap("MetadataNoToken", "CPUUtilization"),
            "`CPUUtilization`",
        ),
        (
            swap("MetadataNoToken", "MetadataNoTokens"),
            "`MetadataNoTokens`",
        ),
        (swap("Sum", "Average"), "--statistics Sum"),
        (swap("2.0", "-2.0"), "not a number of calls"),
        (swap("2.0", "2.5"), "not a number of calls"),
        (swap("2.0", "1e300"), "not a number of calls"),
        (swap("2.0", "1e999"), "--output json"),
        (
            swap("2026-11-28T00:05:00+00:00", "2026-11-28T00:05:00"),
            "time zone",
        ),
        (swap("2026-11-28T00:05:00+00:00", "yesterday"), "time zone"),
        (swap("\"2026-11-28T00:05:00+00:00\"", "1e300"), "time zone"),
        (swap("00:05:00", "00:00:00"), "two sums"),
        (swap("00:05:00", "00:05:01"), "whole hour"),
        (
            refused(&DATA.replace("\"Complete\"", "\"InternalError\"")),
            "InternalError",
        ),
        (
            refused(&DATA.replace("[3.0]", "[3.0, 4.0]")),
            "1 timestamps but 2 values",
        ),
    ] {
        assert!(
            said.contains(expected),
            "{said:?} does not say {expected:?}"
        );
    }
}

#[test]
fn errors_show_untrusted_text_escaped_and_cut() {
    let label = format!("\u{1b}[2J{}", "x".repeat(10_000));
    let text = serde_json::json!({"Label": label, "Datapoints": []}).to_string();
    let said = refused(&text);
    assert!(said.len() < 300 && !said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn a_file_without_an_end_is_refused() {
    let endless = io::repeat(b' ');
    let error = CloudWatchMetrics::read(endless).unwrap_err();
    assert!(matches!(error, CloudWatchError::TooLarge), "{error}");
}

#[test]
fn the_commands_ask_for_whole_hours_of_this_instance() {
    let at = |minute: i64| Timestamp::from_secs(T0 + minute * 60);
    assert_eq!(
        commands(Some("i-0123456789abcdef0"), at(5), at(130)),
        [
            "aws cloudwatch get-metric-statistics --namespace AWS/EC2 \
             --metric-name MetadataNoToken --dimensions Name=InstanceId,Value=i-0123456789abcdef0 \
             --start-time 2026-11-28T00:00:00Z --end-time 2026-11-28T03:00:00Z --period 300 \
             --statistics Sum --output json > cloudwatch.json",
            "aws cloudwatch get-metric-statistics --namespace AWS/EC2 \
             --metric-name MetadataNoTokenRejected \
             --dimensions Name=InstanceId,Value=i-0123456789abcdef0 \
             --start-time 2026-11-28T00:00:00Z --end-time 2026-11-28T03:00:00Z --period 300 \
             --statistics Sum --output json >> cloudwatch.json",
        ]
    );
    let unknown = &commands(None, at(0), at(0))[0];
    assert!(unknown.contains("Value=INSTANCE_ID "), "{unknown}");
    assert!(
        unknown.contains("--start-time 2026-11-27T23:00:00Z"),
        "{unknown}"
    );
}

#[test]
fn the_commands_ask_for_no_more_points_than_one_answer_has() {
    for days in [1, 5, 6, 60, 61, 400] {
        let to = Timestamp::from_secs(T0 + 90);
        let from = Timestamp::from_secs(T0 + 90 - days * 86_400);
        let command = &commands(None, from, to)[0];
        let after = |option: &str| {
            let rest = command.split(option).nth(1).unwrap();
            rest.split_whitespace().next().unwrap()
        };
        let second = |option| after(option).parse::<Timestamp>().unwrap().as_secs();
        let period: i64 = after("--period ").parse().unwrap();
        let length = second("--end-time ") - second("--start-time ");
        assert!(length / period <= MAX_POINTS, "{command}");
        assert!(length >= days.min(59) * 86_400, "{command}");
    }
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        drop(CloudWatchMetrics::read(&bytes[..]));
    }
}
