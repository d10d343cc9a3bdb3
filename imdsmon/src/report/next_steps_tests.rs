//! The order of what to do, and that its commands are this instance's.

use super::*;
use crate::verdict::{AccessAfter, Confidence, Remedy, Verdict};

const ID: &str = "i-0123456789abcdef0";
const ALL: [HostVerdict; 3] = [
    HostVerdict::Ready,
    HostVerdict::NotReady,
    HostVerdict::Inconclusive,
];

fn judged(verdict: Verdict, needs_action: bool, commands: &[&str]) -> Judgement {
    Judgement {
        verdict,
        rule: "a-rule",
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

/// Where the first step is that flips something.
fn flips(steps: &[NextStep]) -> usize {
    let flips = |step: &NextStep| {
        let mut commands = step.commands.iter();
        commands.any(|command| {
            command.contains("--http-tokens required") || command.contains("imds-support")
        })
    };
    steps.iter().position(flips).unwrap()
}

#[test]
fn ready_means_flip_now() {
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
    assert!(!steps.iter().any(|step| step.title.contains("Try it")));
}

#[test]
fn what_is_not_ready_is_changed_and_watched_before_anything_is_flipped() {
    let breaks = judged(Verdict::Breaks, true, &["pip install botocore"]);
    let steps = next_steps(HostVerdict::NotReady, Some(ID), [&breaks, &breaks]);
    let titles: Vec<_> = steps.iter().map(|step| step.title.as_str()).collect();
    assert_eq!(
        titles[..4],
        [
            "Change the 2 clients that need it",
            "Try it with one client",
            "Watch again",
            "Require tokens, once the report says READY",
        ]
    );
    assert_eq!(flips(&steps), 3);
}

#[test]
fn the_hop_limit_is_raised_where_that_mends_a_client_and_nowhere_else() {
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
fn where_nothing_was_seen_there_is_nobody_to_change_and_more_to_watch() {
    let steps = next_steps(HostVerdict::Inconclusive, Some(ID), []);
    assert!(steps[1].text.contains("Too little"), "{steps:#?}");
    assert!(flips(&steps) > 1);
    assert!(!steps.iter().any(|step| step.title.starts_with("Change")));
}

#[test]
fn only_a_ready_host_is_flipped_first() {
    for verdict in ALL {
        for id in [Some(ID), None] {
            let first = flips(&next_steps(verdict, id, []));
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
fn an_unknown_id_has_a_placeholder_and_a_way_to_find_it_before_its_first_use() {
    for verdict in ALL {
        // What is no id is not put into a command.
        for id in [None, Some("i-1; reboot")] {
            let steps = next_steps(verdict, id, []);
            let uses = |step: &NextStep| step.commands.iter().any(|c| c.contains(PLACEHOLDER));
            let first = steps.iter().position(uses).unwrap();
            assert_eq!(steps[first - 1].title, "Find this instance's id");
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
