//! What the page says, whatever the clients are called.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use super::*;
use crate::http::call::{Auth, TokenValue};
use crate::ledger::{
    Cause, ResponseClass,
    coverage::{SelfTest, Span},
    test_support,
};

fn entry(program: &str, auth: Auth, counts: &[(Cause, i64)]) -> ClientStats {
    let counts: Vec<_> = counts
        .iter()
        .map(|(cause, count)| (auth, ResponseClass::Ok, *cause, *count))
        .collect();
    test_support::entry(program, &counts)
}

fn full() -> Metrics {
    let mut metrics = Metrics::new();
    metrics.count(&[
        entry("curl", Auth::V1, &[(Cause::Plain, 3)]),
        entry(
            "\"\\\n\u{1b}[31m\u{202e}} 7\nforged 1",
            Auth::V2(TokenValue::Present),
            &[(Cause::Plain, 1)],
        ),
        entry(&"é".repeat(1000), Auth::TokenRequest, &[(Cause::Plain, 1)]),
    ]);
    let [curl, good] = ["curl", "good"].map(|program| entry(program, Auth::V1, &[]).client);
    metrics.set_verdicts(
        HostVerdict::NotReady,
        [(&curl, Verdict::Breaks), (&good, Verdict::Ready)],
    );
    metrics.set_coverage(&Coverage {
        spans: vec![Span {
            from: Timestamp::default(),
            to: Timestamp::from_nanos(90_500_000_000),
            segments: 7,
            lost_records: 2,
            ..Span::default()
        }],
        self_test: Some(SelfTest {
            time: Timestamp::from_secs(1_700_000_000),
            result: Ok(()),
        }),
    });
    metrics.set_store_success(true);
    metrics
}

