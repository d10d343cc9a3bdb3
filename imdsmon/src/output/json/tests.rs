use std::{rc::Rc, time::Duration};

use serde_json::{Value, json};

use crate::output::json::*;
use crate::{
    event::{ConnectionId, Endpoint, TaskId},
    http::call::{Auth, TokenValue},
    identity::{
        Caller,
        workload::{Container, Pod, Workload, WorkloadKind},
    },
    knowledge::Sdk,
    time::Timestamp,
};

fn bytes(text: &str) -> ByteString {
    text.as_bytes().into()
}

/// A call of which everything is known.
pub(crate) fn call() -> Call {
    Call {
        time: Timestamp::from_nanos(1_700_000_000_123_456_789),
        connection: ConnectionId(3),
        task: TaskId::new(4),
        server: Endpoint::V6,
        request: Request {
            auth: Auth::V2(TokenValue::Present),
            method: "GET".into(),
            path: "/latest/user-data".into(),
            query: Some("a=b".into()),
            protocol: "1.1",
            user_agent: Some("curl/8".into()),
        },
        response: response(Some(200)),
    }
}

/// A response of IMDS.
pub(crate) fn response(status: Option<u16>) -> Response {
    Response::Seen {
        status,
        server: Some("EC2ws".into()),
        latency: Duration::from_nanos(512_999),
    }
}

/// Who made it, and who connected.
pub(crate) fn caller() -> Caller {
    let process = Process {
        pid: 70,
        parent: Some(7),
        exe: Some(bytes("/usr/bin/curl")),
        exe_file: None,
        name: bytes("curl"),
        args: vec![bytes("curl"), bytes("-s")],
        uid: 65534,
        user: Some("nobody".into()),
        cgroup: Some(bytes("/system.slice/cron.service")),
        ancestors: vec![(7, bytes("sh")), (1, bytes("init"))],
        ancestor_args: Vec::new(),
        netns: Some(4_026_531_840),
        host_network: Some(false),
        started: Some(10_000_000),
        workload: Workload {
            kind: WorkloadKind::Pod,
            name: "shop/web-*/app".into(),
            container: Some(Container {
                id: "6a82".into(),
                runtime: Some("containerd".into()),
                name: Some("app".into()),
                image: Some("shop:1.4".into()),
            }),
            pod: Some(Pod {
                namespace: "shop".into(),
                name: "web-64df67bd8b-xmzhv".into(),
                container: Some("app".into()),
            }),
        },
        package: None,
    };
    let connector = Process {
        pid: 7,
        name: bytes("socat"),
        args: vec![bytes("socat"), bytes("-")],
        ..process.clone()
    };
    Caller {
        process: Some(Rc::new(process)),
        connector: Some(Rc::new(connector)),
    }
}

/// A call of an unknown process.
pub(crate) fn anonymous(call: Call) -> AttributedEvent {
    AttributedEvent {
        event: HttpEvent::Call(Box::new(call)),
        caller: Caller::default(),
        sdk: None,
    }
}

fn written(attributed: &AttributedEvent) -> Value {
    let mut out = Vec::new();
    line(&mut out, attributed).unwrap();
    let (last, rest) = out.split_last().unwrap();
    assert!(*last == b'\n' && !rest.contains(&b'\n'), "one line");
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn everything_that_is_known_has_its_place() {
    let attributed = AttributedEvent {
        caller: caller(),
        sdk: Some(Sdk {
            name: "curl".into(),
            version: Some("8".into()),
        }),
        ..anonymous(call())
    };
    let expected = json!({
        "timestamp": "2023-11-14T22:13:20.123456Z",
        "event.name": "imds.call",
        "imds.version": "v2",
        "imds.token": "present",
        "imds.outcome": "answered",
        "http.request.method": "GET",
        "url.path": "/latest/user-data",
        "url.query": "a=b",
        "network.protocol.version": "1.1",
        "user_agent.original": "curl/8",
        "imds.sdk.name": "curl",
        "imds.sdk.version": "8",
        "http.response.status_code": 200,
        "imds.server": "EC2ws",
        "imds.latency_us": 512,
        "server.address": "fd00:ec2::254",
        "imds.connection": 3,
        "process.pid": 70,
        "process.parent_pid": 7,
        "process.executable.path": "/usr/bin/curl",
        "process.executable.name": "curl",
        "process.command_args": ["curl", "-s"],
        "process.user.id": 65534,
        "process.user.name": "nobody",
        "process.linux.cgroup": "/system.slice/cron.service",
        "process.ancestors": [{"pid": 7, "name": "sh"}, {"pid": 1, "name": "init"}],
        "linux.netns": 4_026_531_840_u32,
        "container.id": "6a82",
        "container.name": "app",
        "container.image.name": "shop:1.4",
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "web-64df67bd8b-xmzhv",
        "k8s.container.name": "app",
        "imds.workload.kind": "pod",
        "imds.workload.name": "shop/web-*/app",
        "imds.client": "pod shop/web-*/app: curl (65534)",
        "imds.connector.pid": 7,
        "imds.connector.executable.name": "socat",
        "imds.connector.command_args": ["socat", "-"],
    });
    assert_eq!(written(&attributed), expected);
}

#[test]
fn what_is_not_known_is_null_and_still_there() {
    let attributed = anonymous(Call {
        server: Endpoint::V4,
        request: Request {
            auth: Auth::V1,
            query: None,
            user_agent: None,
            ..call().request
        },
        response: Response::None,
        ..call()
    });
    let seen = written(&attributed);
    for field in seen.as_object().unwrap() {
        let is_known = matches!(
            field.0.as_str(),
            "timestamp"
                | "event.name"
                | "imds.version"
                | "imds.outcome"
                | "http.request.method"
                | "url.path"
                | "network.protocol.version"
                | "server.address"
                | "imds.connection"
        );
        assert_eq!(field.1.is_null(), !is_known, "{field:?}");
    }
    assert_eq!(seen["imds.version"], "v1");
    assert_eq!(seen["imds.outcome"], "no-answer");
    assert_eq!(seen["server.address"], "169.254.169.254");
    let keys = |value: &Value| value.as_object().unwrap().len();
    let full = written(&anonymous(call()));
    assert_eq!(keys(&seen), keys(&full));
}

#[test]
fn each_kind_has_its_word() {
    let word = |auth| {
        let mut call = call();
        call.request.auth = auth;
        let seen = written(&anonymous(call));
        (seen["imds.version"].clone(), seen["imds.token"].clone())
    };
    assert_eq!(word(Auth::TokenRequest), (json!("token"), Value::Null));
    assert_eq!(
        word(Auth::V2(TokenValue::Empty)),
        (json!("v2"), json!("empty"))
    );
}

#[test]
fn bytes_that_are_no_request_have_a_caller_too() {
    let event = HttpEvent::Unparsed(Unparsed {
        time: Timestamp::from_nanos(1_000),
        connection: ConnectionId(9),
        task: TaskId::new(1),
        server: Endpoint::V4,
        bytes: 17,
    });
    let seen = written(&AttributedEvent {
        event,
        caller: caller(),
        sdk: None,
    });
    assert_eq!(seen["timestamp"], "1970-01-01T00:00:00.000001Z");
    assert_eq!(seen["event.name"], "imds.unparsed");
    assert_eq!(seen["imds.unparsed_bytes"], 17);
    assert_eq!(seen["imds.connection"], 9);
    assert_eq!(seen["process.pid"], 70);
    assert_eq!(seen["imds.connector.pid"], 7);
    assert_eq!(seen.get("url.path"), None);
}
