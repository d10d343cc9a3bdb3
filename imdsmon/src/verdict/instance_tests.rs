//! Stories of whole instances: given these clients and this watching, this answer.

use std::{rc::Rc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    identity::Process,
    knowledge::Knowledge,
    ledger::{
        ClientStats, Coverage, Ledger,
        any_calls_tests::any_step,
        coverage::{DoubtKind, SelfTest, Span},
        test_support::*,
    },
    time::Timestamp,
};

const ROLE: &str = "/latest/meta-data/iam/security-credentials/role";
const ID: &str = "/latest/meta-data/instance-id";
const HOUR: Duration = Duration::from_secs(3600);

fn after(hours: u32) -> Timestamp {
    Timestamp::default() + hours * HOUR
}

fn span(from: u32, to: u32) -> Span {
    Span {
        from: after(from),
        to: after(to),
        is_complete: true,
        ..Span::default()
    }
}

/// A day of watching without a doubt.
fn day() -> Coverage {
    Coverage {
        spans: vec![span(0, 25)],
        self_test: Some(SelfTest {
            time: Timestamp::default(),
            result: Ok(()),
        }),
    }
}

fn answer(ledger: &Ledger, coverage: &Coverage) -> (HostVerdict, String, Vec<String>) {
    let policy = Policy::default();
    let assessment = assess(ledger.entries(), coverage, &Knowledge::builtin(), &policy);
    (assessment.verdict, assessment.sentence, assessment.doubts)
}

fn ready() -> Ledger {
    let app = process(7, &["app"]);
    ledger([put().by(&app), with_token(ROLE).by(&app).at(1)])
}

fn by(name: &str, path: &str) -> Step {
    tokenless(path).by(&process(7, &[name]))
}

#[test]
fn a_day_of_tokens_is_ready() {
    let (verdict, sentence, doubts) = answer(&ready(), &day());
    assert_eq!((verdict, doubts.len()), (HostVerdict::Ready, 0));
    let expected = "The only client observed in 25 h does not need IMDSv1.";
    assert_eq!(sentence, expected);
}

#[test]
fn silence_counts_only_after_a_passed_self_test() {
    let no_calls = ledger([]);
    assert_eq!(answer(&no_calls, &day()).0, HostVerdict::Ready);
    let untested = Coverage {
        self_test: None,
        ..day()
    };
    assert_eq!(answer(&no_calls, &untested).0, HostVerdict::Inconclusive);
    // A captured call proves that capture works.
    assert_eq!(answer(&ready(), &untested).0, HostVerdict::Ready);
}

#[test]
fn every_limit_of_coverage_is_a_doubt() {
    let doubtful = |change: fn(&mut Coverage)| {
        let mut coverage = day();
        change(&mut coverage);
        coverage
    };
    for (coverage, word) in [
        (doubtful(|c| c.spans.clear()), "No capture data."),
        (
            doubtful(|c| c.spans[0].to = after(1)),
            "at least 24 h is required",
        ),
        (
            doubtful(|c| c.spans.push(span(30, 31))),
            "interrupted for 5 h in total",
        ),
        (
            doubtful(|c| c.spans[0].lost_records = 3),
            "3 ring buffer records were dropped",
        ),
        (
            doubtful(|c| c.spans[0].is_complete = false),
            "ended unexpectedly",
        ),
        (
            doubtful(|c| {
                c.spans[0].doubt(DoubtKind::MissingBytes, 7);
            }),
            "7 bytes are missing",
        ),
        (
            doubtful(|c| {
                c.self_test = Some(SelfTest {
                    time: Timestamp::default(),
                    result: Err("no namespace".into()),
                });
            }),
            "no namespace",
        ),
    ] {
        let (verdict, _, doubts) = answer(&ready(), &coverage);
        assert_eq!(verdict, HostVerdict::Inconclusive, "{word}");
        assert!(doubts[0].contains(word), "{doubts:?}");
        let breaking = ledger([by("old", ROLE)]);
        let (verdict, _, doubts) = answer(&breaking, &coverage);
        assert_eq!(verdict, HostVerdict::NotReady, "one is enough: {word}");
        assert!(!doubts.is_empty(), "and the doubt is still said");
    }
    assert_eq!(
        answer(&ready(), &doubtful(|c| c.spans.push(span(26, 31)))).0,
        HostVerdict::Ready
    );
}

#[test]
fn monitoring_that_ended_long_ago_is_a_doubt() {
    let policy = Policy {
        now: Some(after(40)),
        ..Policy::default()
    };
    let ledger = ready();
    let assessment = assess(ledger.entries(), &day(), &Knowledge::builtin(), &policy);
    assert_eq!(assessment.verdict, HostVerdict::Inconclusive);
    assert!(
        assessment.doubts[0].contains("15 h ago"),
        "{:?}",
        assessment.doubts
    );
}

#[test]
fn unidentified_processes_make_it_inconclusive() {
    let (verdict, _, doubts) = answer(&ledger([tokenless(ID)]), &day());
    assert_eq!(verdict, HostVerdict::Inconclusive);
    assert!(doubts[0].contains("1 IMDSv1 call came"), "{doubts:?}");
    let (verdict, _, _) = answer(&ledger([with_token(ID)]), &day());
    assert_eq!(verdict, HostVerdict::Ready);
}

