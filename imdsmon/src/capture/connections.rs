//! Turns kernel records into events: numbers connections and tasks, converts times to wall-clock
//! time, blanks token values.

use std::num::{NonZeroU64, NonZeroUsize};

use imdsmon_common::{ARGV_LEN, Family, Header, Segment, TaskRecord, tcp_flag};
use lru::LruCache;

use crate::{
    capture::{record::Record, redact, redact::Redactor},
    event::{
        ConnectionId, Endpoint, Event, Received, Role, Sent, Task, TaskId,
        bytes::ByteString,
        facts::{Ancestor, FileId},
    },
    time::Timestamp,
};

/// Open connections; the least recently used is evicted first.
const MAX_OPEN: NonZeroUsize = NonZeroUsize::new(8192).unwrap();
/// Closed connections that are kept: the kernel may still send for them.
const MAX_CLOSED: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

struct Connection {
    id: ConnectionId,
    task: Option<TaskId>,
    redactor: Redactor,
}

/// Connections by socket cookie.
pub(crate) struct Connections {
    open: LruCache<u64, Connection>,
    closed: LruCache<u64, Connection>,
    last_connection: ConnectionId,
    last_task: Option<TaskId>,
    /// Cookies of open connections that were evicted.
    evicted: Vec<u64>,
}

/// A process that holds a socket, but was not captured using it.
pub(crate) struct SocketOwner {
    pub(crate) cookie: u64,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
}

impl Connections {
    pub(crate) fn new() -> Self {
        Self {
            open: LruCache::new(MAX_OPEN),
            closed: LruCache::new(MAX_CLOSED),
            last_connection: ConnectionId::default(),
            last_task: None,
            evicted: Vec::new(),
        }
    }

    /// Passes the events of a record to `sink`. `unix` converts boot time to Unix time.
    pub(crate) fn record(
        &mut self,
        record: Record<'_>,
        unix: impl Fn(u64) -> Timestamp,
        sink: &mut dyn FnMut(Event),
    ) {
        match record {
            Record::Connect(record) => {
                self.task(
                    &record,
                    Role::Connector,
                    unix(record.task.header.time),
                    sink,
                );
            }
            Record::Sender(record) => {
                self.task(&record, Role::Sender, unix(record.task.header.time), sink);
            }
            Record::Sent(segment, bytes) => {
                self.sent(&segment, bytes, unix(segment.header.time), sink);
            }
            Record::Received(segment, bytes) => {
                let time = unix(segment.header.time);
                // Without a sent segment, no request waits for a response.
                if let Some(open) = self.open.get(&segment.header.cookie) {
                    let connection = open.id;
                    sink(Event::Received(received(&segment, bytes, time, connection)));
                }
            }
            Record::Release(header) => {
                // A socket that never connected to IMDS is not in the table.
                if let Some(closed) = self.open.pop(&header.cookie) {
                    let connection = closed.id;
                    self.closed.put(header.cookie, closed);
                    sink(Event::Closed {
                        time: unix(header.time),
                        connection,
                    });
                }
            }
        }
    }

