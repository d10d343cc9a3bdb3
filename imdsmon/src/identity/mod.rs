//! From pids to processes that a person recognises.
//!
//! [`witness`] looks at `/proc` and at the files of container runtimes and of the package manager
//! the moment an event arrives and adds what it finds to the event; all else is derived from the
//! event, so that a recording says the same everywhere: [`process`] weighs what was found against
//! the kernel's snapshot, [`workload`] says what it runs as, [`client`] gives it a name that
//! stays. [`CallerTable`] remembers who uses which connection, so that a call can be attributed when
//! it is complete. Knows nothing of HTTP.

pub mod cgroup_path;
pub mod client;
mod cron_job;
mod generated_names;
mod interpreter;
mod normalize;
pub mod process;
mod program;
pub mod workload;

use std::{collections::HashMap, num::NonZeroUsize, rc::Rc};

use lru::LruCache;

use crate::event::{ConnectionId, Event, Role, TaskId};
pub use process::Process;

/// Connections whose users are remembered; as many as capture itself remembers.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(8192).unwrap();
/// Tasks of one connection that are remembered: who connected, and the latest who sent.
const TASKS: usize = 8;

/// Who used which connection.
pub struct CallerTable {
    connections: LruCache<ConnectionId, Vec<(TaskId, Rc<Process>)>>,
    /// One `Process` for all connections of a process: a client may open thousands.
    known: HashMap<u32, Rc<Process>>,
}

/// Who made a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Who sent the request; `None` if that could not be found out.
    pub process: Option<Rc<Process>>,
    /// Who opened the connection, if that is known and was somebody else: another process, or
    /// another program in the same process before an `execve`.
    pub connector: Option<Rc<Process>>,
}

impl Default for CallerTable {
    fn default() -> Self {
        Self {
            connections: LruCache::new(CONNECTIONS),
            known: HashMap::new(),
        }
    }
}

impl CallerTable {
    /// Takes note of a task. All other events say nothing about people; a closed connection is
    /// forgotten by [`Self::forget`], once its calls are out.
    pub fn feed(&mut self, event: &Event) {
        let task = match event {
            Event::Task(task) => task,
            Event::Sent(sent) => {
                // Whoever still sends is not forgotten before those who are silent.
                self.connections.promote(&sent.connection);
                return;
            }
            _ => return,
        };
        let process = self.share(Process::new(task));
        let users = self
            .connections
            .get_or_insert_mut(task.connection, Vec::new);
        if task.role == Role::Connector {
            users.clear();
        }
        if users.len() == TASKS {
            users.remove(1); // the first is the connector
        }
        users.push((task.task, process));
    }

    /// Who made a call that `task` sent on `connection`.
    pub fn caller(&mut self, connection: ConnectionId, task: TaskId) -> Caller {
        let Some(users) = self.connections.get(&connection) else {
            return Caller::default();
        };
        let first = users.first().map(|(_, process)| process);
        let process = match task {
            0 => first,
            _ => users
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

    /// The connection is closed, and its calls are out.
    pub fn forget(&mut self, connection: ConnectionId) {
        self.connections.pop(&connection);
        if self.known.len() > CONNECTIONS.get() / 8 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Task;

    fn task(connection: ConnectionId, task: TaskId, pid: u32, role: Role) -> Event {
        let argv = Some(vec![b"program".as_slice().into()]);
        Event::Task(Box::new(Task {
            connection,
            task,
            role,
            pid,
            argv,
            ..Task::default()
        }))
    }

    #[test]
    fn the_sender_is_named_with_the_connector_beside_it() {
        let mut people = CallerTable::default();
        people.feed(&task(1, 1, 100, Role::Connector));
        people.feed(&task(1, 2, 200, Role::Sender));
        let caller = people.caller(1, 2);
        assert_eq!(caller.process.unwrap().pid, 200);
        assert_eq!(caller.connector.unwrap().pid, 100);
        let caller = people.caller(1, 1);
        assert_eq!((caller.process.unwrap().pid, caller.connector), (100, None));
    }

    #[test]
    fn an_unknown_task_is_the_connectors_and_an_unknown_connection_is_nobodys() {
        let mut people = CallerTable::default();
        people.feed(&task(1, 1, 100, Role::Connector));
        assert_eq!(people.caller(1, 0).process.unwrap().pid, 100);
        assert_eq!(people.caller(2, 1), Caller::default());
    }

    #[test]
    fn many_senders_on_one_connection_stay_bounded_and_keep_the_connector() {
        let mut people = CallerTable::default();
        people.feed(&task(1, 1, 100, Role::Connector));
        for id in 2..100 {
            people.feed(&task(1, id, 100 + u32::try_from(id).unwrap(), Role::Sender));
        }
        assert_eq!(people.caller(1, 99).connector.unwrap().pid, 100);
        assert!(people.connections.get(&1).unwrap().len() <= TASKS);
    }

    #[test]
    fn forgotten_connections_leave_nothing_behind() {
        let mut people = CallerTable::default();
        for connection in 1..=10_000 {
            people.feed(&task(
                connection,
                connection,
                u32::try_from(connection).unwrap(),
                Role::Connector,
            ));
            people.forget(connection);
        }
        assert!(
            people.known.len() <= CONNECTIONS.get() / 8 + 1,
            "{}",
            people.known.len()
        );
    }
}
