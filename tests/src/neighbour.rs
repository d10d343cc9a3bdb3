//! A server beside IMDS: on its port, at an address that is almost its own.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use imdsmon::sandbox::ImdsSimulator;

/// How long the kernel may take to make an address reachable.
const PATIENCE: Duration = Duration::from_secs(5);

/// The kernel's `struct ifreq` with a `sockaddr_in` in it.
#[repr(C)]
struct Ifreq4 {
    name: [u8; 16],
    address: libc::sockaddr_in,
    rest: [u8; 8],
}

/// The kernel's `struct in6_ifreq`.
#[repr(C)]
struct Ifreq6 {
    address: libc::in6_addr,
    prefix_len: u32,
    index: libc::c_int,
}

/// Gives the stage one more address, and answers requests to its port 80 for the rest of the
/// test.
///
/// # Panics
///
/// If that is not possible.
pub fn serve(simulator: &ImdsSimulator, ip: IpAddr) {
    let listener = simulator.run(|| {
        match ip {
            IpAddr::V4(ip) => add_v4(ip)?,
            IpAddr::V6(ip) => add_v6(ip)?,
        }
        let until = Instant::now() + PATIENCE;
        let reachable = || {
            let other = TcpListener::bind((ip, 0))?;
            TcpStream::connect_timeout(&other.local_addr()?, PATIENCE / 50)
        };
        while reachable().is_err() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        TcpListener::bind(SocketAddr::new(ip, 80))
    });
    // The socket belongs to the stage's network whoever uses it.
    let listener = listener.unwrap().unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        }
    });
}

fn add_v4(ip: Ipv4Addr) -> io::Result<()> {
    // Another label for each address, below 16 bytes.
    let mut name = [0; 16];
    let label = format!("lo:{:x}", ip.to_bits());
    name[..label.len()].copy_from_slice(label.as_bytes());
    let request = Ifreq4 {
        name,
        address: libc::sockaddr_in {
            sin_family: 2, // AF_INET
            sin_port: 0,
            sin_addr: libc::in_addr {
                s_addr: u32::from_ne_bytes(ip.octets()),
            },
            sin_zero: [0; 8],
        },
        rest: [0; 8],
    };
    set_address(libc::AF_INET, (&raw const request).cast())
}

fn add_v6(ip: Ipv6Addr) -> io::Result<()> {
    let request = Ifreq6 {
        address: libc::in6_addr {
            s6_addr: ip.octets(),
        },
        prefix_len: 128,
        index: 1, // `lo` of every network namespace
    };
    set_address(libc::AF_INET6, (&raw const request).cast())
}

fn set_address(family: libc::c_int, request: *const libc::c_void) -> io::Result<()> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and owned by this function alone.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the callers' requests are those that the kernel reads for the family.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