#[test]
fn missing_responses_make_it_inconclusive() {
    let app = process(7, &["app"]);
    let silent = tokenless(ID).by(&app).silent();
    let (verdict, _, _) = answer(&ledger([silent.clone()]), &day());
    assert_eq!(verdict, HostVerdict::Inconclusive);
    let captured = with_token(ROLE).by(&process(8, &["other"]));
    let (verdict, _, _) = answer(&ledger([silent, captured]), &day());
    assert_eq!(verdict, HostVerdict::Ready, "a firewall keeps that one out");
    let nameless = tokenless(ID).by(&app).server(None);
    assert_eq!(
        answer(&ledger([nameless]), &day()).0,
        HostVerdict::Inconclusive
    );
}

#[test]
fn the_sentence_names_clients_and_what_they_lose() {
    let (_, sentence, _) = answer(&ledger([by("a", ROLE)]), &day());
    let expected = "1 client would lose access to credentials: a (app).";
    assert_eq!(sentence, expected);
    let many = ["a", "b", "c", "d", "e"].map(|name| by(name, ID));
    let (_, sentence, _) = answer(&ledger(many), &day());
    assert!(
        sentence.starts_with("5 clients would lose access to metadata: "),
        "{sentence}"
    );
    assert!(sentence.ends_with(" and 2 more."), "{sentence}");
    let (_, sentence, _) = answer(&ledger([by("a", ID), by("z", ROLE)]), &day());
    let expected = "2 clients would lose access, 1 of them to credentials: z (app), \
                    a (app).";
    assert_eq!(sentence, expected, "the worst comes first");
    let script = process(8, &["curl", "-H", "X-aws-ec2-metadata-token: "]);
    let steps = [by("a", ID), tokenless(ROLE).by(&script)];
    let (_, sentence, _) = answer(&ledger(steps), &day());
    let expected = "2 clients would lose access, 1 of them to credentials: curl (app), a (app).";
    assert_eq!(sentence, expected, "whatever keeps it from its token");
    let (_, sentence, _) = answer(&ledger([by("a", ID).status(401)]), &day());
    assert_eq!(sentence, "1 client is already rejected: a (app).");
    let both = process(9, &["b"]);
    let steps = [
        tokenless(ID).by(&both).status(401),
        put().by(&both),
        with_token(ROLE).by(&both),
    ];
    let (_, sentence, _) = answer(&ledger(steps), &day());
    assert_eq!(sentence, "1 client is already rejected: b (app).");
}

#[test]
fn a_client_that_already_fails_does_not_block() {
    let app = process(7, &["app"]);
    let (verdict, sentence, _) = answer(&ledger([put().by(&app).silent()]), &day());
    assert_eq!(verdict, HostVerdict::Ready);
    assert!(sentence.contains("1 of them gets no data"), "{sentence}");
}

#[test]
fn a_program_named_unknown_is_known() {
    let liar = process(7, &["(unknown)"]);
    let (verdict, ..) = answer(&ledger([tokenless(ID).by(&liar)]), &day());
    assert_eq!(verdict, HostVerdict::NotReady);
    let (verdict, ..) = answer(&ledger([tokenless(ID)]), &day());
    assert_eq!(verdict, HostVerdict::Inconclusive);
}

#[test]
fn a_hostile_name_cannot_make_the_sentence_long() {
    let evil = Process {
        exe: Some("\u{1b}[2J<script>".repeat(10_000).into()),
        ..Process::clone(&process(7, &["x"]))
    };
    let (_, sentence, _) = answer(&ledger([tokenless(ID).by(&Rc::new(evil))]), &day());
    assert!(sentence.len() < 500, "{}", sentence.len());
}

proptest! {
    #[test]
    fn every_ledger_has_an_answer(
        steps in prop::collection::vec(any_step(), 0..40),
        hours in 0_u32..100,
        proven in any::<bool>(),
    ) {
        let mut ledger = ledger(steps);
        let to = after(hours);
        ledger.coverage.add(Span { from: after(0), to, is_complete: true, ..Span::default() });
        let result = if proven { Ok(()) } else { Err("no namespace".into()) };
        ledger.coverage.add_self_test(SelfTest { time: to, result });
        let entries: Vec<&ClientStats> = ledger.entries().collect();
        let assessment = assess(
            entries.iter().copied(),
            &ledger.coverage,
            &Knowledge::builtin(),
            &Policy::default(),
        );
        prop_assert_eq!(assessment.clients.len(), entries.len());
        prop_assert!(!assessment.sentence.is_empty());
        let needs_action = assessment.clients.iter().any(|c| c.judgement.needs_action);
        let is_not_ready = assessment.verdict == HostVerdict::NotReady;
        prop_assert_eq!(needs_action, is_not_ready);
        for client in &assessment.clients {
            prop_assert!(!client.judgement.reason.is_empty());
            prop_assert!(!client.judgement.needs_action || !client.judgement.remedy.steps.is_empty());
        }
    }
}
