//! How things are called, the same in every format.

use std::fmt::Write as _;

use crate::report::{
    format,
    model::{ClientReport, Report, Totals},
};
use crate::{
    identity::workload::WorkloadKind,
    knowledge::{PathClass, Sdk},
    ledger::{Cause, Sample},
    verdict::{Confidence, HostVerdict, Verdict},
};

/// The answer as a headline.
pub fn answer(verdict: HostVerdict) -> &'static str {
    match verdict {
        HostVerdict::Ready => "READY",
        HostVerdict::NotReady => "NOT READY",
        HostVerdict::Inconclusive => "INCONCLUSIVE",
    }
}

/// A verdict as in the JSON.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Breaks => "breaks",
        Verdict::Rejected => "rejected",
        Verdict::Mixed => "mixed",
        Verdict::FallsBack => "falls-back",
        Verdict::EmptyToken => "empty-token",
        Verdict::NotImds => "not-imds",
        Verdict::Survives => "survives",
        Verdict::Probe => "probe",
        Verdict::Ready => "ready",
    }
}

/// What a verdict means, in a few words.
pub fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Breaks => "calls without a token and never tries to get one",
        Verdict::Rejected => "calls without a token and is refused already",
        Verdict::Mixed => "calls both with and without a token",
        Verdict::FallsBack => "tries to get a token, fails, and calls without one",
        Verdict::EmptyToken => "means to send a token and has none",
        Verdict::NotImds => "is answered by something that is not the metadata service",
        Verdict::Survives => "calls without a token first, and with one when refused",
        Verdict::Probe => "only looks for other clouds, or for what is not there",
        Verdict::Ready => "always calls with a token",
    }
}

/// How sure a judgement is, in a word as in the JSON.
pub fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Seen => "seen",
        Confidence::Known => "known",
        Confidence::Likely => "likely",
    }
}

/// How sure a judgement is, for people.
pub fn certainty(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Seen => "seen in its calls",
        Confidence::Known => "known of this program",
        Confidence::Likely => "likely; another reading is possible",
    }
}

/// What a path gives away.
pub fn class(class: PathClass) -> &'static str {
    match class {
        PathClass::Token => "token",
        PathClass::OtherCloud => "other cloud",
        PathClass::Description => "description",
        PathClass::Identity => "identity",
        PathClass::UserData => "user-data",
        PathClass::Credentials => "credentials",
    }
}

/// What led to a call; empty if nothing is known of it.
pub fn how(how: Cause) -> &'static str {
    match how {
        Cause::Plain => "",
        Cause::AfterNoAnswer => "after a token request that got no answer",
        Cause::AfterRefusal => "after a token request that was refused",
        Cause::AfterServerError => "after a token request that failed with 5xx",
        Cause::HeaderInArguments => "though its arguments name the token header",
        Cause::DespiteToken => "though the process had got a token",
        Cause::RetryAfterUnauthorized => "after a tokenless call that was refused with 401",
    }
}

fn kind(kind: WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::Unit => "unit",
        WorkloadKind::UserUnit => "user unit",
        WorkloadKind::Session => "session",
        WorkloadKind::Cron => "cron",
        WorkloadKind::Container => "container",
        WorkloadKind::EcsTask => "ECS task",
        WorkloadKind::Pod => "pod",
        WorkloadKind::Cgroup => "cgroup",
        WorkloadKind::Unknown => "",
    }
}

/// What runs; where that is unknown, the client's stable name. Untrusted.
pub fn program(client: &ClientReport) -> String {
    match (client.client.program.is_empty(), client.name.is_empty()) {
        (false, _) => client.client.program.clone(),
        (true, false) => client.name.clone(),
        (true, true) => "(unknown)".into(),
    }
}

/// What it runs as: `unit app.service`, `pod shop/cart`. Empty if unknown. Untrusted.
pub fn workload(client: &ClientReport) -> String {
    let workload = &client.client.workload;
    let name = match (&workload.name, &workload.container) {
        (name, _) if !name.is_empty() => name.as_str(),
        (_, Some(container)) => container.name.as_deref().unwrap_or(&container.id),
        _ => "",
    };
    // A unit says by its own name what it is.
    match workload.kind {
        WorkloadKind::Unit => name.to_owned(),
        other => format!("{} {name}", kind(other)).trim().to_owned(),
    }
}

/// The user, if known. Untrusted.
pub fn user(client: &ClientReport) -> Option<String> {
    let user = &client.client.user;
    (!user.is_empty()).then(|| format!("user {user}"))
}

/// What else is known of who it is: container, image, pod, package, network. Untrusted.
pub fn origin(client: &ClientReport) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(pod) = &client.client.workload.pod {
        let name = format!("{}/{}", pod.namespace, pod.name);
        // A pod's workload has its name already.
        if name != client.client.workload.name {
            parts.push(format!("pod {name}"));
        }
        if let Some(container) = &pod.container {
            parts.push(format!("container {container}"));
        }
    }
    if let Some(container) = &client.client.workload.container {
        let id: String = container.id.chars().take(12).collect();
        let runtime = container.runtime.as_deref().unwrap_or("container");
        let mut text = format!("{runtime} {id}");
        if let Some(name) = &container.name {
            let _ = write!(text, " {name}");
        }
        if let Some(image) = &container.image {
            let _ = write!(text, ", image {image}");
        }
        parts.push(text);
    }
    if let Some(package) = &client.client.package {
        parts.push(format!("package {package}"));
    }
    if client.client.host_network == Some(false) {
        parts.push("network namespace of its own".into());
    }
    parts
}

