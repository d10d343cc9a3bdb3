//! The report as Markdown, to be pasted into a ticket: GitHub's dialect, which Jira's editor and
//! GitLab read as well.
//!
//! What a process says of itself stands in code, where nothing is markup, a link or a mention.

use std::{
    fmt,
    io::{self, Write},
};

use super::model::{ClientReport, NextStep, Reconciliation, Report};
use crate::ledger::Sample;
use crate::{
    report::{format, labels},
    text::escape::escaped,
};

/// Characters of one text that are shown at most.
const MAX: usize = 1000;
/// Paths, User-Agents, calls and periods that are shown of each client; the JSON has all.
const SHOWN: usize = 6;

/// Writes the report.
pub fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let answer = &report.answer;
    writeln!(
        out,
        "## {}: {}\n",
        labels::answer(answer.verdict),
        prose(&answer.sentence)
    )?;
    let name = report.instance.id.iter().chain(&report.instance.hostname);
    let names: Vec<String> = name.map(|name| code(name).to_string()).collect();
    if !names.is_empty() {
        writeln!(out, "- **Instance**: {}", names.join(" "))?;
    }
    for (label, text, is_good) in labels::facts(report) {
        let mark = if is_good { "" } else { "⚠️ " };
        writeln!(out, "- **{label}**: {mark}{}", prose(&text))?;
    }
    for doubt in &answer.doubts {
        writeln!(out, "- **In doubt**: ⚠️ {}", prose(doubt))?;
    }
    clients(out, report)?;
    for client in report.clients.iter().filter(|c| c.judgement.needs_action) {
        block(out, client)?;
    }
    if let Some(cloudwatch) = &report.cloudwatch {
        reconciliation(out, cloudwatch)?;
    }
    next_steps(out, &report.next_steps)?;
    writeln!(
        out,
        "\n_Made by imdsmon {} at {} UTC._",
        prose(&report.generator),
        format::minute(&report.generated_at)
    )
}

fn clients(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "\n### Clients, worst first\n")?;
    if report.clients.is_empty() {
        return writeln!(out, "No call to the metadata service was seen.");
    }
    writeln!(
        out,
        "| Client | Runs as | User | Verdict | Tokenless / all | Last seen (UTC) | Fetched | Fix |\n\
         | --- | --- | --- | --- | ---: | --- | --- | --- |"
    )?;
    for client in &report.clients {
        let judgement = &client.judgement;
        let fix = if judgement.needs_action {
            judgement.remedy.short.as_str()
        } else {
            ""
        };
        writeln!(
            out,
            "| {} | {} | {} | {} | {} / {} | {} | {} | {} |",
            cell(&labels::program(client)),
            cell(&labels::workload(client)),
            cell(&client.client.user),
            bold_if(judgement.needs_action, labels::verdict(judgement.verdict)),
            format::count(client.totals.tokenless),
            format::count(client.totals.calls),
            prose(&format::minute(&client.last_seen)),
            labels::class(client.most_sensitive),
            prose(fix),
        )?;
    }
    Ok(())
}

fn bold_if(is_bold: bool, text: &str) -> String {
    if is_bold {
        format!("**{text}**")
    } else {
        text.to_owned()
    }
}

fn block(out: &mut impl Write, client: &ClientReport) -> io::Result<()> {
    let judgement = &client.judgement;
    writeln!(
        out,
        "\n### {}: {}\n\n{}\n",
        labels::verdict(judgement.verdict),
        code(&labels::program(client)),
        prose(&judgement.reason)
    )?;
    writeln!(
        out,
        "- **Rule**: `{}` ({})",
        judgement.rule,
        labels::certainty(judgement.confidence)
    )?;
    let who = [labels::workload(client)]
        .into_iter()
        .chain(labels::user(client))
        .chain(labels::origin(client))
        .filter(|part| !part.is_empty());
    list(out, "Who", who)?;
    list(out, "SDK", client.sdks.iter().map(labels::sdk))?;
    writeln!(out, "- **Calls**: {}", labels::calls(&client.totals))?;
    writeln!(
        out,
        "- **Seen**: {} to {} UTC",
        prose(&format::minute(&client.first_seen)),
        prose(&format::minute(&client.last_seen))
    )?;
    let agents = client.user_agents.iter().take(SHOWN).cloned();
    list(out, "User-Agent", agents)?;
    let paths = client
        .paths
        .iter()
        .take(SHOWN)
        .map(|path| path.path.clone());
    list(out, "Paths", paths)?;
    for sample in client.samples.iter().take(SHOWN) {
        self::sample(out, sample)?;
    }
    let remedy = &judgement.remedy;
    writeln!(out, "\n**Fix**: {}\n", prose(&remedy.short))?;
    for (number, step) in remedy.steps.iter().enumerate() {
        writeln!(out, "{}. {}", number + 1, prose(step))?;
    }
    commands(out, &remedy.commands)?;
    reference(out, remedy.reference.as_deref())
}

