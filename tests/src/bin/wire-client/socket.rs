//! Sockets of every kind, and addresses in the kernel's layout.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use imdsmon::sandbox::client::ensure_inside;

use crate::options::Family;

/// A `sockaddr` with its length.
#[derive(Clone, Copy)]
pub(crate) enum Address {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

/// Lengths as the kernel wants them.
const V4_LEN: libc::socklen_t = 16;
const V6_LEN: libc::socklen_t = 28;
const _: () =
    assert!(size_of::<libc::sockaddr_in>() == 16 && size_of::<libc::sockaddr_in6>() == 28);

impl Address {
    pub(crate) fn ptr(&self) -> *const libc::sockaddr {
        match self {
            Self::V4(address) => (&raw const *address).cast(),
            Self::V6(address) => (&raw const *address).cast(),
        }
    }

    pub(crate) fn len(&self) -> libc::socklen_t {
        match self {
            Self::V4(_) => V4_LEN,
            Self::V6(_) => V6_LEN,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "address families are small numbers"
)]
impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.ip().octets()),
                },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(address) => Self::V6(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: 0,
            }),
        }
    }
}

/// A new stream socket; not connected.
pub(crate) fn open(family: Family) -> io::Result<TcpStream> {
    let (domain, protocol) = match family {
        Family::Ipv4 => (libc::AF_INET, libc::IPPROTO_TCP),
        Family::Ipv6 | Family::Mapped => (libc::AF_INET6, libc::IPPROTO_TCP),
        Family::Mptcp => (libc::AF_INET, libc::IPPROTO_MPTCP),
    };
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(domain, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, protocol) };
    check(fd)?;
    // SAFETY: the descriptor is new and owned by this function alone.
    Ok(TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Connects, from inside the simulator only.
pub(crate) fn connect(stream: &TcpStream, target: SocketAddr) -> anyhow::Result<()> {
    ensure_inside(target)?;
    let address = Address::from(target);
    // SAFETY: pointer and length are those of a live address.
    check(unsafe { libc::connect(stream.as_raw_fd(), address.ptr(), address.len()) })?;
    Ok(())
}

/// Sets an option whose value is an `int`.
pub(crate) fn set_option(
    stream: &TcpStream,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    set_bytes(stream, level, name, value.to_ne_bytes())
}

/// Puts options into the IPv4 header of every packet.
pub(crate) fn set_ip_options(stream: &TcpStream) -> io::Result<()> {
    set_bytes(stream, libc::IPPROTO_IP, libc::IP_OPTIONS, [1_u8, 1, 1, 0])
}

/// Puts two extension headers between IPv6 and TCP in every packet.
pub(crate) fn set_ipv6_options(stream: &TcpStream) -> io::Result<()> {
    // The next header is the kernel's to fill in; 8 bytes long; 4 + 2 bytes of padding.
    let padding = [0_u8, 0, 1, 4, 0, 0, 0, 0];
    for header in [libc::IPV6_HOPOPTS, libc::IPV6_DSTOPTS] {
        set_bytes(stream, libc::IPPROTO_IPV6, header, padding)?;
    }
    Ok(())
}

fn set_bytes<const N: usize>(
    stream: &TcpStream,
    level: libc::c_int,
    name: libc::c_int,
    value: [u8; N],
) -> io::Result<()> {
    let len = libc::socklen_t::try_from(N).map_err(io::Error::other)?;
    // SAFETY: pointer and length are those of a live array.
    check(unsafe {
        libc::setsockopt(stream.as_raw_fd(), level, name, value.as_ptr().cast(), len)
    })?;
    Ok(())
}

/// Turns the kernel's -1 into the error behind it, for calls that return an `int`.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Turns the kernel's -1 into the error behind it, for calls that return a size.
pub(crate) fn check_size(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_negative| io::Error::last_os_error())
}
