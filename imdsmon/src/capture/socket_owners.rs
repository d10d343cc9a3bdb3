//! Owners of the IMDS connections that were opened before the monitor started.
//!
//! The kernel lists a network namespace's sockets with cookie and inode (`sock_diag(7)`), and
//! `/proc/PID/fd` lists the inodes that a process holds. Only the kernel receives a message.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    net::IpAddr,
    os::fd::AsFd,
};

use imdsmon_common::{IMDS_PORT, IMDS_V4, IMDS_V6};
use procfs::process::FDTarget;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub(crate) use crate::capture::connections::SocketOwner;
use crate::netlink::{INET_DIAG, request};

/// Maximum number of namespaces; each costs a short-lived thread.
const MAX_NAMESPACES: usize = 4096;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// Message type of `linux/sock_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Sets of TCP states, one bit per number in `include/net/tcp_states.h`.
const ALL_STATES: u32 = 0xffe;
const TIME_WAIT: u32 = 1 << 6;
const LISTEN: u32 = 1 << 10;

struct Found {
    cookie: u64,
    inode: u64,
}

/// Owners of open IMDS connections in all network namespaces that can be entered.
///
/// Unreadable namespaces and processes are left out: the kernel's snapshot names the sender with
/// the next segment.
pub(crate) fn find() -> Vec<SocketOwner> {
    let mut found: HashMap<u64, u64> = HashMap::new();
    for namespace in namespaces() {
        let listed = std::thread::Builder::new()
            .name("socket-owners".into())
            .spawn(move || sockets_of(&namespace))
            .map(std::thread::JoinHandle::join);
        if let Ok(Ok(Ok(sockets))) = listed {
            found.extend(sockets.into_iter().map(|s| (s.inode, s.cookie)));
        }
    }
    // Usually empty; no descriptors need to be read then.
    if found.is_empty() {
        Vec::new()
    } else {
        socket_owners(&found)
    }
}

/// One open handle per network namespace with a process.
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
            (seen.len() < MAX_NAMESPACES && seen.insert(link)).then(|| File::open(path).ok())?
        })
        .collect()
}

/// The sockets of a namespace that are connected to IMDS. Moves the calling thread into it.
fn sockets_of(namespace: &File) -> io::Result<Vec<Found>> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    let mut found = list(AF_INET)?;
    // Fails on a kernel without IPv6.
    found.extend(list(AF_INET6).unwrap_or_default());
    Ok(found)
}

fn list(family: u8) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    request(
        INET_DIAG,
        SOCK_DIAG_BY_FAMILY,
        libc::NLM_F_DUMP,
        &inet_diag_request(family),
        |socket| found.extend(parse(socket)),
    )?;
    Ok(found)
}

/// `struct inet_diag_req_v2` of `linux/inet_diag.h`.
fn inet_diag_request(family: u8) -> [u8; 56] {
    let mut request = [0; 56];
    // Family, protocol, extensions, padding, states; then the socket: source and destination port.
    request[..2].copy_from_slice(&[family, IPPROTO_TCP]);
    request[4..8].copy_from_slice(&(ALL_STATES & !(LISTEN | TIME_WAIT)).to_ne_bytes());
    request[10..12].copy_from_slice(&IMDS_PORT.to_be_bytes());
    request
}

/// Reads a `struct inet_diag_msg`: 4 bytes of state, then `struct inet_diag_sockid` (ports at 4
/// and 6, peer's address at 24, cookie at 44), expiry, queues, user, and the inode at 68. None if
/// the peer is not IMDS.
fn parse(message: &[u8]) -> Option<Found> {
    let family = *message.first()?;
    let port = u16::from_be_bytes(*message.get(6..)?.first_chunk()?);
    let peer: [u8; 16] = *message.get(24..)?.first_chunk()?;
    let peer = match family {
        AF_INET => IpAddr::from(*peer.first_chunk::<4>()?),
        _ => IpAddr::from(peer).to_canonical(),
    };
    let is_imds = port == IMDS_PORT && [IMDS_V4.into(), IMDS_V6.into()].contains(&peer);
    let cookie = u64::from_ne_bytes(*message.get(44..)?.first_chunk()?);
    let inode = u32::from_ne_bytes(*message.get(68..)?.first_chunk()?).into();
    is_imds.then_some(Found { cookie, inode })
}

/// The owner of each inode; of several, the process that started first.
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
            let owner = SocketOwner {
                cookie,
                pid: process.pid().cast_unsigned(),
                uid: process.uid().unwrap_or_default(),
            };
            match socket_owners.get(&cookie) {
                Some((older, _)) if *older <= start => {}
                _ => {
                    socket_owners.insert(cookie, (start, owner));
                }
            }
        }
    }
    socket_owners
        .into_values()
        .map(|(_, owner)| owner)
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
        let message = |family: u8, port: u16, peer: &[u8]| {
            let mut message = [0; 72];
            message[0] = family;
            message[6..8].copy_from_slice(&port.to_be_bytes());
            message[24..24 + peer.len()].copy_from_slice(peer);
            message[44] = 7;
            message[68] = 9;
            message
        };
        for (peer, port, is_imds) in [
            ("::ffff:169.254.169.254", IMDS_PORT, true),
            ("fd00:ec2::254", IMDS_PORT, true),
            ("169.254.169.254", IMDS_PORT, true),
            ("169.254.169.254", 81, false),
            ("fd00:ec2::253", IMDS_PORT, false),
            ("::169.254.169.254", IMDS_PORT, false),
        ] {
            let message = match peer.parse().unwrap() {
                IpAddr::V4(v4) => message(AF_INET, port, &v4.octets()),
                IpAddr::V6(v6) => message(AF_INET6, port, &v6.octets()),
            };
            let found =
                parse(&message).map(|f| (f.cookie.to_ne_bytes()[0], f.inode.to_ne_bytes()[0]));
            assert_eq!(found, is_imds.then_some((7, 9)), "{peer}");
            assert!(parse(&message[..71]).is_none(), "{peer}: too short");
        }
    }
}
