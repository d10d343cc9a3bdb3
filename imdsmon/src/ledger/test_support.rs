//! Stories for tests: these calls, in this order, by these processes.

use std::{rc::Rc, time::Duration};

use crate::ledger::{BucketKey, Cause, ClientStats, Ledger, ResponseClass};
use crate::{
    event::{ConnectionId, Endpoint, TaskId},
    http::call::{Auth, Call, HttpEvent, Request, Response, TokenValue},
    identity::{
        Caller, Process,
        client::Client,
        workload::{Workload, WorkloadKind},
    },
    knowledge::{Knowledge, PathClass},
    pipeline::AttributedEvent,
    time::{Hour, Timestamp},
};

/// A call, answered 200 by IMDS unless told otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    call: Call,
    process: Option<Rc<Process>>,
}

/// A process of this pid and these arguments, started by pid 50.
pub(crate) fn process(pid: u32, args: &[&str]) -> Rc<Process> {
    Rc::new(Process {
        pid,
        parent: Some(50),
        exe: Some(format!("/usr/bin/{}", args[0]).into()),
        exe_file: None,
        name: args[0].into(),
        args: args.iter().map(|&arg| arg.into()).collect(),
        uid: 1000,
        user: Some("app".into()),
        cgroup: None,
        ancestors: vec![(50, "bash".into()), (1, "init".into())],
        ancestor_args: Vec::new(),
        netns: None,
        host_network: None,
        workload: Workload::default(),
        package: None,
        started: Some(u64::from(pid)),
    })
}

/// A tokenless GET.
pub(crate) fn tokenless(path: &str) -> Step {
    Step {
        call: Call {
            time: Timestamp::default(),
            connection: ConnectionId(1),
            task: TaskId::new(1),
            server: Endpoint::V4,
            request: Request {
                auth: Auth::V1,
                method: "GET".into(),
                path: path.into(),
                query: None,
                protocol: "1.1",
                user_agent: None,
            },
            response: Response::Seen {
                status: Some(200),
                server: Some("EC2ws".into()),
                latency: Duration::from_micros(300),
            },
        },
        process: None,
    }
}

/// A GET with a token.
pub(crate) fn with_token(path: &str) -> Step {
    let mut step = tokenless(path);
    step.call.request.auth = Auth::V2(TokenValue::Present);
    step
}

/// A GET with a token header that holds none.
pub(crate) fn empty_token(path: &str) -> Step {
    let mut step = with_token(path).status(401);
    step.call.request.auth = Auth::V2(TokenValue::Empty);
    step
}

/// A request for a token.
pub(crate) fn put() -> Step {
    let mut step = tokenless("/latest/api/token");
    step.call.request.auth = Auth::TokenRequest;
    step.call.request.method = "PUT".into();
    step
}

impl Step {
    pub(crate) fn by(mut self, process: &Rc<Process>) -> Self {
        self.process = Some(Rc::clone(process));
        self
    }

    /// Seconds since the story began.
    pub(crate) fn at(mut self, seconds: i64) -> Self {
        self.call.time = Timestamp::from_secs(seconds);
        self
    }

    pub(crate) fn status(mut self, new: u16) -> Self {
        if let Response::Seen { status, .. } = &mut self.call.response {
            *status = Some(new);
        }
        self
    }

    pub(crate) fn silent(mut self) -> Self {
        self.call.response = Response::None;
        self
    }

    pub(crate) fn server(mut self, new: Option<&str>) -> Self {
        if let Response::Seen { server, .. } = &mut self.call.response {
            *server = new.map(str::to_owned);
        }
        self
    }

    pub(crate) fn agent(mut self, user_agent: &str) -> Self {
        self.call.request.user_agent = Some(user_agent.into());
        self
    }

    pub(crate) fn attributed(self, knowledge: &Knowledge) -> AttributedEvent {
        let said = self.call.request.user_agent.as_deref();
        AttributedEvent {
            sdk: said.and_then(|said| knowledge.sdk(said)),
            event: HttpEvent::Call(Box::new(self.call)),
            caller: Caller {
                process: self.process,
                connector: None,
            },
        }
    }
}

/// The ledger after these calls, in the order in which they became known.
pub(crate) fn ledger(steps: impl IntoIterator<Item = Step>) -> Ledger {
    let knowledge = Rc::new(Knowledge::builtin());
    let mut ledger = Ledger::new(Rc::clone(&knowledge));
    for step in steps {
        ledger.add(&step.attributed(&knowledge));
    }
    ledger
}

/// What a ledger may hold of a client of `app.service`: tokenless or other calls that describe
/// the instance.
pub(crate) fn entry(program: &str, counts: &[(Auth, ResponseClass, Cause, i64)]) -> ClientStats {
    let buckets = counts.iter().map(|(auth, response, cause, count)| {
        let bucket = BucketKey {
            hour: Hour::default(),
            auth: *auth,
            response: *response,
            path: PathClass::Description,
            cause: *cause,
        };
        (bucket, *count)
    });
    ClientStats {
        client: Client {
            program: program.into(),
            workload: Workload {
                kind: WorkloadKind::Unit,
                name: "app.service".into(),
                ..Workload::default()
            },
            user: "root".into(),
            ..Client::default()
        },
        buckets: buckets.collect(),
        ..ClientStats::default()
    }
}
