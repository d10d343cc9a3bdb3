//! What the template shows: texts, made ready. Characters that hide or reorder text are escaped
//! here, markup by the template.

use askama::Template;

use super::{SCRIPT, SCRIPT_HASH, STYLE, STYLE_HASH, chart::Chart};
use crate::{
    ledger::Sample,
    report::{
        format, labels,
        model::{ClientReport, MetricReport, NextStep, Reconciliation, Report},
    },
    text::escape::escaped,
    verdict::HostVerdict,
};

/// Characters of one text that are shown at most.
const MAX: usize = 2000;
/// Clients whose block is open from the start.
const OPEN: usize = 8;
/// Periods in which CloudWatch differs that are shown.
const DIFFERENCES: usize = 10;

#[derive(Template)]
#[template(path = "report.html")]
pub(super) struct View {
    style: &'static str,
    style_hash: &'static str,
    script: &'static str,
    script_hash: &'static str,
    answer: &'static str,
    answer_class: &'static str,
    sentence: String,
    instance: String,
    generated_at: String,
    generator: String,
    facts: Vec<Fact>,
    doubts: Vec<String>,
    verdicts: Vec<(&'static str, usize)>,
    clients: Vec<Client>,
    cloudwatch: Option<CloudWatch>,
    next_steps: Vec<Step>,
}

struct Fact {
    label: &'static str,
    text: String,
    is_doubtful: bool,
}

struct Client {
    number: usize,
    program: String,
    who: String,
    verdict: &'static str,
    meaning: &'static str,
    /// 0 is the worst.
    severity: u8,
    needs_action: bool,
    is_open: bool,
    tokenless: u64,
    counts: String,
    last_seen: String,
    last: String,
    ago: String,
    fetched: &'static str,
    sensitivity: u8,
    reason: String,
    rule: String,
    certainty: &'static str,
    fix: String,
    steps: Vec<String>,
    commands: Vec<String>,
    reference: Option<String>,
    chart: Option<Chart>,
    pairs: Vec<(&'static str, String)>,
    paths: Vec<(String, String)>,
    more_paths: Option<String>,
    samples: Vec<Call>,
}

struct Call {
    when: String,
    how: &'static str,
    request: String,
    reply: String,
    lines: Vec<(&'static str, String)>,
}

struct CloudWatch {
    sentence: String,
    metrics: Vec<Metric>,
}

struct Metric {
    name: String,
    cloudwatch: String,
    imdsmon: String,
    explained: String,
    periods: String,
    differences: Vec<String>,
}

struct Step {
    title: String,
    text: String,
    commands: Vec<String>,
    reference: Option<String>,
}

impl View {
    pub(super) fn new(report: &Report) -> Self {
        let instance = report.instance.id.as_ref();
        let instance = match (instance, &report.instance.hostname) {
            (Some(id), Some(host)) => format!("{id} ({host})"),
            (Some(name), None) | (None, Some(name)) => name.clone(),
            (None, None) => "this instance".into(),
        };
        let facts = labels::facts(report).into_iter();
        let clients = report.clients.iter().enumerate();
        Self {
            style: STYLE,
            style_hash: STYLE_HASH,
            script: SCRIPT,
            script_hash: SCRIPT_HASH,
            answer: labels::answer(report.answer.verdict),
            answer_class: match report.answer.verdict {
                HostVerdict::Ready => "ready",
                HostVerdict::NotReady => "not-ready",
                HostVerdict::Inconclusive => "inconclusive",
            },
            sentence: shown(&report.answer.sentence),
            instance: escaped(&instance, 100).to_string(),
            generated_at: format::minute(&report.generated_at),
            generator: shown(&report.generator),
            facts: facts
                .map(|(label, text, is_good)| Fact {
                    label,
                    text: shown(&text),
                    is_doubtful: !is_good,
                })
                .collect(),
            doubts: report.answer.doubts.iter().map(|d| shown(d)).collect(),
            verdicts: verdicts(&report.clients),
            clients: clients.map(|(i, c)| Client::new(report, i, c)).collect(),
            cloudwatch: report.cloudwatch.as_ref().map(CloudWatch::new),
            next_steps: report.next_steps.iter().map(Step::new).collect(),
        }
    }
}

/// Each verdict that some client has, worst first, with how many have it.
fn verdicts(clients: &[ClientReport]) -> Vec<(&'static str, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for client in clients {
        *counts.entry(client.judgement.verdict).or_default() += 1;
    }
    let names = counts.into_iter();
    names.map(|(v, n)| (labels::verdict(v), n)).collect()
}

impl Client {
    fn new(report: &Report, index: usize, client: &ClientReport) -> Self {
        let judgement = &client.judgement;
        let totals = &client.totals;
        let who = [labels::workload(client)]
            .into_iter()
            .chain(labels::user(client))
            .filter(|part| !part.is_empty());
        Self {
            number: index + 1,
            program: shown(&labels::program(client)),
            who: shown(&who.collect::<Vec<_>>().join(", ")),
            verdict: labels::verdict(judgement.verdict),
            meaning: labels::meaning(judgement.verdict),
            severity: judgement.verdict as u8,
            needs_action: judgement.needs_action,
            is_open: judgement.needs_action && index < OPEN,
            tokenless: totals.tokenless,
            counts: format!(
                "{} / {}",
                format::count(totals.tokenless),
                format::count(totals.calls)
            ),
            last_seen: shown(&client.last_seen),
            last: shown(&format::second(&client.last_seen)),
            ago: shown(&format::ago(&client.last_seen, &report.generated_at)),
            fetched: labels::class(client.most_sensitive),
            sensitivity: client.most_sensitive as u8,
            reason: shown(&judgement.reason),
            rule: shown(judgement.rule),
            certainty: labels::certainty(judgement.confidence),
            fix: shown(&judgement.remedy.short),
            steps: judgement.remedy.steps.iter().map(|s| shown(s)).collect(),
            commands: judgement.remedy.commands.iter().map(|c| typed(c)).collect(),
            reference: link(judgement.remedy.reference.as_deref()),
            chart: Chart::new(&report.window, client),
            pairs: pairs(client),
            paths: client
                .paths
                .iter()
                .map(|path| {
                    let counts = format!(
                        "{}; {} tokenless, {} with a token",
                        labels::class(path.class),
                        format::count(path.tokenless),
                        format::count(path.with_token)
                    );
                    (shown(&path.path), counts)
                })
                .collect(),
            more_paths: (client.more_paths > 0).then(|| format::count(client.more_paths)),
            samples: client.samples.iter().map(Call::new).collect(),
        }
    }
}

fn pairs(client: &ClientReport) -> Vec<(&'static str, String)> {
    let mut pairs = vec![("Runs as", labels::workload(client))];
    pairs.push(("User", client.client.user.clone()));
    pairs.extend(labels::origin(client).into_iter().map(|part| ("In", part)));
    pairs.extend(client.sdks.iter().map(|sdk| ("SDK", labels::sdk(sdk))));
    let agents = client.user_agents.iter();
    pairs.extend(agents.map(|agent| ("User-Agent", agent.clone())));
    pairs.push(("Calls", labels::calls(&client.totals)));
    pairs.push((
        "First seen",
        format!("{} UTC", format::second(&client.first_seen)),
    ));
    pairs.push((
        "Last seen",
        format!("{} UTC", format::second(&client.last_seen)),
    ));
    pairs.retain(|(_, text)| !text.is_empty());
    pairs
        .iter()
        .map(|(label, text)| (*label, shown(text)))
        .collect()
}

impl Call {
    fn new(sample: &Sample) -> Self {
        let mut lines = Vec::new();
        if let Some(ancestry) = labels::ancestry(sample) {
            lines.push(("by", shown(&ancestry)));
        }
        if !sample.args.is_empty() {
            lines.push(("as", shown(&labels::arguments(&sample.args))));
        }
        if let Some(agent) = &sample.user_agent {
            lines.push(("User-Agent", shown(agent)));
        }
        if let Some(connector) = &sample.connector {
            let opener = labels::arguments(connector);
            lines.push(("on a connection opened by", shown(&opener)));
        }
        Self {
            when: format::second(&crate::time::rfc3339(sample.time)),
            how: labels::how(sample.how),
            request: format!(
                "{} {} to {}",
                shown(&sample.method),
                shown(&sample.target),
                shown(&sample.address)
            ),
            reply: shown(&labels::reply(sample)),
            lines,
        }
    }
}

impl CloudWatch {
    fn new(reconciliation: &Reconciliation) -> Self {
        Self {
            sentence: shown(&reconciliation.sentence),
            metrics: reconciliation.metrics.iter().map(Metric::new).collect(),
        }
    }
}

impl Metric {
    fn new(metric: &MetricReport) -> Self {
        let mut differences: Vec<String> = metric
            .differences
            .iter()
            .take(DIFFERENCES)
            .map(|d| {
                format!(
                    "{} UTC: {} against {}",
                    format::minute(&d.begin),
                    format::sum(d.cloudwatch),
                    format::count(d.imdsmon)
                )
            })
            .collect();
        let more = metric.differences.len().saturating_sub(DIFFERENCES);
        if more > 0 {
            differences.push(format!("and {more} more"));
        }
        let mut periods = format!(
            "{} of {}",
            format::count(metric.compared),
            format::length(metric.period_s)
        );
        if metric.left_out > 0 {
            periods.push_str(", ");
            periods.push_str(&format::count(metric.left_out));
            periods.push_str(" left out: not watched whole");
        }
        Self {
            name: shown(&metric.metric),
            cloudwatch: format::sum(metric.cloudwatch),
            imdsmon: format::count(metric.imdsmon),
            explained: metric.explained.map_or_else(|| "-".into(), format::share),
            periods,
            differences,
        }
    }
}

impl Step {
    fn new(step: &NextStep) -> Self {
        let NextStep {
            title,
            text,
            commands,
            reference,
        } = step;
        Self {
            title: shown(title),
            text: shown(text),
            commands: commands.iter().map(|command| typed(command)).collect(),
            reference: link(reference.as_deref()),
        }
    }
}

fn shown(text: &str) -> String {
    escaped(text, MAX).to_string()
}

/// A command, whole, and one line.
fn typed(command: &str) -> String {
    escaped(command, usize::MAX).to_string()
}

/// Only what leads to the web is a link.
fn link(url: Option<&str>) -> Option<String> {
    url.filter(|url| url.starts_with("https://")).map(shown)
}
