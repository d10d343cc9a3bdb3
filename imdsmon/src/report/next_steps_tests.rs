//! The order of the steps, and that their commands name this instance.

use super::*;
use crate::verdict::{AccessAfter, Confidence, Remedy, Rule, Verdict};

const ID: &str = "i-0123456789abcdef0";
const ALL: [HostVerdict; 3] = [
    HostVerdict::Ready,
    HostVerdict::NotReady,
    HostVerdict::Inconclusive,
];

fn judged(verdict: Verdict, needs_action: bool, commands: &[&str]) -> Judgement {
    Judgement {
        verdict,
        rule: Rule::Tokenless,
        needs_action,
        confidence: Confidence::Seen,
        access_after: AccessAfter::Nothing,
        reason: String::new(),
        remedy: Remedy {
            commands: commands.iter().map(ToString::to_string).collect(),
            ..Remedy::default()
        },
    }
}

/// Index of the first step that requires IMDSv2 somewhere.
fn enforces(steps: &[NextStep]) -> usize {
    let enforces = |step: &NextStep| {
        let mut commands = step.commands.iter();
        commands.any(|command| {
            command.contains("--http-tokens required") || command.contains("imds-support")
        })
    };
    steps.iter().position(enforces).unwrap()
}

#[test]
fn ready_requires_imdsv2_first() {
    let survives = judged(Verdict::Survives, false, &[]);
    let steps = next_steps(HostVerdict::Ready, Some(ID), [&survives]);
    assert_eq!(
        steps[0].commands[0],
        "aws ec2 modify-instance-metadata-options --instance-id i-0123456789abcdef0 \
         --http-tokens required --http-endpoint enabled"
    );
    let back = steps.iter().position(|step| {
        step.commands
            .iter()
            .any(|command| command.contains(ID) && command.contains("--http-tokens optional"))
    });
    assert!(back.is_some_and(|back| back > 0));
    assert!(
        !steps
            .iter()
            .any(|step| step.title.contains("Test one client"))
    );
}

#[test]
fn clients_are_fixed_and_observed_before_enforcement() {
    let breaks = judged(Verdict::Breaks, true, &["pip install botocore"]);
    let steps = next_steps(HostVerdict::NotReady, Some(ID), [&breaks, &breaks]);
    let titles: Vec<_> = steps.iter().map(|step| step.title.as_str()).collect();
    assert_eq!(
        titles[..4],
        [
            "Fix the 2 clients that need action",
            "Test one client in advance",
            "Observe again",
            "Require IMDSv2 once the report says READY",
        ]
    );
    assert_eq!(enforces(&steps), 3);
}

#[test]
fn hop_limit_is_raised_only_where_that_fixes_a_client() {
    let remedy = "aws ec2 modify-instance-metadata-options --instance-id INSTANCE_ID \
                  --http-put-response-hop-limit 2";
    let falls_back = judged(Verdict::FallsBack, true, &[remedy]);
    let steps = next_steps(HostVerdict::NotReady, Some(ID), [&falls_back]);
    assert_eq!(
        steps[1].commands,
        [remedy.replace("INSTANCE_ID", ID)],
        "{steps:#?}"
    );
    let refused = judged(Verdict::FallsBack, true, &[]);
    let steps = next_steps(HostVerdict::NotReady, Some(ID), [&refused]);
    assert!(!steps.iter().any(|step| step.title.contains("containers")));
}

#[test]
fn without_calls_there_is_only_more_to_observe() {
    let steps = next_steps(HostVerdict::Inconclusive, Some(ID), []);
    assert!(steps[1].text.contains("not sufficient"), "{steps:#?}");
    assert!(enforces(&steps) > 1);
    assert!(!steps.iter().any(|step| step.title.starts_with("Fix")));
}

#[test]
fn only_a_ready_host_requires_imdsv2_first() {
    for verdict in ALL {
        for id in [Some(ID), None] {
            let first = enforces(&next_steps(verdict, id, []));
            let may = verdict == HostVerdict::Ready;
            assert_eq!(
                first <= usize::from(id.is_none()),
                may,
                "{verdict:?} {id:?}"
            );
        }
    }
}

#[test]
fn unknown_id_is_found_before_its_placeholder_is_used() {
    for verdict in ALL {
        // What is no id is not put into a command.
        for id in [None, Some("i-1; reboot")] {
            let steps = next_steps(verdict, id, []);
            let uses = |step: &NextStep| step.commands.iter().any(|c| c.contains(PLACEHOLDER));
            let first = steps.iter().position(uses).unwrap();
            assert_eq!(steps[first - 1].title, "Find the instance ID");
            assert!(
                steps
                    .iter()
                    .all(|step| !format!("{step:?}").contains("reboot"))
            );
        }
        let known = format!("{:?}", next_steps(verdict, Some(ID), []));
        assert!(!known.contains(PLACEHOLDER), "{known}");
    }
}

#[test]
fn every_line_is_one_line_and_what_is_json_is_json() {
    let falls_back = judged(Verdict::FallsBack, true, &[HOP_LIMIT]);
    for step in next_steps(HostVerdict::NotReady, None, [&falls_back]) {
        for text in step.commands.iter().chain([&step.title, &step.text]) {
            assert!(!text.contains('\n') && !text.contains("  "), "{text:?}");
            if let Some(start) = text.find("{\"") {
                let json = text[start..].trim_end_matches('\'');
                serde_json::from_str::<serde_json::Value>(json).unwrap();
            }
        }
    }
}
