//! Netlink: one request to the kernel, and its replies.
//!
//! imdsmon sends three messages of fixed size. The crates that know them all add 580 KiB of code.

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::retry_on_intr,
    net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, connect, netlink,
        recv, send, socket_with,
    },
};

/// `NETLINK_ROUTE` is protocol 0.
pub(crate) const ROUTE: Option<Protocol> = None;
pub(crate) const INET_DIAG: Option<Protocol> = Some(netlink::INET_DIAG);

/// The kernel sends at most 32 KiB at once (`max_recvmsg_len` in `net/netlink/af_netlink.c`).
const MAX_DATAGRAM: usize = 32 * 1024;

/// Bytes of `struct nlmsghdr`: length (u32), type (u16), flags (u16), sequence and port (u32).
const HEADER_LEN: usize = 16;

/// Sends a message of this type to the kernel and passes the payload of every reply to `reply`.
/// Returns when the kernel acknowledges the message or has sent the last part of a dump, so
/// `flags` must hold `NLM_F_ACK` or `NLM_F_DUMP`.
pub(crate) fn request(
    protocol: Option<Protocol>,
    message_type: u16,
    flags: i32,
    payload: &[u8],
    mut reply: impl FnMut(&[u8]),
) -> io::Result<()> {
    let socket = connect_to_kernel(protocol)?;
    let length = u32::try_from(HEADER_LEN + payload.len()).map_err(io::Error::other)?;
    let flags = u16::try_from(libc::NLM_F_REQUEST | flags).map_err(io::Error::other)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(message_type.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(payload);
    send(&socket, &message, SendFlags::empty())?;

    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        // With `TRUNC`, the second number is the length of the datagram, fitting or not.
        let receive = || recv(&socket, &mut buffer[..], RecvFlags::TRUNC);
        let (_, length) = retry_on_intr(receive)?;
        let mut rest = buffer.get(..length).ok_or_else(malformed)?;
        if rest.is_empty() {
            return Err(malformed());
        }
        while !rest.is_empty() {
            let (message_type, payload, next) = split(rest).ok_or_else(malformed)?;
            match message_type.into() {
                // Both begin with an error number, negative or 0.
                libc::NLMSG_ERROR | libc::NLMSG_DONE => return status(payload),
                _ => reply(payload),
            }
            rest = next;
        }
    }
}

/// A connected netlink socket receives only from its peer: the kernel, whose port is 0.
fn connect_to_kernel(protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )?;
    connect(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

/// Type and payload of the first message, and what follows it: messages begin at multiples of 4.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let message_type = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let payload = bytes.get(HEADER_LEN..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((message_type, payload, next))
}

fn status(payload: &[u8]) -> io::Result<()> {
    match i32::from_ne_bytes(*payload.first_chunk().ok_or_else(malformed)?) {
        0.. => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed netlink message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_error_number_is_returned() {
        // Type 0 is below `RTM_BASE`: rtnetlink ignores it and acknowledges; 0xffff is unknown.
        let known = request(ROUTE, 0, libc::NLM_F_ACK, &[], |_| {});
        assert!(known.is_ok(), "{known:?}");
        let unknown = request(ROUTE, 0xffff, libc::NLM_F_ACK, &[0; 16], |_| {});
        assert_eq!(unknown.unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
    }

    #[test]
    fn dump_passes_every_message() {
        // `RTM_GETLINK` with an empty `struct ifinfomsg`: every namespace has `lo`, index 1.
        let mut indexes = Vec::new();
        request(
            ROUTE,
            libc::RTM_GETLINK,
            libc::NLM_F_DUMP,
            &[0; 16],
            |link| {
                indexes.push(link[4..8].to_vec());
            },
        )
        .unwrap();
        assert!(
            indexes.contains(&1_u32.to_ne_bytes().to_vec()),
            "{indexes:?}"
        );
        let links = std::fs::read_dir("/sys/class/net").unwrap().count();
        assert!(indexes.len() >= links, "{} of {links}", indexes.len());
    }

    #[test]
    fn malformed_messages_are_rejected() {
        let header = |length: u32| [&length.to_ne_bytes()[..], &[3; 12]].concat();
        assert_eq!(split(&header(16)), Some((0x0303, &[][..], &[][..])));
        for length in [0, 15, 17, u32::MAX] {
            assert_eq!(split(&header(length)), None, "{length}");
        }
        assert_eq!(split(&[16, 0, 0]), None);
        let two = [header(17), vec![9, 0, 0, 0], header(16)].concat();
        let (_, payload, next) = split(&two).unwrap();
        assert_eq!((payload, next), (&[9][..], &header(16)[..]));
        assert!(status(&[0; 3]).is_err());
    }
}