fn value(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn the_page_says_what_is_known() {
    let page = full().page();
    for (name, expected) in [
        ("imdsmon_build_info{version=", 1.0),
        (
            "imdsmon_calls_total{version=\"v1\",outcome=\"ok\",workload_kind=\"unit\",\
             workload=\"app.service\",client=\"curl\",user=\"root\"}",
            3.0,
        ),
        ("imdsmon_clients{verdict=\"breaks\"}", 1.0),
        ("imdsmon_clients{verdict=\"falls-back\"}", 0.0),
        (
            "imdsmon_client_verdict{verdict=\"breaks\",workload_kind=\"unit\",\
             workload=\"app.service\",client=\"curl\",user=\"root\"}",
            1.0,
        ),
        ("imdsmon_verdict{verdict=\"not-ready\"}", 1.0),
        ("imdsmon_verdict{verdict=\"inconclusive\"}", 0.0),
        ("imdsmon_ready ", 0.0),
        ("imdsmon_segments_total ", 7.0),
        ("imdsmon_lost_records_total ", 2.0),
        ("imdsmon_watched_seconds ", 90.5),
        ("imdsmon_canary_success{} ", 1.0),
        (
            "imdsmon_canary_last_run_timestamp_seconds{} ",
            1_700_000_000.0,
        ),
        ("imdsmon_store_success{} ", 1.0),
    ] {
        assert_eq!(value(&page, name), Some(expected), "{name}\n{page}");
    }
    assert!(page.ends_with("# EOF\n"));
    assert!(
        !page.contains(['\u{1b}', '\u{202e}']) && !page.contains("\nforged"),
        "{page}"
    );
    assert!(page.lines().all(|line| line.len() < 1000), "{page}");
}

#[test]
fn the_documentation_has_every_metric_and_no_other() {
    let text = to_text_format(&full().page());
    let exported = text.lines().filter_map(|line| {
        let (name, help) = line.strip_prefix("# HELP ")?.split_once(' ')?;
        Some((name, help))
    });
    let documented = include_str!("../../../../docs/reference/metrics.md")
        .lines()
        .filter_map(|line| {
            let mut buckets = line.strip_prefix("| `imdsmon_")?.split(" | ");
            let name = buckets.next()?.trim_matches('`');
            Some((name, buckets.last()?.trim_matches(['|', ' '])))
        });
    let documented: Vec<_> = documented.collect();
    let exported: Vec<_> = exported
        .map(|(name, help)| (name.trim_start_matches("imdsmon_"), help))
        .collect();
    assert_eq!(documented, exported);
}

#[test]
fn what_is_not_known_yet_is_not_there() {
    let page = Metrics::new().page();
    assert!(
        !page.contains("canary") && !page.contains("store_success"),
        "{page}"
    );
    assert_eq!(value(&page, "imdsmon_lost_records_total "), Some(0.0));
}

#[test]
fn a_corrected_call_is_counted_once_and_counters_never_fall() {
    let mut metrics = full();
    let again = [(Cause::Plain, -3), (Cause::AfterNoResponse, 3)];
    metrics.count(&[entry("curl", Auth::V1, &again)]);
    metrics.set_coverage(&Coverage::default());
    let page = metrics.page();
    assert_eq!(
        value(&page, "imdsmon_calls_total{version=\"v1\""),
        Some(3.0)
    );
    assert_eq!(value(&page, "imdsmon_lost_records_total "), Some(2.0));
}

#[test]
fn each_client_has_its_current_verdict_worst_first() {
    let mut metrics = full();
    let client = |name: &str| entry(name, Auth::V1, &[]).client;
    let curl = client("curl");
    let mut other = curl.clone();
    other.package = Some("deb curl 8.14.1-2".into());
    let many: Vec<Client> = (0..1000).map(|n| client(&format!("c{n}"))).collect();
    let first = [(&curl, Verdict::Rejected), (&other, Verdict::Survives)];
    let more = many.iter().map(|client| (client, Verdict::Survives));
    metrics.set_verdicts(HostVerdict::NotReady, first.into_iter().chain(more));
    let page = metrics.page();
    let series: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("imdsmon_client_verdict{"))
        .collect();
    assert_eq!(series.len(), MAX_IMDSV1_CLIENTS);
    let of_curl: Vec<&&str> = series.iter().filter(|s| s.contains("\"curl\"")).collect();
    assert_eq!(of_curl.len(), 1, "{of_curl:?}");
    assert!(of_curl[0].contains("verdict=\"rejected\""), "{of_curl:?}");
}

#[test]
fn clients_beyond_the_limit_are_counted_together() {
    let mut metrics = Metrics::new();
    for number in 0..1000 {
        let name = format!("good-{number}");
        metrics.count(&[entry(
            &name,
            Auth::V2(TokenValue::Present),
            &[(Cause::Plain, 1)],
        )]);
    }
    for number in 0..1000 {
        let name = format!("bad-{number}");
        metrics.count(&[entry(&name, Auth::V1, &[(Cause::Plain, 1)])]);
    }
    let page = metrics.page();
    let series = |version: &str| {
        let start = format!("imdsmon_calls_total{{version=\"{version}\"");
        page.lines()
            .filter(|line| line.starts_with(&start))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (series("v1").len(), series("v2").len()),
        (MAX_IMDSV1_CLIENTS + 1, MAX_IMDSV2_CLIENTS + 1)
    );
    let others = series("v1")
        .into_iter()
        .find(|line| line.contains(OTHERS))
        .unwrap();
    assert!(others.ends_with(" 900"), "{others}");
}

#[test]
fn promtool_finds_nothing_to_say() {
    let text = to_text_format(&full().page());
    assert_eq!(value(&text, "# TYPE imdsmon_calls_total counter"), None);
    assert!(
        text.contains("\n# TYPE imdsmon_calls_total counter\n"),
        "{text}"
    );
    assert!(!text.contains("# EOF"), "{text}");
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        println!("SKIPPED: promtool is not installed (Debian: prometheus)");
        return;
    };
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}
