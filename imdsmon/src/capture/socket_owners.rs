//! Who holds the connections to IMDS that were open before the monitor started.
//!
//! The kernel lists a network namespace's sockets with cookie and inode (`sock_diag(7)`), and
//! `/proc/PID/fd` says who holds which inode. Nothing is sent to anyone but the kernel.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    net::IpAddr,
    os::fd::AsFd,
};

use imdsmon_common::{IMDS_PORT, IMDS_V4, IMDS_V6};
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use procfs::process::FDTarget;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub use crate::capture::connections::SocketOwner;

/// Namespaces that are looked into at most; each costs a thread that lives for a moment.
const NAMESPACES: usize = 4096;
/// Bytes of one answer of the kernel; it never sends more than 32 KiB at once.
const ANSWER: usize = 64 * 1024;

struct Found {
    cookie: u64,
    inode: u64,
}

/// All holders of open connections to IMDS in all network namespaces that can be entered.
///
/// What cannot be read is left out: these connections are still classified, and who sends is
/// known from the kernel's snapshot as soon as something is sent.
pub fn find() -> Vec<SocketOwner> {
    let mut found: HashMap<u64, u64> = HashMap::new();
    for namespace in namespaces() {
        let listed = std::thread::Builder::new()
            .name("holders".into())
            .spawn(move || sockets_of(&namespace))
            .map(std::thread::JoinHandle::join);
        if let Ok(Ok(Ok(sockets))) = listed {
            found.extend(sockets.into_iter().map(|s| (s.inode, s.cookie)));
        }
    }
    // Most hosts have none open, and then nobody's descriptors need be read.
    if found.is_empty() {
        Vec::new()
    } else {
        socket_owners(&found)
    }
}

/// One open handle for each network namespace that a process is in.
fn namespaces() -> Vec<File> {
    let mut seen = HashSet::new();
    let Ok(processes) = procfs::process::all_processes() else {
        return Vec::new();
    };
    processes
        .filter_map(Result::ok)
        .filter_map(|process| {
            let path = format!("/proc/{}/ns/net", process.pid());
            let link = std::fs::read_link(&path).ok()?;
            (seen.len() < NAMESPACES && seen.insert(link)).then(|| File::open(path).ok())?
        })
        .collect()
}

/// The sockets of a namespace that are connected to IMDS. Moves the calling thread into it.
fn sockets_of(namespace: &File) -> io::Result<Vec<Found>> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    let mut found = list(AF_INET)?;
    // A kernel without IPv6 refuses the question.
    found.extend(list(AF_INET6).unwrap_or_default());
    Ok(found)
}

fn list(family: u8) -> io::Result<Vec<Found>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&question(family), 0)?;
    let mut found = Vec::new();
    loop {
        let mut answer = Vec::with_capacity(ANSWER);
        let size = socket.recv(&mut answer, 0)?;
        let mut rest = answer.get(..size).unwrap_or_default();
        if rest.is_empty() {
            return Ok(found);
        }
        while !rest.is_empty() {
            let message =
                NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            let step = (message.header.length as usize).next_multiple_of(4);
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    let header = response.header;
                    if is_imds(&header.socket_id) {
                        found.push(Found {
                            cookie: u64::from_ne_bytes(header.socket_id.cookie),
                            inode: header.inode.into(),
                        });
                    }
                }
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            rest = rest.get(step.max(1)..).unwrap_or_default();
        }
    }
}

fn question(family: u8) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut socket_id = if family == AF_INET {
        SocketId::new_v4()
    } else {
        SocketId::new_v6()
    };
    socket_id.destination_port = IMDS_PORT;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all() - StateFlags::LISTEN - StateFlags::TIME_WAIT,
        socket_id,
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn is_imds(socket: &SocketId) -> bool {
    let address = match socket.destination_address {
        IpAddr::V6(v6) => v6.to_canonical(),
        v4 @ IpAddr::V4(_) => v4,
    };
    socket.destination_port == IMDS_PORT
        && (address == IpAddr::from(IMDS_V4) || address == IpAddr::from(IMDS_V6))
}

/// Who holds which of these inodes. Of several holders of one socket the oldest is named.
fn socket_owners(found: &HashMap<u64, u64>) -> Vec<SocketOwner> {
    let mut socket_owners: HashMap<u64, (u64, SocketOwner)> = HashMap::new();
    let Ok(processes) = procfs::process::all_processes() else {
        return Vec::new();
    };
    for process in processes.filter_map(Result::ok) {
        let Ok(descriptors) = process.fd() else {
            continue;
        };
        for descriptor in descriptors.filter_map(Result::ok) {
            let FDTarget::Socket(inode) = descriptor.target else {
                continue;
            };
            let Some(&cookie) = found.get(&inode) else {
                continue;
            };
            let start = process.stat().map_or(u64::MAX, |stat| stat.starttime);
            let holder = SocketOwner {
                cookie,
                pid: process.pid().cast_unsigned(),
                uid: process.uid().unwrap_or_default(),
            };
            match socket_owners.get(&cookie) {
                Some((older, _)) if *older <= start => {}
                _ => drop(socket_owners.insert(cookie, (start, holder))),
            }
        }
    }
    socket_owners
        .into_values()
        .map(|(_, holder)| holder)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use crate::capture::socket_owners::*;

    #[test]
    fn the_kernel_lists_sockets_and_other_peers_do_not_count() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(
            list(AF_INET).unwrap().is_empty(),
            "no connection to IMDS is open here"
        );
    }

    #[test]
    fn a_connection_that_is_already_open_is_found_in_its_namespace() {
        use crate::sandbox::{IMDS_V4, ImdsConfig, ImdsSimulator, SimulatorError, client};
        let simulator = match ImdsSimulator::start(ImdsConfig::default()) {
            Err(SimulatorError::Privilege(_)) => return eprintln!("SKIPPED: needs root"),
            simulator => simulator.unwrap(),
        };
        let _open = simulator
            .run(|| client::ImdsConnection::open(IMDS_V4, client::TIMEOUT))
            .unwrap()
            .unwrap();
        // A namespace is found by the processes in it; this one has only a thread there.
        let mut inside = std::process::Command::new("sleep");
        let mut inside = simulator.enter(inside.arg("10")).spawn().unwrap();
        let own: Vec<_> = find()
            .into_iter()
            .filter(|h| h.pid == std::process::id())
            .collect();
        inside.kill().and_then(|()| inside.wait()).unwrap();
        assert_eq!(own.len(), 1, "the client's end, and not the server's");
        assert!(own[0].cookie != 0);
    }

    #[test]
    fn mapped_addresses_are_imds_and_others_are_not() {
        let mut socket = SocketId::new_v6();
        socket.destination_port = IMDS_PORT;
        for (address, expected) in [
            ("::ffff:169.254.169.254", true),
            ("fd00:ec2::254", true),
            ("169.254.169.254", true),
            ("fd00:ec2::253", false),
            ("::169.254.169.254", false),
        ] {
            socket.destination_address = address.parse().unwrap();
            assert_eq!(is_imds(&socket), expected, "{address}");
        }
    }
}