/// An SDK with its version. Untrusted.
pub fn sdk(sdk: &Sdk) -> String {
    let version = sdk.version.as_deref().unwrap_or_default();
    format!("{} {version}", sdk.name).trim_end().to_owned()
}

/// The answer to a sample: `200 from EC2ws`, `no answer`. Untrusted.
pub fn reply(sample: &Sample) -> String {
    let status = match (sample.status, sample.answer) {
        (Some(status), _) => status.to_string(),
        (None, crate::ledger::Answer::None) => return "no answer".into(),
        (None, _) => "answered".into(),
    };
    match &sample.server {
        Some(server) => format!("{status} from {server}"),
        None => status,
    }
}

/// Who was behind a sample: `curl[70] ← sh[7] ← systemd[1]`; `None` if unknown. Untrusted.
pub fn ancestry(sample: &Sample) -> Option<String> {
    let executable = sample.executable.as_deref()?;
    let mut text = executable.to_owned();
    if let Some(pid) = sample.pid {
        let _ = write!(text, "[{pid}]");
    }
    for (pid, name) in &sample.ancestors {
        let _ = write!(text, " ← {name}[{pid}]");
    }
    Some(text)
}

/// The facts on how well it was watched: a title, a sentence, and whether it is as it should be.
pub fn facts(report: &Report) -> Vec<(&'static str, String, bool)> {
    let window = &report.window;
    let totals = &report.totals;
    let mut facts = Vec::new();
    let watched = match (&window.from, &window.to) {
        (Some(from), Some(to)) => format!(
            "{} of {}, {} to {} UTC (wanted: {})",
            format::length(window.observed_s),
            format::length(window.length_s),
            format::minute(from),
            format::minute(to),
            format::length(window.wanted_s)
        ),
        _ => format!("never (wanted: {})", format::length(window.wanted_s)),
    };
    facts.push(("Watched", watched, window.observed_s >= window.wanted_s));
    facts.push(("Calls", calls(totals), true));
    let lost = match window.lost_records {
        0 => "nothing".to_owned(),
        1 => "1 record".to_owned(),
        n => format!("{} records", format::count(n)),
    };
    facts.push(("Lost", lost, window.lost_records == 0));
    let (test, passed) = match &window.coverage.self_test {
        None => ("not made".to_owned(), false),
        Some(test) => {
            let time = format::minute(&crate::time::rfc3339(test.time));
            match &test.result {
                Ok(()) => (format!("passed {time} UTC"), true),
                Err(reason) => (format!("failed {time} UTC: {reason}"), false),
            }
        }
    };
    facts.push(("Self-test", test, passed));
    let gaps = match window.gaps {
        0 => "none".to_owned(),
        n => format!(
            "{}, {} not watched",
            format::count(n),
            format::length(window.length_s.saturating_sub(window.observed_s))
        ),
    };
    facts.push(("Gaps", gaps, window.gaps == 0));
    facts
}

/// Calls by kind: `12: 8 tokenless (8 successful), 4 with a token`.
pub fn calls(totals: &Totals) -> String {
    let Totals {
        calls,
        tokenless,
        tokenless_successful,
        tokenless_rejected,
        with_token,
        token_requests,
        unparsed_bytes,
    } = *totals;
    let some = |parts: &[(u64, &str)]| -> Vec<String> {
        let some = parts.iter().filter(|(n, _)| *n > 0);
        some.map(|(n, what)| format!("{} {what}", format::count(*n)))
            .collect()
    };
    let mut text = format!(
        "{}: {} tokenless",
        format::count(calls),
        format::count(tokenless)
    );
    let of_these = some(&[
        (tokenless_successful, "successful"),
        (tokenless_rejected, "refused with 401"),
    ]);
    if !of_these.is_empty() {
        let _ = write!(text, " ({})", of_these.join(", "));
    }
    for part in some(&[
        (with_token, "with a token"),
        (token_requests, "for a token"),
        (unparsed_bytes, "bytes that are no request"),
    ]) {
        let _ = write!(text, ", {part}");
    }
    text
}

/// Arguments as a shell would take them. Untrusted.
pub fn arguments(args: &[String]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+*".contains(c);
    let quoted: Vec<String> = args
        .iter()
        .map(|arg| {
            if !arg.is_empty() && arg.chars().all(plain) {
                arg.clone()
            } else {
                format!("'{}'", arg.replace('\'', r"'\''"))
            }
        })
        .collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    use crate::report::labels::*;

    #[test]
    fn arguments_tell_where_one_ends() {
        let args = ["-H", "X-aws-ec2-metadata-token: ", "", "it's", "a=b"].map(str::to_owned);
        assert_eq!(
            arguments(&args),
            r"-H 'X-aws-ec2-metadata-token: ' '' 'it'\''s' a=b"
        );
    }
}
