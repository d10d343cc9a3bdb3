//! Sets up `lo` of the calling thread's network namespace, without the `ip` program.

use std::{io, net::IpAddr};

use crate::netlink::{ROUTE, request};

/// `lo` is link 1 of every network namespace (`LOOPBACK_IFINDEX` in the kernel).
const LOOPBACK: u32 = 1;

/// `IFF_UP`: the flag, and the mask of the flags to change.
const UP: u32 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `IFA_F_NODAD`: the address is usable at once. No other host can have it.
const NO_DUPLICATE_DETECTION: u8 = 2;

pub(super) fn bring_up() -> io::Result<()> {
    // `struct ifinfomsg`: family, padding, device type, index, flags, mask.
    let mut message = vec![0; 4];
    for word in [LOOPBACK, UP, UP] {
        message.extend(word.to_ne_bytes());
    }
    request(ROUTE, libc::RTM_SETLINK, libc::NLM_F_ACK, &message, |_| {})
}

/// Adds an address, which may exist: a namespace from the service manager outlives a server.
pub(super) fn add_address(address: IpAddr) -> io::Result<()> {
    let (family, prefix_len, octets, scope) = match address {
        IpAddr::V4(v4) => (AF_INET, 32, v4.octets().to_vec(), libc::RT_SCOPE_HOST),
        IpAddr::V6(v6) => (AF_INET6, 128, v6.octets().to_vec(), libc::RT_SCOPE_UNIVERSE),
    };
    // `struct ifaddrmsg`: family, prefix length, flags, scope, index.
    let mut message = vec![family, prefix_len, NO_DUPLICATE_DETECTION, scope];
    message.extend(LOOPBACK.to_ne_bytes());
    for attribute in [libc::IFA_LOCAL, libc::IFA_ADDRESS] {
        // `struct rtattr`: length with its own 4 bytes, type, value.
        let length = u16::try_from(4 + octets.len()).map_err(io::Error::other)?;
        message.extend(length.to_ne_bytes());
        message.extend(attribute.to_ne_bytes());
        message.extend(&octets);
    }
    let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    match request(ROUTE, libc::RTM_NEWADDR, flags, &message, |_| {}) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        added => added,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, thread};

    use super::{
        super::{namespace::NetworkNamespace, tests::is_root},
        *,
    };

    /// Connecting a UDP socket looks up a route and sends nothing.
    fn has_route(address: &str) -> bool {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect((address, 9)).is_ok()
    }

    fn is_local(address: &str) -> bool {
        UdpSocket::bind((address, 0)).is_ok()
    }

    #[test]
    fn new_namespace_gets_loopback_and_addresses() {
        if !is_root() {
            return;
        }
        // Only the new thread changes its namespace.
        let inside = thread::spawn(|| {
            NetworkNamespace::unshare().expect("a namespace");
            assert!(!has_route("127.0.0.1"));
            bring_up().expect("up");
            assert!(has_route("127.0.0.1"));
            for address in ["192.0.2.1", "2001:db8::1"] {
                if address.contains(':') && !is_local("::1") {
                    println!("SKIPPED: no IPv6");
                    continue;
                }
                assert!(!is_local(address), "{address}");
                for _ in 0..2 {
                    add_address(address.parse().expect(address)).expect(address);
                }
                assert!(is_local(address), "{address}");
            }
        });
        inside.join().expect("no assertion failed");
    }
}
