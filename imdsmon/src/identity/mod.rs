//! Maps tasks to processes and clients. No I/O: a recording gives the same result on every host.
//!
//! [`process`] merges the kernel's snapshot with the facts from `enrich`; [`classify`] adds the
//! workload; [`client`] adds a name that survives restarts. [`CallerTable`] maps connections to
//! processes until a call is complete. Does not depend on HTTP.

pub(crate) mod cgroup_path;
pub mod client;
mod cron_job;
mod generated_names;
mod interpreter;
mod normalize;
pub(crate) mod process;
mod program;
pub mod workload;

use std::{collections::HashMap, num::NonZeroUsize, rc::Rc};

use lru::LruCache;

use crate::event::{ConnectionId, Event, Role, Task, TaskId};
pub(crate) use process::Process;
use workload::{Workload, WorkloadInputs};

/// As many as capture tracks.
const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(8192).unwrap();
/// Tasks per connection: the connector and the latest senders.
const MAX_TASKS: usize = 8;

/// The processes that used each connection.
pub(crate) struct CallerTable {
    connections: LruCache<ConnectionId, Vec<(TaskId, Rc<Process>)>>,
    /// One `Process` for all connections of a process: a client may open thousands.
    known: HashMap<u32, Rc<Process>>,
}

/// The processes behind a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The sender of the request; `None` if it is not known.
    pub(crate) process: Option<Rc<Process>>,
    /// The process that opened the connection, if it is another one, or was another program before
    /// an `execve`.
    pub(crate) connector: Option<Rc<Process>>,
}

impl Default for CallerTable {
    fn default() -> Self {
        Self {
            connections: LruCache::new(MAX_CONNECTIONS),
            known: HashMap::new(),
        }
    }
}

impl CallerTable {
    /// Records the process of a task event. [`Self::forget`] drops a closed connection once its
    /// calls are complete.
    pub(crate) fn feed(&mut self, event: &Event) {
        let task = match event {
            Event::Task(task) => task,
            Event::Sent(sent) => {
                // Idle connections are evicted first.
                self.connections.promote(&sent.connection);
                return;
            }
            _ => return,
        };
        let process = self.share(classify(task));
        let users = self
            .connections
            .get_or_insert_mut(task.connection, Vec::new);
        if task.role == Role::Connector {
            users.clear();
        }
        if users.len() == MAX_TASKS {
            users.remove(1); // the first is the connector
        }
        users.push((task.task, process));
    }

    /// The processes behind a call that `task` sent on `connection`.
    pub(crate) fn caller(&mut self, connection: ConnectionId, task: Option<TaskId>) -> Caller {
        let Some(users) = self.connections.get(&connection) else {
            return Caller::default();
        };
        let first = users.first().map(|(_, process)| process);
        let process = match task {
            None => first,
            Some(task) => users
                .iter()
                .find(|(id, _)| *id == task)
                .map(|(_, process)| process),
        };
        let connector = first.filter(|first| process.is_some_and(|p| !p.is_same_program(first)));
        Caller {
            process: process.cloned(),
            connector: connector.cloned(),
        }
    }

    /// Drops a connection that is closed and whose calls are complete.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.connections.pop(&connection);
        if self.known.len() > MAX_CONNECTIONS.get() / 8 {
            self.known
                .retain(|_, process| Rc::strong_count(process) > 1);
        }
    }

    fn share(&mut self, process: Process) -> Rc<Process> {
        match self.known.get(&process.pid) {
            Some(known) if **known == process => Rc::clone(known),
            _ => {
                let process = Rc::new(process);
                self.known.insert(process.pid, Rc::clone(&process));
                process
            }
        }
    }
}

/// The process of a task, with the workload that it belongs to.
pub(crate) fn classify(task: &Task) -> Process {
    let mut process = Process::new(task);
    process.workload = Workload::of(&WorkloadInputs {
        cgroup: process.cgroup.as_deref(),
        container: task.container.as_ref(),
        slice_user: task.slice_user.as_deref(),
        cron_job: cron_job::cron_job(&process).as_deref(),
    });
    process
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Task;

    fn task(connection: u64, task: u64, pid: u32, role: Role) -> Event {
        let argv = Some(vec![b"program".as_slice().into()]);
        Event::Task(Box::new(Task {
            connection: ConnectionId(connection),
            task: TaskId::new(task).unwrap(),
            role,
            pid,
            argv,
            ..Task::default()
        }))
    }

    #[test]
    fn a_caller_has_its_sender_and_connector() {
        let mut table = CallerTable::default();
        table.feed(&task(1, 1, 100, Role::Connector));
        table.feed(&task(1, 2, 200, Role::Sender));
        let caller = table.caller(ConnectionId(1), TaskId::new(2));
        assert_eq!(caller.process.unwrap().pid, 200);
        assert_eq!(caller.connector.unwrap().pid, 100);
        let caller = table.caller(ConnectionId(1), TaskId::new(1));
        assert_eq!((caller.process.unwrap().pid, caller.connector), (100, None));
    }

    #[test]
    fn an_unknown_task_falls_back_to_the_connector() {
        let mut table = CallerTable::default();
        table.feed(&task(1, 1, 100, Role::Connector));
        assert_eq!(
            table.caller(ConnectionId(1), None).process.unwrap().pid,
            100
        );
        assert_eq!(
            table.caller(ConnectionId(2), TaskId::new(1)),
            Caller::default()
        );
    }

    #[test]
    fn many_senders_stay_bounded_and_keep_the_connector() {
        let mut table = CallerTable::default();
        table.feed(&task(1, 1, 100, Role::Connector));
        for id in 2..100 {
            table.feed(&task(1, id, 100 + u32::try_from(id).unwrap(), Role::Sender));
        }
        assert_eq!(
            table
                .caller(ConnectionId(1), TaskId::new(99))
                .connector
                .unwrap()
                .pid,
            100
        );
        assert!(table.connections.get(&ConnectionId(1)).unwrap().len() <= MAX_TASKS);
    }

    #[test]
    fn forgotten_connections_leave_nothing_behind() {
        let mut table = CallerTable::default();
        for connection in 1..=10_000 {
            table.feed(&task(
                connection,
                connection,
                u32::try_from(connection).unwrap(),
                Role::Connector,
            ));
            table.forget(ConnectionId(connection));
        }
        assert!(
            table.known.len() <= MAX_CONNECTIONS.get() / 8 + 1,
            "{}",
            table.known.len()
        );
    }
}
