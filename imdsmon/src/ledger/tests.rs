use std::time::Duration;

use super::*;
use crate::ledger::test_support::*;
use crate::{
    event::ConnectionId,
    http::call::{Auth, ImdsVersion, Unparsed},
    identity::Process,
    time::{Hour, Timestamp},
};

/// IMDSv1 calls by cause.
fn causes(ledger: &Ledger) -> BTreeMap<Cause, i64> {
    let mut causes = BTreeMap::new();
    for (bucket, count) in ledger.entries().flat_map(|entry| &entry.buckets) {
        if bucket.auth == Auth::V1 {
            *causes.entry(bucket.cause).or_default() += count;
        }
    }
    causes
}

fn only(cause: Cause, count: i64) -> BTreeMap<Cause, i64> {
    BTreeMap::from([(cause, count)])
}

#[test]
fn a_hung_token_request_explains_calls_minutes_later() {
    let app = process(7, &["app"]);
    let story = [
        put().by(&app).silent(),
        tokenless("/a").by(&app).at(1),
        tokenless("/b").by(&app).at(373),
    ];
    assert_eq!(causes(&ledger(story)), only(Cause::AfterNoResponse, 2));
}

#[test]
fn each_failure_has_its_name_and_the_latest_counts() {
    for (step, cause) in [
        (put().status(403), Cause::AfterRejection),
        (put().status(503), Cause::AfterServerError),
        (put(), Cause::DespiteToken),
        (
            put().status(403).server(Some("kube2iam")),
            Cause::AfterRejection,
        ),
    ] {
        let app = process(7, &["app"]);
        let story = [
            put().by(&app).silent(),
            step.by(&app).at(5),
            tokenless("/a").by(&app).at(6),
        ];
        assert_eq!(causes(&ledger(story)), only(cause, 1));
    }
}

#[test]
fn a_token_request_known_late_corrects_earlier_counts() {
    let app = process(7, &["app"]);
    let mut ledger = ledger([
        tokenless("/before").by(&app).at(0),
        tokenless("/a").by(&app).at(3),
        tokenless("/b").by(&app).at(4),
    ]);
    assert_eq!(causes(&ledger), only(Cause::Plain, 3));
    let taken = ledger.take();
    let knowledge = Knowledge::builtin();
    ledger.add(&put().by(&app).at(2).silent().attributed(&knowledge));
    let expected = BTreeMap::from([(Cause::Plain, -2), (Cause::AfterNoResponse, 2)]);
    assert_eq!(causes(&ledger), expected, "what is new takes back");

    let mut whole = taken.into_iter().next().unwrap();
    for delta in ledger.take() {
        whole.merge(delta);
    }
    let count = |cause| {
        let buckets = whole
            .buckets
            .iter()
            .filter(|(bucket, _)| bucket.cause == cause);
        buckets
            .filter(|(bucket, _)| bucket.auth == Auth::V1)
            .map(|(_, n)| n)
            .sum::<i64>()
    };
    assert_eq!((count(Cause::Plain), count(Cause::AfterNoResponse)), (1, 2));
    assert!(
        whole.buckets.values().all(|&n| n > 0),
        "{:?}",
        whole.buckets
    );
    assert_eq!(whole.calls(), 4);
}

#[test]
fn samples_follow_a_corrected_cause() {
    let app = process(7, &["app"]);
    let ledger = ledger([
        tokenless("/a").by(&app).at(3),
        put().by(&app).at(2).silent(),
    ]);
    let samples = &ledger.entries().next().unwrap().evidence.samples;
    let v1: Vec<_> = samples
        .iter()
        .filter(|s| s.version == ImdsVersion::V1)
        .collect();
    assert_eq!(v1.len(), 1);
    assert_eq!(
        (v1[0].cause, v1[0].target.as_str()),
        (Cause::AfterNoResponse, "/a")
    );
}

#[test]
fn another_process_explains_nothing() {
    let (one, other) = (process(7, &["app"]), process(8, &["other"]));
    let story = [put().by(&one).silent(), tokenless("/a").by(&other).at(1)];
    assert_eq!(causes(&ledger(story)), only(Cause::Plain, 1));
    // The same pid again, but another process.
    let mut again = Process::clone(&other);
    again.pid = one.pid;
    let again = Rc::new(again);
    let story = [put().by(&one).silent(), tokenless("/a").by(&again).at(1)];
    assert_eq!(causes(&ledger(story)), only(Cause::Plain, 1));
}

