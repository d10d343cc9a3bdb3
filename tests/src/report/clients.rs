//! One client of each verdict and more, as they are found on real hosts.

use imdsmon::{
    identity::{client::Client, workload::Workload},
    knowledge::{PathClass, Sdk},
    ledger::{Answer, Cause, Sample},
    report::model::{ClientReport, Hour, PathReport, Totals},
    time::rfc3339,
    verdict::{AccessAfter, Confidence, Judgement, Remedy, Verdict},
};

use super::{BEGIN, HOUR, NOW, stories};

const ROLE: &str = "/latest/meta-data/iam/security-credentials/orders-prod";
const USE_V2: &str = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-transition-to-version-2.html";

/// What differs between the clients.
pub(super) struct Story<'a> {
    pub(super) program: &'a str,
    pub(super) workload: Workload,
    pub(super) user: &'a str,
    pub(super) package: Option<&'a str>,
    pub(super) verdict: Verdict,
    pub(super) rule: &'static str,
    pub(super) reason: &'a str,
    pub(super) fix: &'a str,
    pub(super) steps: &'a [&'a str],
    pub(super) commands: &'a [&'a str],
    /// Tokenless, with a token, token requests: each time it calls.
    pub(super) calls: [u64; 3],
    /// Hours between two times that it calls.
    pub(super) every: i64,
    pub(super) agent: Option<&'a str>,
    pub(super) sdk: Option<(&'a str, &'a str)>,
    pub(super) path: (&'a str, PathClass),
    pub(super) how: Cause,
    pub(super) answer: (Answer, Option<u16>),
    pub(super) args: &'a [&'a str],
}

impl Default for Story<'_> {
    fn default() -> Self {
        Self {
            program: "",
            workload: Workload::default(),
            user: "root",
            package: None,
            verdict: Verdict::Ready,
            rule: "tokens-only",
            reason: "every call carried a token",
            fix: "",
            steps: &[],
            commands: &[],
            calls: [0, 2, 1],
            every: 1,
            agent: None,
            sdk: None,
            path: (ROLE, PathClass::Credentials),
            how: Cause::Plain,
            answer: (Answer::Ok, Some(200)),
            args: &[],
        }
    }
}

/// Worst first.
pub(super) fn all() -> Vec<ClientReport> {
    let mut clients: Vec<ClientReport> = [stories::outdated(), stories::odd(), stories::harmless()]
        .into_iter()
        .flatten()
        .map(told)
        .collect();
    clients.sort_by_key(|client| client.judgement.verdict);
    if let Some(pod) = clients.iter_mut().find(|c| c.client.workload.pod.is_some()) {
        pod.client.host_network = Some(false);
        for sample in &mut pod.samples {
            sample.address = "fd00:ec2::254".into();
        }
    }
    clients
}

fn told(story: Story<'_>) -> ClientReport {
    let times: Vec<i64> = (BEGIN + HOUR..NOW)
        .step_by(usize::try_from(story.every * HOUR).unwrap_or(1))
        .collect();
    let timeline: Vec<Hour> = times.iter().map(|&time| hour(&story, time)).collect();
    let rounds = times.len() as u64;
    let tokenless = timeline.iter().map(|hour| hour.tokenless).sum();
    let [_, with_token, tokens] = story.calls.map(|calls| calls * rounds);
    let is_ok = story.answer.0 == Answer::Ok;
    let is_refused = story.answer.0 == Answer::Unauthorized;
    let (path, class) = story.path;
    ClientReport {
        name: [story.program, &story.workload.name, story.user]
            .join(" ")
            .trim()
            .to_owned(),
        totals: Totals {
            calls: tokenless + with_token + tokens,
            tokenless,
            tokenless_successful: if is_ok { tokenless } else { 0 },
            tokenless_rejected: if is_refused { tokenless } else { 0 },
            with_token,
            token_requests: tokens,
            unparsed_bytes: 0,
        },
        sdks: story
            .sdk
            .iter()
            .map(|(name, version)| Sdk {
                name: (*name).into(),
                version: Some((*version).into()),
            })
            .collect(),
        user_agents: story.agent.map(str::to_owned).into_iter().collect(),
        most_sensitive: class,
        first_seen: rfc3339(times[0]),
        last_seen: rfc3339(times[times.len() - 1] + 1_712_345_678_000),
        paths: vec![PathReport {
            path: path.into(),
            class,
            tokenless,
            with_token,
        }],
        more_paths: 0,
        timeline,
        samples: if story.verdict == Verdict::Ready {
            vec![]
        } else {
            vec![sample(&story, times[0])]
        },
        judgement: Judgement {
            verdict: story.verdict,
            rule: story.rule,
            needs_action: story.verdict < Verdict::Survives,
            confidence: match story.verdict {
                Verdict::Survives | Verdict::NotImds => Confidence::Known,
                Verdict::EmptyToken => Confidence::Likely,
                _ => Confidence::Seen,
            },
            access_after: match story.verdict {
                Verdict::Breaks | Verdict::Rejected => AccessAfter::Nothing,
                Verdict::Mixed => AccessAfter::Part,
                Verdict::FallsBack | Verdict::EmptyToken => AccessAfter::AllOnceFixed,
                _ => AccessAfter::All,
            },
            reason: story.reason.into(),
            remedy: Remedy {
                short: story.fix.into(),
                steps: story.steps.iter().map(|&s| s.into()).collect(),
                commands: story.commands.iter().map(|&c| c.into()).collect(),
                reference: (story.verdict < Verdict::Survives).then(|| USE_V2.into()),
            },
        },
        client: Client {
            program: story.program.into(),
            workload: story.workload,
            user: story.user.into(),
            package: story.package.map(str::to_owned),
            host_network: (!story.program.is_empty()).then_some(true),
        },
    }
}

/// What calls often calls more by day.
fn hour(story: &Story<'_>, time: i64) -> Hour {
    let [tokenless, with_token, tokens] = story.calls;
    let is_day = (7..19).contains(&(time / HOUR % 24));
    let more = match (is_day, tokenless) {
        (true, 3..) => tokenless + (time / HOUR % 7).unsigned_abs(),
        _ => 0,
    };
    Hour {
        begin: rfc3339(time),
        tokenless: tokenless + more,
        others: with_token + tokens,
    }
}

fn sample(story: &Story<'_>, time: i64) -> Sample {
    let is_known = !story.args.is_empty();
    Sample {
        time: time + 1_712_345_678_000,
        version: "v1".into(),
        how: story.how,
        answer: story.answer.0,
        status: story.answer.1,
        server: Some(
            if story.answer.0 == Answer::NotImds {
                "kube2iam"
            } else {
                "EC2ws"
            }
            .into(),
        ),
        method: "GET".into(),
        target: story.path.0.into(),
        user_agent: story.agent.map(str::to_owned),
        address: "169.254.169.254".into(),
        pid: is_known.then_some(4711),
        executable: story.args.first().map(|&arg| arg.into()),
        args: story.args.iter().map(|&arg| arg.into()).collect(),
        ancestors: if is_known {
            vec![(812, "sh".into()), (1, "systemd".into())]
        } else {
            vec![]
        },
        connector: None,
    }
}
