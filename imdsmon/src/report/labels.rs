//! Labels that every format uses.

use std::fmt::Write as _;

use crate::report::{
    field::Field,
    format,
    model::{ClientReport, ObservationPeriod, Report, Totals},
};
use crate::{
    http::call::ImdsVersion,
    identity::workload::WorkloadKind,
    knowledge::Sdk,
    ledger::{Cause, Sample},
    verdict::{Confidence, HostVerdict, Verdict},
};

pub(crate) fn headline(verdict: HostVerdict) -> &'static str {
    match verdict {
        HostVerdict::Ready => "READY",
        HostVerdict::NotReady => "NOT READY",
        HostVerdict::Inconclusive => "INCONCLUSIVE",
    }
}

pub(super) fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Breaks => "uses IMDSv1 and never requests a token",
        Verdict::Rejected => "uses IMDSv1 and is rejected already",
        Verdict::Mixed => "uses both IMDSv1 and IMDSv2",
        Verdict::FallsBack => "requests a token, does not get one and falls back to IMDSv1",
        Verdict::EmptyToken => "is written to send a token but sends none",
        Verdict::NotImds => "gets responses from something other than the metadata service",
        Verdict::Survives => "uses IMDSv1 first and IMDSv2 when rejected",
        Verdict::Probe => "only probes for other clouds or for paths that do not exist",
        Verdict::Ready => "always uses IMDSv2",
    }
}

/// The basis of a judgement.
pub(super) fn certainty(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Seen => "observed in its calls",
        Confidence::Known => "known behavior of this program",
        Confidence::Likely => "likely; there are other explanations",
    }
}

/// What led to an IMDSv1 call; empty if nothing is known about it.
pub(super) fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Plain => "",
        Cause::AfterNoResponse => "after a token request without a response",
        Cause::AfterRejection => "after a rejected token request",
        Cause::AfterServerError => "after a token request that failed with 5xx",
        Cause::HeaderInArguments => "although its arguments name the token header",
        Cause::DespiteToken => "although the process had received a token",
        Cause::RetryAfterUnauthorized => "after an IMDSv1 call that was rejected with 401",
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

/// The program; where that is unknown, the client's stable name. Untrusted.
pub(super) fn program(client: &ClientReport) -> String {
    match (client.client.program.is_empty(), client.name.is_empty()) {
        (false, _) => client.client.program.clone(),
        (true, false) => client.name.clone(),
        (true, true) => "(unknown)".into(),
    }
}

/// `app.service`, `pod shop/cart`. Empty if unknown. Untrusted.
pub(super) fn workload(client: &ClientReport) -> String {
    let workload = &client.client.workload;
    let name = match (&workload.name, &workload.container) {
        (name, _) if !name.is_empty() => name.as_str(),
        (_, Some(container)) => container.name.as_deref().unwrap_or(&container.id),
        _ => "",
    };
    // The suffix shows that it is a unit.
    match workload.kind {
        WorkloadKind::Unit => name.to_owned(),
        other => format!("{} {name}", kind(other)).trim().to_owned(),
    }
}

/// Workload and user, as far as they are known. Untrusted.
pub(super) fn runs_as(client: &ClientReport) -> String {
    let user = &client.client.user;
    match (workload(client), user.is_empty()) {
        (workload, true) => workload,
        (workload, false) if workload.is_empty() => format!("user {user}"),
        (workload, false) => format!("{workload}, user {user}"),
    }
}

/// Pod, container, image, package and network, as far as they are known. Untrusted.
pub(super) fn origin(client: &ClientReport) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(pod) = &client.client.workload.pod {
        let name = format!("{}/{}", pod.namespace, pod.name);
        // The workload of a bare pod is the pod.
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
        parts.push("separate network namespace".into());
    }
    parts
}

/// An SDK with its version. Untrusted.
pub(super) fn sdk(sdk: &Sdk) -> String {
    let version = sdk.version.as_deref().unwrap_or_default();
    format!("{} {version}", sdk.name).trim_end().to_owned()
}

