//! A call as JSON: a stable contract.
//!
//! Flat names, those of OpenTelemetry's semantic conventions where one exists. Every field is
//! always there; what is absent is `null`. New fields may come, none will change its meaning.

use std::io::{self, Write};

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::{
    event::bytes::ByteString,
    http::call::{Call, HttpEvent, Request, Response, Unparsed},
    identity::{Process, client::Client},
    pipeline::AttributedEvent,
};

/// Writes an event as one line.
pub(crate) fn line(out: &mut impl Write, event: &AttributedEvent) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Line(event))?;
    out.write_all(b"\n")
}

struct Line<'a>(&'a AttributedEvent);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.0.event {
            HttpEvent::Call(call) => self.call(&mut map, call)?,
            HttpEvent::Unparsed(unparsed) => unparsed_bytes(&mut map, unparsed)?,
        }
        self.caller(&mut map)?;
        map.end()
    }
}

impl Line<'_> {
    fn call<M: SerializeMap>(&self, map: &mut M, call: &Call) -> Result<(), M::Error> {
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
        let sdk = self.0.sdk.as_ref();
        let outcome = match response {
            Response::None => "no-answer",
            Response::Unseen | Response::Seen { .. } => "answered",
        };
        let latency = response.latency().map(|time| time.as_micros());
        map.serialize_entry("timestamp", &time.to_rfc3339())?;
        map.serialize_entry("event.name", "imds.call")?;
        map.serialize_entry("imds.version", &auth.version())?;
        map.serialize_entry("imds.token", &auth.token())?;
        map.serialize_entry("imds.outcome", outcome)?;
        map.serialize_entry("http.request.method", method)?;
        map.serialize_entry("url.path", path)?;
        map.serialize_entry("url.query", query)?;
        map.serialize_entry("network.protocol.version", protocol)?;
        map.serialize_entry("user_agent.original", user_agent)?;
        map.serialize_entry("imds.sdk.name", &sdk.map(|sdk| &sdk.name))?;
        map.serialize_entry(
            "imds.sdk.version",
            &sdk.and_then(|sdk| sdk.version.as_ref()),
        )?;
        map.serialize_entry("http.response.status_code", &response.status())?;
        map.serialize_entry("imds.server", &response.server())?;
        map.serialize_entry("imds.latency_us", &latency)?;
        map.serialize_entry("server.address", &server.address())?;
        map.serialize_entry("imds.connection", connection)
    }

    fn caller<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let process = self.0.caller.process.as_deref();
        let connector = self.0.caller.connector.as_deref();
        let workload = process.map(|p| &p.workload);
        let container = workload.and_then(|w| w.container.as_ref());
        let pod = workload.and_then(|w| w.pod.as_ref());
        let name = workload.map(|w| &w.name).filter(|name| !name.is_empty());
        map.serialize_entry("process.pid", &process.map(|p| p.pid))?;
        map.serialize_entry("process.parent_pid", &process.and_then(|p| p.parent))?;
        map.serialize_entry("process.executable.path", &process.and_then(executable))?;
        map.serialize_entry("process.executable.name", &process.and_then(name_of))?;
        map.serialize_entry("process.command_args", &process.and_then(arguments))?;
        map.serialize_entry("process.user.id", &process.map(|p| p.uid))?;
        map.serialize_entry("process.user.name", &process.and_then(|p| p.user.as_ref()))?;
        map.serialize_entry("process.linux.cgroup", &process.and_then(cgroup))?;
        map.serialize_entry("process.ancestors", &process.and_then(ancestors))?;
        map.serialize_entry("linux.netns", &process.and_then(|p| p.netns))?;
        map.serialize_entry("container.id", &container.map(|c| &c.id))?;
        map.serialize_entry("container.name", &container.and_then(|c| c.name.as_ref()))?;
        map.serialize_entry(
            "container.image.name",
            &container.and_then(|c| c.image.as_ref()),
        )?;
        map.serialize_entry("k8s.namespace.name", &pod.map(|p| &p.namespace))?;
        map.serialize_entry("k8s.pod.name", &pod.map(|p| &p.name))?;
        map.serialize_entry(
            "k8s.container.name",
            &pod.and_then(|p| p.container.as_ref()),
        )?;
        map.serialize_entry("imds.workload.kind", &workload.map(|w| w.kind))?;
        map.serialize_entry("imds.workload.name", &name)?;
        map.serialize_entry("imds.client", &process.map(|p| Client::of(p).name()))?;
        map.serialize_entry("imds.connector.pid", &connector.map(|p| p.pid))?;
        map.serialize_entry(
            "imds.connector.executable.name",
            &connector.and_then(name_of),
        )?;
        map.serialize_entry(
            "imds.connector.command_args",
            &connector.and_then(arguments),
        )
    }
}

fn unparsed_bytes<M: SerializeMap>(map: &mut M, unparsed: &Unparsed) -> Result<(), M::Error> {
    let Unparsed {
        time,
        connection,
        task: _,
        server,
        bytes,
    } = unparsed;
    map.serialize_entry("timestamp", &time.to_rfc3339())?;
    map.serialize_entry("event.name", "imds.unparsed")?;
    map.serialize_entry("imds.unparsed_bytes", bytes)?;
    map.serialize_entry("server.address", &server.address())?;
    map.serialize_entry("imds.connection", connection)
}

fn executable(process: &Process) -> Option<String> {
    process.exe.as_ref().map(ByteString::to_text)
}

fn cgroup(process: &Process) -> Option<String> {
    process.cgroup.as_ref().map(ByteString::to_text)
}

fn name_of(process: &Process) -> Option<String> {
    (!process.name.is_empty()).then(|| process.name.to_text())
}

/// `None`: a process may have no arguments, or hide them.
fn arguments(process: &Process) -> Option<Vec<String>> {
    let args = &process.args;
    (!args.is_empty()).then(|| args.iter().map(ByteString::to_text).collect())
}

#[derive(serde::Serialize)]
struct Ancestor {
    pid: u32,
    name: String,
}

fn ancestors(process: &Process) -> Option<Vec<Ancestor>> {
    let ancestors = process.ancestors.iter().map(|(pid, name)| Ancestor {
        pid: *pid,
        name: name.to_text(),
    });
    (!process.ancestors.is_empty()).then(|| ancestors.collect())
}

#[cfg(test)]
pub(crate) mod tests;
