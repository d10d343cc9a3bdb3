//! A call as JSON: a stable contract.
//!
//! Flat names, those of OpenTelemetry's semantic conventions where one exists. Every field is
//! always there; what is absent is `null`. New fields may come, none will change its meaning.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde::Serialize;

use crate::{
    event::{ConnectionId, bytes::ByteString},
    http::call::{Call, HttpEvent, Request, Response, Unparsed},
    identity::{Process, client::Client},
    knowledge::Sdk,
    pipeline::AttributedEvent,
};

/// Writes a finding as one line.
pub(crate) fn line(out: &mut impl Write, found: &AttributedEvent) -> io::Result<()> {
    let caller = CallerFields::new(found);
    match &found.finding {
        HttpEvent::Call(call) => {
            serde_json::to_writer(&mut *out, &CallLine::new(call, found.sdk.as_ref(), caller))?;
        }
        HttpEvent::Unparsed(unparsed) => {
            serde_json::to_writer(&mut *out, &UnparsedLine::new(unparsed, caller))?;
        }
    }
    out.write_all(b"\n")
}

#[derive(Serialize)]
struct CallLine<'a> {
    timestamp: String,
    #[serde(rename = "event.name")]
    event: &'static str,
    #[serde(rename = "imds.version")]
    version: &'static str,
    #[serde(rename = "imds.token")]
    token: Option<&'static str>,
    #[serde(rename = "imds.outcome")]
    outcome: &'static str,
    #[serde(rename = "http.request.method")]
    method: &'a str,
    #[serde(rename = "url.path")]
    path: &'a str,
    #[serde(rename = "url.query")]
    query: Option<&'a str>,
    #[serde(rename = "network.protocol.version")]
    protocol: &'static str,
    #[serde(rename = "user_agent.original")]
    user_agent: Option<&'a str>,
    #[serde(rename = "imds.sdk.name")]
    sdk_name: Option<&'a str>,
    #[serde(rename = "imds.sdk.version")]
    sdk_version: Option<&'a str>,
    #[serde(rename = "http.response.status_code")]
    status: Option<u16>,
    #[serde(rename = "imds.server")]
    imds_server: Option<&'a str>,
    #[serde(rename = "imds.latency_us")]
    latency_us: Option<u64>,
    #[serde(rename = "server.address")]
    server: String,
    #[serde(rename = "imds.connection")]
    connection: ConnectionId,
    #[serde(flatten)]
    caller: CallerFields,
}

