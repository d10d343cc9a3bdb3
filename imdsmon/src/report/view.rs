//! The report prepared for text, Markdown and HTML: final strings and one set of limits. The
//! renderers only lay it out.
//!
//! Control characters, and characters that hide or reorder text, are escaped here; each renderer
//! escapes markup.

use crate::{
    ledger::Sample,
    report::{
        field::{Field, shown},
        format, labels,
        model::{
            ClientReport, MetricReport, NextStep, PathReport, Reconciliation, Report, ReportVerdict,
        },
    },
    text::{escape::escaped, shell},
    verdict::{HostVerdict, Judgement, Verdict},
};

// Maximum items of each client and metric; the JSON report has all.
const MAX_PATHS: usize = 10;
const MAX_USER_AGENTS: usize = 5;
const MAX_SAMPLES: usize = 4;
const MAX_DIFFERENCES: usize = 10;
/// Characters of a name in a heading or a table.
const MAX_NAME: usize = 256;

pub(super) const NO_CLIENTS: &str = "No calls to the metadata service were observed.";

pub(super) struct View {
    pub(super) verdict: HostVerdict,
    pub(super) headline: &'static str,
    pub(super) sentence: String,
    pub(super) instance: Option<String>,
    pub(super) facts: Vec<Field>,
    pub(super) doubts: Vec<String>,
    pub(super) clients: Vec<ClientView>,
    pub(super) cloudwatch: Option<CloudWatch>,
    pub(super) next_steps: Vec<StepView>,
    pub(super) generator: String,
    pub(super) generated_at: String,
}

pub(super) struct ClientView {
    /// From 1, as listed.
    pub(super) number: usize,
    pub(super) program: String,
    /// Workload and user; empty if unknown.
    pub(super) runs_as: String,
    pub(super) verdict: Verdict,
    pub(super) verdict_name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) needs_action: bool,
    pub(super) v1_calls: u64,
    /// IMDSv1 calls and all calls.
    pub(super) counts: String,
    pub(super) last_seen: Moment,
    pub(super) requested: &'static str,
    /// Rank of `requested`; higher is more sensitive.
    pub(super) sensitivity: u8,
    pub(super) reason: String,
    pub(super) rule: &'static str,
    pub(super) confidence: &'static str,
    pub(super) fix: StepView,
    pub(super) fields: Vec<Field>,
    /// Each path with what it exposes and how often it was requested.
    pub(super) paths: Vec<(String, String)>,
    pub(super) more_paths: Option<String>,
    pub(super) samples: Vec<CallView>,
}

/// A time in the forms that the formats need.
pub(super) struct Moment {
    pub(super) rfc3339: String,
    pub(super) minute: String,
    pub(super) ago: String,
}

/// An example of a client's calls.
pub(super) struct CallView {
    pub(super) when: String,
    pub(super) cause: &'static str,
    pub(super) request: String,
    pub(super) response: String,
    pub(super) fields: Vec<Field>,
}

pub(super) struct CloudWatch {
    pub(super) sentence: String,
    pub(super) metrics: Vec<MetricView>,
}

pub(super) struct MetricView {
    pub(super) name: String,
    pub(super) cloudwatch: String,
    pub(super) imdsmon: String,
    pub(super) explained: String,
    /// Less than 95 % is explained.
    pub(super) is_low: bool,
    pub(super) periods: String,
    /// What was left out, and where the counts differ.
    pub(super) notes: Vec<String>,
}

/// A step with its commands.
pub(super) struct StepView {
    pub(super) title: String,
    /// Explanation, or the steps in order.
    pub(super) text: Vec<String>,
    /// Not truncated, one line each.
    pub(super) commands: Vec<String>,
    pub(super) reference: Option<String>,
}