/// The response to a sample: `200 from EC2ws`, `no response`. Untrusted.
pub(crate) fn response(sample: &Sample) -> String {
    let status = match (sample.status, sample.response) {
        (Some(status), _) => status.to_string(),
        (None, crate::ledger::ResponseClass::None) => return "no response".into(),
        (None, _) => "response without a status".into(),
    };
    match &sample.server {
        Some(server) => format!("{status} from {server}"),
        None => status,
    }
}

/// The process of a sample and its ancestors: `curl[70] ← sh[7] ← systemd[1]`. Untrusted.
pub(super) fn ancestry(sample: &Sample) -> Option<String> {
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

/// How long and how completely calls were observed.
pub(super) fn facts(report: &Report) -> Vec<Field> {
    let period = &report.period;
    let is_long_enough = period.observed_s >= period.required_s;
    let dropped = match period.dropped_records {
        0 => "none".to_owned(),
        n => format::count(n),
    };
    let (self_test, passed) = self_test(period);
    let gaps = match period.gaps {
        0 => "none".to_owned(),
        n => format!(
            "{}, {} in total",
            format::count(n),
            format::length(period.length_s.saturating_sub(period.observed_s))
        ),
    };
    vec![
        Field::checked("Observed", &observed(period), is_long_enough),
        Field::statement("Calls", &calls(&report.totals)),
        Field::checked("Dropped records", &dropped, period.dropped_records == 0),
        Field::checked("Self-test", &self_test, passed),
        Field::checked("Gaps", &gaps, period.gaps == 0),
    ]
}

fn observed(period: &ObservationPeriod) -> String {
    let wanted = format::length(period.required_s);
    match (period.from, period.to) {
        (Some(from), Some(to)) => format!(
            "for {}, from {} to {} UTC; at least {wanted} is required",
            format::length(period.observed_s),
            from.to_minute(),
            to.to_minute(),
        ),
        _ => format!("never; at least {wanted} is required"),
    }
}

fn self_test(period: &ObservationPeriod) -> (String, bool) {
    let Some(test) = &period.coverage.self_test else {
        return ("not run".to_owned(), false);
    };
    let time = test.time.to_minute();
    match &test.result {
        Ok(()) => (format!("passed at {time} UTC"), true),
        Err(reason) => (format!("failed at {time} UTC: {reason}"), false),
    }
}

pub(crate) fn calls_of(version: ImdsVersion) -> &'static str {
    match version {
        ImdsVersion::V1 => "IMDSv1 calls",
        ImdsVersion::V2 => "IMDSv2 calls",
        ImdsVersion::Token => "token requests",
    }
}

/// IMDSv1 calls and all calls: `8/12`.
pub fn counts(v1: u64, all: u64) -> String {
    format!("{}/{}", format::count(v1), format::count(all))
}

/// Calls by kind: `12; 8 IMDSv1 (8 successful), 4 IMDSv2`.
pub(super) fn calls(totals: &Totals) -> String {
    let Totals {
        calls,
        tokenless,
        tokenless_successful,
        tokenless_rejected,
        with_token,
        token_requests,
        unparsed_bytes,
    } = *totals;
    let counted = |parts: &[(u64, &str)]| -> Vec<String> {
        let counted = parts.iter().filter(|(n, _)| *n > 0);
        counted
            .map(|(n, what)| format!("{} {what}", format::count(*n)))
            .collect()
    };
    let v1_parts = counted(&[
        (tokenless_successful, "successful"),
        (tokenless_rejected, "rejected with 401"),
    ]);
    let mut text = format!(
        "{}: {} IMDSv1",
        format::count(calls),
        format::count(tokenless)
    );
    if !v1_parts.is_empty() {
        let _ = write!(text, " ({})", v1_parts.join(", "));
    }
    let token_request = match token_requests {
        1 => "token request",
        _ => "token requests",
    };
    for part in counted(&[
        (with_token, "IMDSv2"),
        (token_requests, token_request),
        (unparsed_bytes, "bytes that are not HTTP"),
    ]) {
        let _ = write!(text, ", {part}");
    }
    text
}