fn list(out: &mut impl Write, label: &str, texts: impl Iterator<Item = String>) -> io::Result<()> {
    let texts: Vec<String> = texts.map(|text| code(&text).to_string()).collect();
    if texts.is_empty() {
        return Ok(());
    }
    writeln!(out, "- **{label}**: {}", texts.join(", "))
}

fn sample(out: &mut impl Write, sample: &Sample) -> io::Result<()> {
    let how = labels::how(sample.how);
    write!(
        out,
        "- **Example**: {} UTC, {} to {}: {}",
        format::second(&crate::time::rfc3339(sample.time)),
        code(&format!("{} {}", sample.method, sample.target)),
        code(&sample.address),
        code(&labels::reply(sample)),
    )?;
    if !how.is_empty() {
        write!(out, ", {how}")?;
    }
    if let Some(ancestry) = labels::ancestry(sample) {
        write!(out, ", by {}", code(&ancestry))?;
    }
    if !sample.args.is_empty() {
        write!(out, ", as {}", code(&labels::arguments(&sample.args)))?;
    }
    if let Some(connector) = &sample.connector {
        let opener = labels::arguments(connector);
        write!(out, ", on a connection opened by {}", code(&opener))?;
    }
    writeln!(out)
}

fn reconciliation(out: &mut impl Write, cloudwatch: &Reconciliation) -> io::Result<()> {
    writeln!(
        out,
        "\n### Compared with CloudWatch\n\n{}\n",
        prose(&cloudwatch.sentence)
    )?;
    if cloudwatch.metrics.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "| Metric | CloudWatch | imdsmon | Explained | Periods compared | Left out |\n\
         | --- | ---: | ---: | ---: | --- | ---: |"
    )?;
    for metric in &cloudwatch.metrics {
        writeln!(
            out,
            "| {} | {} | {} | {} | {} of {} | {} |",
            cell(&metric.metric),
            format::sum(metric.cloudwatch),
            format::count(metric.imdsmon),
            metric.explained.map_or_else(|| "-".into(), format::share),
            format::count(metric.compared),
            format::length(metric.period_s),
            format::count(metric.left_out),
        )?;
    }
    writeln!(out)?;
    for metric in &cloudwatch.metrics {
        for difference in metric.differences.iter().take(SHOWN) {
            writeln!(
                out,
                "- {}, {} UTC: CloudWatch {}, imdsmon {}",
                code(&metric.metric),
                format::minute(&difference.begin),
                format::sum(difference.cloudwatch),
                format::count(difference.imdsmon)
            )?;
        }
        let more = metric.differences.len().saturating_sub(SHOWN);
        if more > 0 {
            writeln!(
                out,
                "- {}: {more} more periods differ",
                code(&metric.metric)
            )?;
        }
    }
    Ok(())
}

fn next_steps(out: &mut impl Write, steps: &[NextStep]) -> io::Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n### Next steps")?;
    for (number, step) in steps.iter().enumerate() {
        let NextStep {
            title,
            text,
            commands: typed,
            reference: page,
        } = step;
        writeln!(
            out,
            "\n**{}. {}** {}",
            number + 1,
            prose(title),
            prose(text)
        )?;
        commands(out, typed)?;
        reference(out, page.as_deref())?;
    }
    Ok(())
}