impl View {
    pub(super) fn new(report: &Report) -> Self {
        let ReportVerdict {
            verdict,
            sentence,
            doubts,
        } = &report.verdict;
        let instance = match (&report.instance.id, &report.instance.hostname) {
            (Some(id), Some(host)) => Some(format!("{id} ({host})")),
            (Some(name), None) | (None, Some(name)) => Some(name.clone()),
            (None, None) => None,
        };
        let clients = (1..).zip(&report.clients);
        Self {
            verdict: *verdict,
            headline: labels::headline(*verdict),
            sentence: shown(sentence),
            instance: instance.map(|name| named(&name)),
            facts: labels::facts(report),
            doubts: doubts.iter().map(|doubt| shown(doubt)).collect(),
            clients: clients
                .map(|(number, client)| ClientView::new(report, number, client))
                .collect(),
            cloudwatch: report.cloudwatch.as_ref().map(CloudWatch::new),
            next_steps: report.next_steps.iter().map(StepView::next).collect(),
            generator: shown(&report.generator),
            generated_at: report.generated_at.to_minute(),
        }
    }

    pub(super) fn needing_action(&self) -> impl Iterator<Item = &ClientView> {
        self.clients.iter().filter(|client| client.needs_action)
    }
}

impl ClientView {
    fn new(report: &Report, number: usize, client: &ClientReport) -> Self {
        let Judgement {
            verdict,
            rule,
            needs_action,
            confidence,
            reason,
            remedy,
            ..
        } = &client.judgement;
        let totals = &client.totals;
        Self {
            number,
            program: named(&labels::program(client)),
            runs_as: named(&labels::runs_as(client)),
            verdict: *verdict,
            verdict_name: verdict.into(),
            meaning: labels::meaning(*verdict),
            needs_action: *needs_action,
            v1_calls: totals.tokenless,
            counts: labels::counts(totals.tokenless, totals.calls),
            last_seen: Moment {
                rfc3339: client.last_seen.to_rfc3339(),
                minute: client.last_seen.to_minute(),
                ago: format::ago(client.last_seen, report.generated_at),
            },
            requested: client.most_sensitive.into(),
            sensitivity: client.most_sensitive as u8,
            reason: shown(reason),
            rule: rule.into(),
            confidence: labels::certainty(*confidence),
            fix: StepView::new(
                &remedy.short,
                &remedy.steps,
                &remedy.commands,
                remedy.reference.as_deref(),
            ),
            fields: fields(report, client),
            paths: client.paths.iter().take(MAX_PATHS).map(path).collect(),
            more_paths: more(client.paths.len(), MAX_PATHS, client.more_paths),
            samples: client
                .samples
                .iter()
                .take(MAX_SAMPLES)
                // The only User-Agent of the client is shown once.
                .map(|sample| CallView::new(sample, client.user_agents.len() > 1))
                .collect(),
        }
    }
}

fn fields(report: &Report, client: &ClientReport) -> Vec<Field> {
    let mut fields = vec![
        Field::untrusted("Runs as", &labels::runs_as(client)),
        Field::untrusted("In", &labels::origin(client).join("; ")),
    ];
    let sdks: Vec<_> = client.sdks.iter().map(labels::sdk).collect();
    fields.push(Field::untrusted("SDK", &sdks.join(", ")));
    fields.push(Field::statement("Calls", &labels::calls(&client.totals)));
    let observed = format!(
        "{} to {} UTC, last {}",
        client.first_seen.to_minute(),
        client.last_seen.to_minute(),
        format::ago(client.last_seen, report.generated_at)
    );
    fields.push(Field::statement("Observed", &observed));
    let agents = client.user_agents.iter().take(MAX_USER_AGENTS);
    fields.extend(agents.map(|agent| Field::untrusted("User-Agent", agent)));
    if let Some(more) = more(client.user_agents.len(), MAX_USER_AGENTS, 0) {
        fields.push(Field::statement("User-Agent", &more));
    }
    fields.retain(|field| !field.text.is_empty());
    fields
}

