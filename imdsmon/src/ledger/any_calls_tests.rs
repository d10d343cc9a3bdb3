//! Whatever calls come in whatever order: nothing panics, and the counts add up.

use proptest::prelude::*;

use super::*;
use crate::ledger::test_support::*;

/// Any call of an unknown process or of one of a few.
pub(crate) fn any_step() -> impl Strategy<Value = Step> {
    let path = prop_oneof![
        Just("/latest/meta-data/iam/security-credentials/".to_owned()),
        Just("/latest/meta-data/iam/security-credentials/role".to_owned()),
        Just("/latest/user-data".to_owned()),
        Just("/computeMetadata/v1/".to_owned()),
        ".{0,40}",
    ];
    let agent = prop_oneof![
        Just(None),
        Just(Some("Boto3/1.9 Botocore/1.12.1".to_owned())),
        Just(Some("Salt/3007.4".to_owned())),
        ".{0,40}".prop_map(Some),
    ];
    let status = prop_oneof![
        Just(None),
        prop::sample::select(vec![200, 302, 400, 401, 403, 404, 405, 417, 503]).prop_map(Some),
    ];
    let server = prop_oneof![4 => Just(Some("EC2ws")), 1 => Just(None), 1 => Just(Some("x"))];
    (0..4, path, agent, status, server, 0_u32..5, 0_i64..10_000).prop_map(
        |(kind, path, agent, status, server, pid, time)| {
            let step = match kind {
                0 => tokenless(&path),
                1 => with_token(&path),
                2 => empty_token(&path),
                _ => put(),
            };
            let step = match status {
                Some(status) => step.status(status).server(server),
                None => step.silent(),
            };
            let step = match agent {
                Some(agent) => step.agent(&agent),
                None => step,
            };
            let args = ["curl", "-H", "X-aws-ec2-metadata-token:"];
            let step = step.at(time);
            match pid {
                0 => step,
                pid => step.by(&process(pid, &args[..=2 * (pid as usize % 2)])),
            }
        },
    )
}

proptest! {
    #[test]
    fn deltas_add_up_to_the_whole(
        steps in prop::collection::vec(any_step(), 0..60),
        cuts in prop::collection::vec(any::<bool>(), 60),
    ) {
        let knowledge = Rc::new(Knowledge::builtin());
        let mut whole = Ledger::new(Rc::clone(&knowledge));
        let mut parts = Ledger::new(Rc::clone(&knowledge));
        let mut stored: BTreeMap<Client, ClientStats> = BTreeMap::new();
        let count = steps.len();
        for (step, cut) in steps.into_iter().zip(cuts) {
            let found = step.attributed(&knowledge);
            whole.add(&found);
            parts.add(&found);
            if cut {
                for delta in parts.take() {
                    let new = || ClientStats::new(delta.client.clone(), delta.first);
                    stored.entry(delta.client.clone()).or_insert_with(new).merge(delta);
                }
            }
        }
        for delta in parts.take() {
            let new = || ClientStats::new(delta.client.clone(), delta.first);
            stored.entry(delta.client.clone()).or_insert_with(new).merge(delta);
        }
        let calls: i64 = whole.entries().map(ClientStats::calls).sum();
        prop_assert_eq!(calls, i64::try_from(count).unwrap());
        for entry in whole.entries() {
            let merged = &stored[&entry.client];
            prop_assert_eq!(&merged.buckets, &entry.buckets);
            prop_assert!(entry.buckets.values().all(|&count| count > 0));
            prop_assert_eq!((merged.first, merged.last), (entry.first, entry.last));
            prop_assert_eq!(&merged.evidence.paths, &entry.evidence.paths);
        }
    }
}
