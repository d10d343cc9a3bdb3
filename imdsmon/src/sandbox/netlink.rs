//! Setting up `lo` through rtnetlink, so that no `ip` program is needed.

use std::{io, net::IpAddr};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeader, AddressHeaderFlags, AddressMessage, AddressScope},
    link::{LinkFlags, LinkHeader, LinkMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// `lo` is link 1 of every network namespace (`LOOPBACK_IFINDEX` in the kernel).
const LOOPBACK: u32 = 1;

/// Room for an acknowledgement, which repeats the request's header and may explain itself.
const ACK: usize = 1024;

/// Brings `lo` of the calling thread's network namespace up.
pub(super) fn loopback_up() -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header = LinkHeader {
        index: LOOPBACK,
        flags: LinkFlags::Up,
        change_mask: LinkFlags::Up,
        ..LinkHeader::default()
    };
    request(RouteNetlinkMessage::SetLink(message), 0)
}

/// Gives `lo` of the calling thread's network namespace an address. It may have it already, from
/// a sandbox before this one in a namespace that was not made for it.
pub(super) fn add_address(address: IpAddr) -> io::Result<()> {
    let (family, prefix_len, scope) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32, AddressScope::Host),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128, AddressScope::Universe),
    };
    let mut message = AddressMessage::default();
    message.header = AddressHeader {
        family,
        prefix_len,
        // Nobody else can have it: use it at once.
        flags: AddressHeaderFlags::Nodad,
        scope,
        index: LOOPBACK,
    };
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    let added = request(
        RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_EXCL,
    );
    match added {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        added => added,
    }
}

/// Sends one request and waits for its acknowledgement, which the kernel queues before `send`
/// returns.
fn request(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let mut answer = Vec::with_capacity(ACK);
    socket.recv(&mut answer, 0)?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    match answer.payload {
        NetlinkPayload::Error(error) if error.code.is_none() => Ok(()),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        other => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("netlink answered {other:?}"),
        )),
    }
}