#[test]
fn a_sibling_curl_for_the_token_explains_the_data_call() {
    let (one, two) = (process(7, &["curl", "-X"]), process(8, &["curl"]));
    let failed = put().by(&one).silent();
    let read = tokenless("/a").by(&two);
    let story = [failed.clone(), read.clone().at(2)];
    assert_eq!(causes(&ledger(story)), only(Cause::AfterNoResponse, 1));
    let story = [failed.clone(), read.clone().at(3600)];
    assert_eq!(causes(&ledger(story)), only(Cause::Plain, 1), "too late");
    let reads = tokenless("/x").by(&one).at(1);
    let story = [failed, reads, read.clone().at(2)];
    let expected = BTreeMap::from([(Cause::Plain, 1), (Cause::AfterNoResponse, 1)]);
    assert_eq!(
        causes(&ledger(story)),
        expected,
        "that one reads for itself"
    );
    let story = [put().by(&one), read.at(2)];
    assert_eq!(
        causes(&ledger(story)),
        only(Cause::Plain, 1),
        "its token is its own"
    );
}

#[test]
fn an_argument_with_the_token_header_is_a_cause() {
    for (arg, cause) in [
        ("X-aws-ec2-metadata-token: ", Cause::HeaderInArguments),
        ("x-AWS-ec2-metadata-TOKEN:", Cause::HeaderInArguments),
        ("X-aws-ec2-metadata-token-ttl-seconds: 60", Cause::Plain),
        ("X-aws-ec2-metadata-toke", Cause::Plain),
    ] {
        let curl = process(7, &["curl", "-H", arg]);
        assert_eq!(
            causes(&ledger([tokenless("/a").by(&curl)])),
            only(cause, 1),
            "{arg}"
        );
    }
}

#[test]
fn another_library_in_the_same_process_is_not_explained() {
    let app = process(7, &["python3"]);
    let botocore = "Boto3/1.44.5 Botocore/1.44.5";
    let story = [
        put().by(&app).agent(botocore).silent(),
        tokenless("/own").by(&app).agent(botocore).at(1),
        tokenless("/other")
            .by(&app)
            .agent("Python-urllib/3.13")
            .at(2),
        tokenless("/anonymous").by(&app).at(3),
    ];
    let expected = BTreeMap::from([(Cause::Plain, 1), (Cause::AfterNoResponse, 2)]);
    assert_eq!(causes(&ledger(story)), expected);
}

#[test]
fn a_retry_is_for_the_rejected_path() {
    let app = process(7, &["salt-minion"]);
    let retried = |path: &str| {
        let story = [
            tokenless("/latest/").by(&app).status(401),
            put().by(&app).at(1),
            with_token(path).by(&app).at(2),
        ];
        let ledger = ledger(story);
        let entry = ledger.entries().next().unwrap();
        let mut buckets = entry.buckets.keys();
        buckets.any(|c| matches!(c.auth, Auth::V2(_)) && c.cause == Cause::RetryAfterUnauthorized)
    };
    assert!(retried("/latest/"));
    assert!(!retried("/latest/meta-data/"));
}

#[test]
fn unidentified_callers_are_counted() {
    let mut ledger = ledger([tokenless("/a")]);
    let unparsed = Unparsed {
        time: Timestamp::from_nanos(5),
        connection: ConnectionId(1),
        task: None,
        server: crate::event::Endpoint::V4,
        bytes: 17,
    };
    ledger.add(&AttributedEvent {
        event: HttpEvent::Unparsed(unparsed),
        caller: Caller::default(),
        sdk: None,
    });
    let entries = ledger.take();
    assert_eq!(entries.len(), 1);
    assert!(entries[0].client.is_unknown());
    assert_eq!(
        (entries[0].calls(), entries[0].evidence.unparsed_bytes),
        (1, 17)
    );
}

#[test]
fn invented_programs_displace_no_other_client() {
    let mut steps = Vec::new();
    for pid in 100..2100 {
        let name = format!("fake{pid}");
        steps.push(tokenless("/a").by(&process(pid, &[&name])));
    }
    let mut honest = Process::clone(&process(7, &["nginx"]));
    honest.user = Some("www-data".into());
    steps.push(tokenless("/b").by(&Rc::new(honest)));
    let ledger = ledger(steps);
    let programs: Vec<_> = ledger
        .entries()
        .map(|e| e.client.program.as_str())
        .collect();
    assert!(programs.contains(&"nginx"));
    assert!(programs.len() <= 252, "{}", programs.len());
    let calls: i64 = ledger.entries().map(ClientStats::calls).sum();
    assert_eq!(calls, 2001, "none is forgotten");
    let others = ledger
        .entries()
        .find(|e| e.client.program == OTHERS)
        .unwrap();
    assert_eq!(others.client.user, "app");
    assert_eq!(ledger.overflow().merged, 1750);
    let mut span = coverage::Span::default();
    span.add_overflow(ledger.overflow());
    span.add_overflow(Overflow::default());
    assert_eq!(span.doubts.len(), 1, "{:?}", span.doubts);
    assert_eq!(span.doubts[0].count, 1750);
}