/// Commands in a block, one line each, whose fence is longer than any in them.
fn commands(out: &mut impl Write, commands: &[String]) -> io::Result<()> {
    if commands.is_empty() {
        return Ok(());
    }
    let longest = commands.iter().map(|command| longest_run(command, '`'));
    let fence = "`".repeat(longest.max().unwrap_or(0).max(2) + 1);
    writeln!(out, "\n{fence}sh")?;
    for command in commands {
        writeln!(out, "{}", escaped(command, usize::MAX))?;
    }
    writeln!(out, "{fence}")
}

/// A link, if it is one to click on.
fn reference(out: &mut impl Write, url: Option<&str>) -> io::Result<()> {
    let Some(url) = url else {
        return Ok(());
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#@!$&'+,;=%".contains(c);
    if url.starts_with("https://") && url.chars().all(is_plain) {
        writeln!(out, "\n<{url}>")
    } else {
        writeln!(out, "\n{}", code(url))
    }
}

/// Untrusted text as code, in a table.
fn cell(text: &str) -> String {
    // A pipe ends a cell even in code, unless a backslash stands before it.
    code(text).to_string().replace('|', "\\|")
}

/// Untrusted text as code: between more backticks than it has in a row.
fn code(text: &str) -> Code<'_> {
    Code(text)
}

struct Code<'a>(&'a str);

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = escaped(self.0, MAX).to_string();
        if shown.trim().is_empty() {
            return Ok(());
        }
        let ticks = "`".repeat(longest_run(&shown, '`') + 1);
        // One space on both sides is taken off again; without it an outer backtick would join in.
        let needs_space = shown.starts_with(['`', ' ']) || shown.ends_with(['`', ' ']);
        let space = if needs_space { " " } else { "" };
        write!(f, "{ticks}{space}{shown}{space}{ticks}")
    }
}

/// Text of ours, in which untrusted parts may stand: what could be markup, a link or a mention
/// is plain text.
fn prose(text: &str) -> String {
    let shown = escaped(text, MAX).to_string();
    let mut safe = String::with_capacity(shown.len());
    for c in shown.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            // GitHub looks for mentions and links in the text as it is shown, after all escapes
            // are gone: only a character of no width between them stops it.
            '@' | '#' => safe.extend(['\\', c, '\u{200b}']),
            ':' | '.' if is_before_link(&safe, c) => safe.extend([c, '\u{200b}']),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '$' => {
                safe.extend(['\\', c]);
            }
            _ => safe.push(c),
        }
    }
    safe
}

/// Whether a character makes what stands before it the begin of a link: `http:`, `www.`.
fn is_before_link(before: &str, c: char) -> bool {
    let ends_with = |word: &str| {
        let at = before.len().checked_sub(word.len());
        at.and_then(|at| before.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(word))
    };
    match c {
        ':' => ["http", "https", "ftp", "mailto", "xmpp"]
            .iter()
            .any(|word| ends_with(word)),
        _ => ends_with("www"),
    }
}

fn longest_run(text: &str, of: char) -> usize {
    let runs = text.split(|c| c != of);
    runs.map(|run| run.chars().count()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_stays_code() {
        for (text, shown) in [
            ("/opt/app", "`/opt/app`"),
            ("a`b", "``a`b``"),
            ("`x", "`` `x ``"),
            ("```", "```` ``` ````"),
            ("a\nb", "`a\\nb`"),
            ("", ""),
        ] {
            assert_eq!(code(text).to_string(), shown, "{text:?}");
        }
        assert_eq!(cell("a|b"), "`a\\|b`");
    }

    #[test]
    fn prose_has_no_markup_no_link_and_no_mention() {
        assert_eq!(prose("a *b* <i>"), "a \\*b\\* &lt;i&gt;");
        assert_eq!(prose("@octocat"), "\\@\u{200b}octocat");
        assert_eq!(prose("HTTPS://x"), "HTTPS:\u{200b}//x");
        assert_eq!(prose("www.x"), "www.\u{200b}x");
        assert_eq!(prose("update to 1.2: now"), "update to 1.2: now");
    }
}