    /// Connections evicted since the last call. Their owners must be removed from the kernel map,
    /// too, which then reports the next sender.
    pub(crate) fn take_evicted(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.evicted)
    }

    /// Adds a process that holds a connection older than the monitor.
    pub(crate) fn socket_owner(
        &mut self,
        owner: &SocketOwner,
        time: Timestamp,
        sink: &mut dyn FnMut(Event),
    ) {
        if self
            .open
            .peek(&owner.cookie)
            .is_some_and(|connection| connection.task.is_some())
        {
            return; // The kernel has already reported a task.
        }
        let (connection, task) = self.use_by_new_task(owner.cookie, time, sink);
        sink(Event::Task(Box::new(Task {
            time,
            connection,
            task,
            role: Role::Holder,
            pid: owner.pid,
            tid: owner.pid,
            uid: owner.uid,
            ..Task::default()
        })));
    }

    fn task(
        &mut self,
        record: &TaskRecord,
        role: Role,
        time: Timestamp,
        sink: &mut dyn FnMut(Event),
    ) {
        let cookie = record.task.header.cookie;
        if role == Role::Connector {
            self.closed.pop(&cookie);
            // A socket can connect again after a failed or dissolved connection.
            if let Some(Connection { id: connection, .. }) = self.open.pop(&cookie) {
                sink(Event::Closed { time, connection });
            }
        }
        let (connection, task) = self.use_by_new_task(cookie, time, sink);
        sink(Event::Task(Box::new(from_kernel(
            record, time, connection, task, role,
        ))));
    }

    fn sent(
        &mut self,
        segment: &Segment,
        bytes: &[u8],
        time: Timestamp,
        sink: &mut dyn FnMut(Event),
    ) {
        let cookie = segment.header.cookie;
        let syn = segment.flags & tcp_flag::SYN != 0;
        // After the last descriptor is closed, the kernel may still retransmit or send a FIN: no
        // new connection.
        let closed = self.closed.contains(&cookie);
        if !closed {
            if !self.open.contains(&cookie) && segment.len == 0 && !syn {
                return;
            }
            self.open(cookie, time, sink);
            self.report_sender(segment, time, sink);
        }
        let connections = if closed {
            &mut self.closed
        } else {
            &mut self.open
        };
        let Some(connection) = connections.get_mut(&cookie) else {
            return;
        };
        if syn {
            connection.redactor = Redactor::at(segment.seq);
        }
        let mut bytes = bytes.to_vec();
        connection
            .redactor
            .segment(segment.seq, segment.len, &mut bytes);
        sink(Event::Sent(Sent {
            time,
            connection: connection.id,
            task: connection.task,
            server: endpoint(&segment.header),
            seq: segment.seq,
            len: segment.len,
            syn,
            fin: segment.flags & tcp_flag::FIN != 0,
            rst: segment.flags & tcp_flag::RST != 0,
            urgent: segment.flags & tcp_flag::URG != 0,
            bytes: ByteString(bytes),
        }));
    }

    /// Each segment has the sender's task ID; a task record precedes the first segment of a new
    /// sender. If that record was dropped, the ID is enough to read `/proc`.
    fn report_sender(&mut self, segment: &Segment, time: Timestamp, sink: &mut dyn FnMut(Event)) {
        let cookie = segment.header.cookie;
        let known = self
            .open
            .peek(&cookie)
            .is_some_and(|connection| connection.task.is_some());
        if known || segment.sender == 0 {
            return;
        }
        let (connection, task) = self.use_by_new_task(cookie, time, sink);
        sink(Event::Task(Box::new(Task {
            time,
            boot: Some(segment.header.time),
            connection,
            task,
            role: Role::Sender,
            pid: segment.sender,
            tid: segment.sender,
            ..Task::default()
        })));
    }

    /// A task that is new on a connection, which may be new itself.
    fn use_by_new_task(
        &mut self,
        cookie: u64,
        time: Timestamp,
        sink: &mut dyn FnMut(Event),
    ) -> (ConnectionId, TaskId) {
        let task = self.last_task.map_or_else(TaskId::default, TaskId::next);
        self.last_task = Some(task);
        let connection = self.open(cookie, time, sink);
        connection.task = Some(task);
        (connection.id, task)
    }

    fn open(
        &mut self,
        cookie: u64,
        time: Timestamp,
        sink: &mut dyn FnMut(Event),
    ) -> &mut Connection {
        if !self.open.contains(&cookie)
            && self.open.len() == MAX_OPEN.get()
            && let Some((cookie, Connection { id: connection, .. })) = self.open.pop_lru()
        {
            self.evicted.push(cookie);
            sink(Event::Closed { time, connection });
        }
        let last_connection = &mut self.last_connection;
        self.open.get_or_insert_mut(cookie, || {
            last_connection.0 += 1;
            Connection {
                id: *last_connection,
                task: None,
                redactor: Redactor::default(),
            }
        })
    }
}

fn received(
    segment: &Segment,
    bytes: &[u8],
    time: Timestamp,
    connection: ConnectionId,
) -> Received {
    // The kernel programs zero the bytes after the head.
    let head = bytes
        .iter()
        .rposition(|&b| b != 0)
        .map_or(0, |last| last + 1);
    Received {
        time,
        connection,
        seq: segment.seq,
        len: segment.len,
        fin: segment.flags & tcp_flag::FIN != 0,
        rst: segment.flags & tcp_flag::RST != 0,
        head: ByteString(bytes[..head].to_vec()),
    }
}

fn from_kernel(
    record: &TaskRecord,
    time: Timestamp,
    connection: ConnectionId,
    task: TaskId,
    role: Role,
) -> Task {
    let TaskRecord {
        task: raw,
        exe,
        ancestors,
        argv,
    } = record;
    let snapshot = raw.snapshot;
    Task {
        time,
        boot: Some(raw.header.time),
        connection,
        task,
        role,
        pid: raw.pid,
        tid: raw.tid,
        uid: raw.uid,
        gid: raw.gid,
        comm: until_nul(&raw.comm),
        cgroup_id: NonZeroU64::new(raw.cgroup),
        start: (snapshot.start != 0).then_some(snapshot.start),
        netns: (snapshot.netns != 0).then_some(snapshot.netns),
        exe_name: (exe[0] != 0).then(|| until_nul(exe)),
        exe_file: (snapshot.exe_inode != 0).then(|| FileId {
            device: rustix::fs::makedev(snapshot.exe_device >> 20, snapshot.exe_device & 0xf_ffff),
            inode: snapshot.exe_inode,
        }),
        exe: None,
        argv: (snapshot.argv_len != 0).then(|| {
            let used = (snapshot.argv_len as usize).min(ARGV_LEN);
            split_arguments(&argv[..used])
        }),
        ancestors: ancestors
            .iter()
            .take(snapshot.ancestors_len as usize)
            .map(|a| Ancestor {
                pid: a.pid,
                name: until_nul(&a.comm),
                argv: Vec::new(),
            })
            .collect(),
        user: None,
        cgroup: None,
        proc: None,
        slice_user: None,
        container: None,
        package: None,
        host_network: None,
    }
}

/// Splits a program's NUL-terminated arguments and blanks tokens.
pub(crate) fn split_arguments(joined: &[u8]) -> Vec<ByteString> {
    let joined = joined.strip_suffix(b"\0").unwrap_or(joined);
    let mut args: Vec<Vec<u8>> = joined.split(|&b| b == 0).map(<[u8]>::to_vec).collect();
    redact::arguments(&mut args);
    args.into_iter().map(ByteString).collect()
}

fn until_nul(bytes: &[u8]) -> ByteString {
    ByteString(bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec())
}

fn endpoint(header: &Header) -> Endpoint {
    if header.family == Family::Inet6 as u16 {
        Endpoint::V6
    } else {
        Endpoint::V4
    }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
