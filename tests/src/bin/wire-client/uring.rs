//! Sends through `io_uring`: without any system call that names the socket.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
};

use anyhow::Context as _;
use imdsmon::sandbox::client::ensure_inside;
use io_uring::{IoUring, opcode, squeue, types::Fd};

use crate::socket::Address;

/// How long the kernel's polling thread stays awake, in milliseconds.
const POLL_IDLE: u32 = 100;

/// One send; `poll` leaves even the submission to a thread of the kernel.
pub(crate) fn send(stream: &TcpStream, bytes: &[u8], poll: bool) -> anyhow::Result<usize> {
    let ring = if poll {
        IoUring::builder().setup_sqpoll(POLL_IDLE).build(4)
    } else {
        IoUring::new(4)
    };
    let mut ring = ring.context("this kernel gives no io_uring")?;
    let entry = send_entry(stream, bytes)?;
    run(&mut ring, &[entry]).map(|results| results.iter().sum())
}

/// A connect and a send that begins when the connection is there, submitted together.
pub(crate) fn connect_and_send(
    stream: &TcpStream,
    target: SocketAddr,
    bytes: &[u8],
) -> anyhow::Result<usize> {
    ensure_inside(target)?;
    let mut ring = IoUring::new(4).context("this kernel gives no io_uring")?;
    let address = Address::from(target);
    let connect = opcode::Connect::new(Fd(stream.as_raw_fd()), address.ptr(), address.len())
        .build()
        .flags(squeue::Flags::IO_LINK);
    let send = send_entry(stream, bytes)?;
    run(&mut ring, &[connect, send]).map(|results| results.iter().sum())
}

fn send_entry(stream: &TcpStream, bytes: &[u8]) -> anyhow::Result<squeue::Entry> {
    let len = u32::try_from(bytes.len())?;
    Ok(opcode::Send::new(Fd(stream.as_raw_fd()), bytes.as_ptr(), len).build())
}

/// Submits and waits for all of them; what they point to is alive until then, in the caller.
fn run(ring: &mut IoUring, entries: &[squeue::Entry]) -> anyhow::Result<Vec<usize>> {
    // SAFETY: the buffers and addresses outlive this function, and it returns after completion.
    unsafe { ring.submission().push_multiple(entries) }.context("the ring is full")?;
    ring.submit_and_wait(entries.len())?;
    let mut results = Vec::new();
    for done in ring.completion() {
        match usize::try_from(done.result()) {
            Ok(result) => results.push(result),
            Err(_negative) => return Err(io::Error::from_raw_os_error(-done.result()).into()),
        }
    }
    Ok(results)
}