impl<'a> CallLine<'a> {
    fn new(call: &'a Call, sdk: Option<&'a Sdk>, caller: CallerFields) -> Self {
        let Call {
            time,
            connection,
            task: _,
            server,
            request:
                Request {
                    auth,
                    method,
                    path,
                    query,
                    protocol,
                    user_agent,
                },
            response,
        } = call;
        Self {
            timestamp: time.to_rfc3339(),
            event: "imds.call",
            version: auth.version().into(),
            token: auth.token().map(Into::into),
            outcome: match response {
                Response::None => "no-answer",
                Response::Unseen | Response::Seen { .. } => "answered",
            },
            method,
            path,
            query: query.as_deref(),
            protocol,
            user_agent: user_agent.as_deref(),
            sdk_name: sdk.map(|sdk| &*sdk.name),
            sdk_version: sdk.and_then(|sdk| sdk.version.as_deref()),
            status: response.status(),
            imds_server: response.server(),
            latency_us: response.latency().map(micros),
            server: server.address().to_string(),
            connection: *connection,
            caller,
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Serialize)]
struct UnparsedLine {
    timestamp: String,
    #[serde(rename = "event.name")]
    event: &'static str,
    #[serde(rename = "imds.unparsed_bytes")]
    bytes: u64,
    #[serde(rename = "server.address")]
    server: String,
    #[serde(rename = "imds.connection")]
    connection: ConnectionId,
    #[serde(flatten)]
    caller: CallerFields,
}

impl UnparsedLine {
    fn new(unparsed: &Unparsed, caller: CallerFields) -> Self {
        let Unparsed {
            time,
            connection,
            task: _,
            server,
            bytes,
        } = unparsed;
        Self {
            timestamp: time.to_rfc3339(),
            event: "imds.unparsed",
            bytes: *bytes,
            server: server.address().to_string(),
            connection: *connection,
            caller,
        }
    }
}

#[derive(Serialize)]
struct CallerFields {
    #[serde(rename = "process.pid")]
    pid: Option<u32>,
    #[serde(rename = "process.parent_pid")]
    parent: Option<u32>,
    #[serde(rename = "process.executable.path")]
    exe: Option<String>,
    #[serde(rename = "process.executable.name")]
    name: Option<String>,
    #[serde(rename = "process.command_args")]
    args: Option<Vec<String>>,
    #[serde(rename = "process.user.id")]
    uid: Option<u32>,
    #[serde(rename = "process.user.name")]
    user: Option<String>,
    #[serde(rename = "process.linux.cgroup")]
    cgroup: Option<String>,
    #[serde(rename = "process.ancestors")]
    ancestors: Option<Vec<AncestorFields>>,
    #[serde(rename = "linux.netns")]
    netns: Option<u32>,
    #[serde(rename = "container.id")]
    container_id: Option<String>,
    #[serde(rename = "container.name")]
    container_name: Option<String>,
    #[serde(rename = "container.image.name")]
    container_image: Option<String>,
    #[serde(rename = "k8s.namespace.name")]
    k8s_namespace: Option<String>,
    #[serde(rename = "k8s.pod.name")]
    k8s_pod: Option<String>,
    #[serde(rename = "k8s.container.name")]
    k8s_container: Option<String>,
    #[serde(rename = "imds.workload.kind")]
    workload_kind: Option<&'static str>,
    #[serde(rename = "imds.workload.name")]
    workload_name: Option<String>,
    #[serde(rename = "imds.client")]
    client: Option<String>,
    #[serde(rename = "imds.connector.pid")]
    connector_pid: Option<u32>,
    #[serde(rename = "imds.connector.executable.name")]
    connector_name: Option<String>,
    #[serde(rename = "imds.connector.command_args")]
    connector_args: Option<Vec<String>>,
}

#[derive(Serialize)]
struct AncestorFields {
    pid: u32,
    name: String,
}

impl CallerFields {
    fn new(found: &AttributedEvent) -> Self {
        let process = found.caller.process.as_deref();
        let connector = found.caller.connector.as_deref();
        let workload = process.map(|p| &p.workload);
        let container = workload.and_then(|w| w.container.as_ref());
        let pod = workload.and_then(|w| w.pod.as_ref());
        Self {
            pid: process.map(|p| p.pid),
            parent: process.and_then(|p| p.parent),
            exe: process
                .and_then(|p| p.exe.as_ref())
                .map(ByteString::to_text),
            name: process.and_then(|p| text(&p.name)),
            args: process.and_then(arguments),
            uid: process.map(|p| p.uid),
            user: process.and_then(|p| p.user.clone()),
            cgroup: process
                .and_then(|p| p.cgroup.as_ref())
                .map(ByteString::to_text),
            ancestors: process.filter(|p| !p.ancestors.is_empty()).map(|p| {
                let ancestors = p.ancestors.iter();
                ancestors
                    .map(|(pid, name)| AncestorFields {
                        pid: *pid,
                        name: name.to_text(),
                    })
                    .collect()
            }),
            netns: process.and_then(|p| p.netns),
            container_id: container.map(|c| c.id.clone()),
            container_name: container.and_then(|c| c.name.clone()),
            container_image: container.and_then(|c| c.image.clone()),
            k8s_namespace: pod.map(|p| p.namespace.clone()),
            k8s_pod: pod.map(|p| p.name.clone()),
            k8s_container: pod.and_then(|p| p.container.clone()),
            workload_kind: workload.map(|w| w.kind.into()),
            workload_name: workload
                .map(|w| w.name.clone())
                .filter(|name| !name.is_empty()),
            client: process.map(|p| Client::of(p).name()),
            connector_pid: connector.map(|p| p.pid),
            connector_name: connector.and_then(|p| text(&p.name)),
            connector_args: connector.and_then(arguments),
        }
    }
}

/// The arguments; a process may also have none, or hide them.
fn arguments(process: &Process) -> Option<Vec<String>> {
    let args = &process.args;
    (!args.is_empty()).then(|| args.iter().map(ByteString::to_text).collect())
}

fn text(bytes: &ByteString) -> Option<String> {
    (!bytes.is_empty()).then(|| bytes.to_text())
}

#[cfg(test)]
pub(crate) mod tests;
