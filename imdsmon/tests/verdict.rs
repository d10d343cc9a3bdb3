//! Verdict truth: from what a real client sent while both versions worked, or while it could get
//! no token, the verdict predicts whether it gets its data once tokens are required.
//!
//! The outcome under `required` was recorded with the real client. The table of predictions
//! stands in `docs/verdicts.md`; `IMDSMON_BLESS=1` writes it anew.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test may fail, outside of its test functions as well"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use imdsmon::{
    event::{
        ConnectionId, Endpoint, Event, Received, Role, Sent, Task, TaskId, bytes::ByteString,
        facts::Ancestor,
    },
    knowledge::Knowledge,
    ledger::{Coverage, Ledger},
    pipeline::Pipeline,
    time::Timestamp,
    verdict::{AccessAfter, Judgement, Policy, Rule, Verdict, assess},
};
use serde::Deserialize;
use strum::VariantArray as _;

#[derive(Deserialize)]
struct Run {
    client: String,
    mode: String,
    got_data: Option<bool>,
    processes: Vec<Process>,
    requests: Vec<Request>,
}

#[derive(Deserialize)]
struct Process {
    exe: String,
    argv: Vec<String>,
}

#[derive(Deserialize)]
struct Request {
    connection: ConnectionId,
    t: f64,
    raw: ByteString,
    /// A number, or a word for "never answered".
    status: serde_json::Value,
}

/// When a connection on which nothing is answered ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hangs {
    /// Before the client goes on.
    UntilTheNextRequest,
    /// To the end, so that the calls it explains are known before it is.
    ToTheEnd,
}

impl Request {
    fn status(&self) -> Option<u16> {
        self.status.as_u64().map(|s| u16::try_from(s).unwrap())
    }

    fn time(&self) -> Timestamp {
        #[expect(clippy::cast_possible_truncation, reason = "minutes, in nanoseconds")]
        let time = (self.t * 1e9) as i64;
        Timestamp::from_nanos(1_700_000_000_000_000_000 + time)
    }

    fn target(&self) -> String {
        let text = self.raw.to_text();
        text.split(' ').nth(1).unwrap().to_owned()
    }

    fn is_put(&self) -> bool {
        self.raw.starts_with(b"PUT ")
    }

    fn is_imdsv1(&self) -> bool {
        let text = self.raw.to_text().to_lowercase();
        let has_header = text.contains("\nx-aws-ec2-metadata-token:");
        let is_token_request = self.is_put() && self.target().contains("/api/token");
        !has_header && !is_token_request
    }
}

/// Each connection has a task of its own.
fn task_of(ConnectionId(number): ConnectionId) -> Option<TaskId> {
    TaskId::new(number)
}

impl Run {
    /// Which process used a connection: the one whose arguments name what was asked for.
    fn process_of(&self, request: &Request) -> usize {
        let target = request.target();
        let names = |p: &&Process| p.argv.iter().any(|arg| arg.ends_with(&target));
        let found = self.processes.iter().position(|p| names(&p));
        found.unwrap_or(0)
    }

    fn task(&self, request: &Request) -> Event {
        let index = self.process_of(request);
        let Process { exe, argv } = &self.processes[index];
        let bytes = |text: &str| ByteString::from(text);
        let name = exe.rsplit('/').next().unwrap();
        let pid = 1000 + u32::try_from(index).unwrap();
        Event::Task(Box::new(Task {
            time: request.time(),
            connection: request.connection,
            task: task_of(request.connection).unwrap(),
            role: Role::Connector,
            pid,
            tid: pid,
            start: Some(u64::from(pid)),
            exe_name: Some(bytes(name)),
            exe: Some(bytes(exe)),
            argv: Some(argv.iter().map(|arg| bytes(arg)).collect()),
            ancestors: vec![Ancestor {
                pid: 900,
                name: bytes("bash"),
                argv: Vec::new(),
            }],
            ..Task::default()
        }))
    }