#[test]
fn inactive_clients_make_room() {
    let knowledge = Rc::new(Knowledge::builtin());
    let mut ledger = Ledger::new(Rc::clone(&knowledge));
    let program = |ledger: &mut Ledger, pid| {
        let step = tokenless("/a").by(&process(pid, &[&format!("job{pid}")]));
        ledger.add(&step.attributed(&knowledge)).program.clone()
    };
    for pid in 100..400 {
        program(&mut ledger, pid);
    }
    assert_eq!(program(&mut ledger, 400), OTHERS);
    let kept: Vec<_> = ledger
        .entries()
        .take(10)
        .map(|e| e.client.clone())
        .collect();
    ledger.reset(&kept);
    assert_eq!(program(&mut ledger, 400), "job400");
    assert_eq!(ledger.overflow().merged, 51, "what was merged stays so");
}

#[test]
fn hostile_evidence_is_bounded_and_hides_nothing() {
    let app = process(7, &["app"]);
    let role = "/latest/meta-data/iam/security-credentials/role";
    let mut steps = Vec::new();
    for n in 0..500 {
        let path = format!("/latest/{n}{}", "x".repeat(3000));
        let agent = format!("agent{n}/1 {}", "y".repeat(900));
        steps.push(tokenless(&path).by(&app).at(n).agent(&agent));
    }
    steps.insert(250, tokenless(role).by(&app).at(250));
    let ledger = ledger(steps);
    let evidence = &ledger.entries().next().unwrap().evidence;
    assert_eq!(evidence.paths[role].tokenless, 1);
    assert!(evidence.paths.len() <= 64 && evidence.samples.len() <= 20);
    let shown: u64 = evidence.paths.values().map(|seen| seen.tokenless).sum();
    assert_eq!(shown + evidence.more_paths, 501);
    assert!(evidence.user_agents.len() <= 16 && evidence.sdks.len() <= 16);
    assert!(evidence.more_agents >= 2 * (500 - 16));
    assert!(
        evidence.samples.iter().any(|s| s.target == role),
        "the worst stays"
    );
    let size = serde_json::to_string(evidence).unwrap().len();
    assert!(size < 64 << 10, "{size}");
}

#[test]
fn old_hours_get_coarser_and_no_call_is_lost() {
    let mut entry = ClientStats::default();
    let bucket = |hour| BucketKey {
        hour: Hour::new(hour),
        auth: Auth::V1,
        response: ResponseClass::Ok,
        path: crate::knowledge::PathClass::Description,
        cause: Cause::Plain,
    };
    for hour in 0..70_000 {
        entry.count(bucket(hour), 2);
    }
    assert_eq!(entry.calls(), 140_000);
    assert!(entry.buckets.len() <= 1 << 16);
    assert_eq!(entry.buckets[&bucket(69_999)], 2);
}

#[test]
fn spans_keep_their_order_and_overlaps_merge() {
    let at = Timestamp::from_secs;
    let span = |from, to| coverage::Span {
        from: at(from),
        to: at(to),
        is_complete: true,
        segments: 1,
        lost_records: 1,
        doubts: vec![coverage::Doubt {
            count: 2,
            kind: coverage::DoubtKind::MissingBytes,
        }],
    };
    let mut coverage = Coverage::default();
    for (from, to) in [(50, 60), (0, 10), (5, 20), (8, 9), (60, 70)] {
        coverage.add(span(from, to));
    }
    let spans: Vec<_> = coverage.spans.iter().map(|s| (s.from, s.to)).collect();
    assert_eq!(spans, [(at(0), at(20)), (at(50), at(70))]);
    assert_eq!(
        (coverage.observed(), coverage.window()),
        (Duration::from_secs(40), Some((at(0), at(70))))
    );
    assert_eq!(coverage.spans[0].lost_records, 3);
    assert_eq!(coverage.spans[0].doubts[0].count, 6);
}