fn path(path: &PathReport) -> (String, String) {
    let PathReport {
        path,
        class,
        tokenless,
        with_token,
    } = path;
    let counts = format!(
        "{}; {} IMDSv1, {} IMDSv2",
        <&str>::from(class),
        format::count(*tokenless),
        format::count(*with_token)
    );
    (shown(path), counts)
}

/// Number of items not shown: those of `listed` beyond `max`, and the `unlisted`.
fn more(listed: usize, max: usize, unlisted: u64) -> Option<String> {
    let hidden = (listed.saturating_sub(max) as u64).saturating_add(unlisted);
    (hidden > 0).then(|| format!("and {} more", format::count(hidden)))
}

impl CallView {
    fn new(sample: &Sample, shows_agent: bool) -> Self {
        let mut fields = Vec::new();
        if let Some(ancestry) = labels::ancestry(sample) {
            fields.push(Field::untrusted("process", &ancestry));
        }
        if !sample.args.is_empty() {
            fields.push(Field::untrusted("command", &shell::join(&sample.args)));
        }
        if let Some(agent) = sample.user_agent.as_ref().filter(|_| shows_agent) {
            fields.push(Field::untrusted("User-Agent", agent));
        }
        if let Some(opener) = &sample.connector {
            fields.push(Field::untrusted(
                "connection opened by",
                &shell::join(opener),
            ));
        }
        let request = format!("{} {} to {}", sample.method, sample.target, sample.address);
        Self {
            when: sample.time.to_second(),
            cause: labels::cause(sample.cause),
            request: shown(&request),
            response: shown(&labels::response(sample)),
            fields,
        }
    }
}

impl CloudWatch {
    fn new(reconciliation: &Reconciliation) -> Self {
        Self {
            sentence: shown(&reconciliation.sentence),
            metrics: reconciliation.metrics.iter().map(MetricView::new).collect(),
        }
    }
}

impl MetricView {
    fn new(metric: &MetricReport) -> Self {
        let mut notes = Vec::new();
        if metric.left_out > 0 {
            let left_out = format::count(metric.left_out);
            notes.push(format!("{left_out} periods were not observed in full"));
        }
        let differences = metric.differences.iter().take(MAX_DIFFERENCES);
        notes.extend(differences.map(|difference| {
            format!(
                "{} UTC: CloudWatch {}, imdsmon {}",
                difference.begin.to_minute(),
                format::sum(difference.cloudwatch),
                format::count(difference.imdsmon)
            )
        }));
        notes.extend(more(metric.differences.len(), MAX_DIFFERENCES, 0));
        Self {
            name: named(&metric.metric),
            cloudwatch: format::sum(metric.cloudwatch),
            imdsmon: format::count(metric.imdsmon),
            explained: metric.explained.map_or_else(|| "-".into(), format::share),
            is_low: metric.explained.is_some_and(|share| share < 0.95),
            periods: format!(
                "{} of {}",
                format::count(metric.compared),
                format::length(metric.period_s)
            ),
            notes,
        }
    }
}

impl StepView {
    fn next(step: &NextStep) -> Self {
        let NextStep {
            title,
            text,
            commands,
            reference,
        } = step;
        Self::new(
            title,
            std::slice::from_ref(text),
            commands,
            reference.as_deref(),
        )
    }

    fn new(title: &str, text: &[String], commands: &[String], reference: Option<&str>) -> Self {
        // A command is one line: a line feed in a name must not start another.
        let command = |command: &String| escaped(command, usize::MAX).to_string();
        Self {
            title: shown(title),
            text: text.iter().map(|text| shown(text)).collect(),
            commands: commands.iter().map(command).collect(),
            reference: reference.filter(|url| is_link(url)).map(str::to_owned),
        }
    }
}

/// Whether every format can show this as a link.
fn is_link(url: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#@!$&'+,;=%".contains(c);
    url.starts_with("https://") && url.chars().all(is_plain)
}

fn named(text: &str) -> String {
    escaped(text, MAX_NAME).to_string()
}