    /// The events of the run.
    fn events(&self, hangs: Hangs) -> Vec<Event> {
        let mut events = Vec::new();
        let mut sent: BTreeMap<ConnectionId, u32> = BTreeMap::new();
        let mut received: BTreeMap<ConnectionId, u32> = BTreeMap::new();
        let mut hung: Option<ConnectionId> = None;
        for request in &self.requests {
            let (time, connection) = (request.time(), request.connection);
            let other = hung.take_if(|hung| *hung != connection);
            if let (Some(connection), Hangs::UntilTheNextRequest) = (other, hangs) {
                events.push(Event::Closed { time, connection });
            }
            let is_new = !sent.contains_key(&connection);
            if is_new {
                events.push(self.task(request));
            }
            let seq = sent.entry(connection).or_insert(1000);
            let len = u32::try_from(request.raw.len()).unwrap();
            events.push(Event::Sent(Sent {
                time,
                connection,
                task: task_of(connection),
                server: Endpoint::V4,
                seq: *seq,
                len,
                syn: is_new,
                fin: false,
                rst: false,
                urgent: false,
                bytes: request.raw.clone(),
            }));
            *seq += len;
            let Some(status) = request.status() else {
                hung = Some(connection);
                continue;
            };
            let head = format!("HTTP/1.1 {status} X\r\nServer: EC2ws\r\nContent-Length: 0\r\n\r\n");
            let seq = received.entry(connection).or_insert(2000);
            let len = u32::try_from(head.len()).unwrap();
            events.push(Event::Received(Received {
                time: time + Duration::from_micros(300),
                connection,
                seq: *seq,
                len,
                fin: false,
                rst: false,
                head: head.into_bytes().into(),
            }));
            *seq += len;
        }
        events
    }

    /// What imdsmon concludes of the run.
    fn judge(&self, hangs: Hangs) -> Judgement {
        let knowledge = Rc::new(Knowledge::builtin());
        let mut pipeline = Pipeline::new(Rc::clone(&knowledge));
        let mut ledger = Ledger::new(Rc::clone(&knowledge));
        for event in self.events(hangs) {
            pipeline.feed(&event);
            while let Some(found) = pipeline.take() {
                ledger.add(&found);
            }
        }
        pipeline.finish();
        while let Some(found) = pipeline.take() {
            ledger.add(&found);
        }
        let counted: i64 = ledger
            .entries()
            .map(imdsmon::ledger::ClientStats::calls)
            .sum();
        assert_eq!(usize::try_from(counted).unwrap(), self.requests.len());
        let policy = Policy::default();
        let assessment = assess(ledger.entries(), &Coverage::default(), &knowledge, &policy);
        assert_eq!(assessment.clients.len(), 1, "{}", self.client);
        assessment.clients[0].judgement.clone()
    }

    /// "Any IMDSv1 call means that the client breaks."
    fn naive(&self) -> bool {
        !self.requests.iter().any(Request::is_imdsv1)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The runs by client and mode.
fn corpus() -> BTreeMap<String, BTreeMap<String, Run>> {
    let text = std::fs::read_to_string(root().join("tests/corpus/clients.jsonl")).unwrap();
    let mut clients: BTreeMap<String, BTreeMap<String, Run>> = BTreeMap::new();
    for line in text.lines() {
        let run: Run = serde_json::from_str(line).unwrap();
        let modes = clients.entry(run.client.clone()).or_default();
        modes.insert(run.mode.clone(), run);
    }
    clients
}

const MODES: [&str; 3] = ["optional", "hoplimit", "put403"];

#[derive(Default)]
struct Score {
    predicted: usize,
    wrong: Vec<String>,
    naive_wrong: usize,
}

#[test]
fn verdicts_predict_what_clients_get_under_required() {
    let mut scores = MODES.map(|_| Score::default());
    let mut table = String::from(
        "| client | from `optional` | from `hoplimit` | from `put403` | gets data under `required` |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for (client, modes) in corpus() {
        let truth = modes.get("required").and_then(|run| run.got_data);
        write!(table, "| {client} |").unwrap();
        for (mode, score) in MODES.iter().zip(&mut scores) {
            let Some(run) = modes.get(*mode).filter(|run| !run.requests.is_empty()) else {
                table.push_str(" |");
                continue;
            };
            let judgement = run.judge(Hangs::UntilTheNextRequest);
            let late = run.judge(Hangs::ToTheEnd);
            assert_eq!(judgement.rule, late.rule, "{client} {mode}");
            let verdict = serde_json::to_value(judgement.verdict).unwrap();
            let verdict = verdict.as_str().unwrap();
            write!(table, " {verdict} (`{}`) |", <&str>::from(judgement.rule)).unwrap();
            let Some(truth) = truth else { continue };
            score.predicted += 1;
            score.naive_wrong += usize::from(run.naive() != truth);
            if judgement.access_after.gets_data() != truth {
                score.wrong.push(format!("{client} {mode}: {judgement:?}"));
            }
        }
        let truth = match truth {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not known",
        };
        writeln!(table, " {truth} |").unwrap();
    }
    let mut summary = String::from(
        "| from | clients | \"any IMDSv1 call breaks\" is wrong for | imdsmon is wrong for |\n\
         | --- | --- | --- | --- |\n",
    );
    for (mode, score) in MODES.iter().zip(&scores) {
        let Score {
            predicted,
            wrong,
            naive_wrong,
        } = score;
        assert!(*predicted > 40, "{mode}: {predicted}");
        writeln!(
            summary,
            "| `{mode}` | {predicted} | {naive_wrong} | {} |",
            wrong.len()
        )
        .unwrap();
    }
    let wrong: Vec<_> = scores.iter().flat_map(|score| &score.wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_documented("truth", &format!("{summary}\n{table}"));
}

/// What a client does in `required` itself is judged by the same rules.
#[test]
fn calls_under_required_are_judged_by_their_result() {
    let mut judged = 0;
    for (client, modes) in corpus() {
        let Some(run) = modes.get("required").filter(|run| !run.requests.is_empty()) else {
            continue;
        };
        let Some(truth) = run.got_data else { continue };
        let judgement = run.judge(Hangs::UntilTheNextRequest);
        assert_eq!(
            judgement.access_after.gets_data(),
            truth,
            "{client}: {judgement:?}"
        );
        judged += 1;
    }
    assert!(judged > 90, "{judged}");
}

/// The remedy is the one that works: a client that falls back is not told to update.
#[test]
fn a_client_that_falls_back_gets_the_cause() {
    let mut seen = BTreeSet::new();
    for (client, modes) in corpus() {
        for mode in ["hoplimit", "put403"] {
            let Some(run) = modes.get(mode) else { continue };
            let judgement = run.judge(Hangs::UntilTheNextRequest);
            if judgement.verdict != Verdict::FallsBack {
                continue;
            }
            assert!(judgement.needs_action, "{client}");
            assert_eq!(
                judgement.access_after,
                AccessAfter::AllOnceFixed,
                "{client}"
            );
            let raises = judgement
                .remedy
                .commands
                .iter()
                .any(|command| command.contains("--http-put-response-hop-limit 2"));
            assert_eq!(raises, mode == "hoplimit", "{client} {judgement:?}");
            seen.insert(client.clone());
        }
    }
    assert!(seen.len() > 25, "{}", seen.len());
}

#[test]
fn every_rule_is_documented() {
    let text = std::fs::read_to_string(root().join("docs/verdicts.md")).unwrap();
    for rule in Rule::VARIANTS {
        let verdict = serde_json::to_value(rule.verdict()).unwrap();
        let row = format!(
            "| `{}` | `{}` |",
            verdict.as_str().unwrap(),
            <&str>::from(rule)
        );
        assert!(text.contains(&row), "docs/verdicts.md has no row {row}");
    }
}

/// The part of `docs/verdicts.md` between the marks of this name is exactly this text.
fn assert_documented(name: &str, expected: &str) {
    let path = root().join("docs/verdicts.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&begin).expect("the mark at the begin");
    let (found, after) = rest.split_once(&end).expect("the mark at the end");
    if std::env::var_os("IMDSMON_BLESS").is_some() {
        let new = format!("{before}{begin}{expected}{end}{after}");
        std::fs::write(&path, new).unwrap();
        return;
    }
    assert!(
        found == expected,
        "docs/verdicts.md is not what is predicted; IMDSMON_BLESS=1 writes it anew:\n{expected}"
    );
}
