//! The ways to hand bytes to the kernel.

use std::{
    io::{self, Write as _},
    mem,
    net::{SocketAddr, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr, thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use imdsmon::sandbox::client::ensure_inside;

use crate::{
    options::{How, Send},
    requests::Batch,
    socket::{Address, check, check_size, connect, open, set_option},
    uring,
};

/// Sends a batch. If the way opens the connection, too, only the `first` batch does so.
pub(crate) fn send(
    options: &Send,
    stream: &TcpStream,
    target: SocketAddr,
    batch: &Batch,
    first: bool,
) -> anyhow::Result<()> {
    let bytes: Vec<u8> = batch
        .iter()
        .flat_map(|message| message.bytes.iter().copied())
        .collect();
    let sent = match options.how {
        How::Split => return split(stream, &bytes, options),
        How::Writev => writev(stream, &bytes)?,
        How::Sendmsg => sendmsg(stream, &bytes)?,
        How::Sendmmsg => sendmmsg(stream, batch)?,
        How::Sendfile => sendfile(stream, &bytes)?,
        How::Splice => splice(stream, &bytes)?,
        How::Zerocopy => zerocopy(stream, bytes.clone())?,
        How::Unfaulted => unfaulted(stream, &bytes)?,
        How::Overwritten => overwritten(stream, bytes.clone())?,
        How::Uring => uring::send(stream, &bytes, false)?,
        How::UringSqpoll => uring::send(stream, &bytes, true)?,
        How::UringConnect if first => uring::connect_and_send(stream, target, &bytes)?,
        How::FastOpen if first => fast_open(stream, target, &bytes, options)?,
        How::FastOpenConnect if first => fast_open_connect(stream, target, &bytes, options)?,
        How::Write | How::UringConnect | How::FastOpen | How::FastOpenConnect => {
            (&*stream).write(&bytes)?
        }
    };
    ensure!(
        sent == bytes.len(),
        "only {sent} of {} bytes were taken",
        bytes.len()
    );
    Ok(())
}

fn split(mut stream: &TcpStream, bytes: &[u8], options: &Send) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut from = 0;
    for to in options.split_at.iter().copied().chain([bytes.len()]) {
        let to = to.clamp(from, bytes.len());
        if to > from {
            stream.write_all(&bytes[from..to])?;
            thread::sleep(Duration::from_millis(options.pause));
        }
        from = to;
    }
    Ok(())
}

fn iovec(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

fn halves(bytes: &[u8]) -> [libc::iovec; 2] {
    let (a, b) = bytes.split_at(bytes.len() / 2);
    [iovec(a), iovec(b)]
}

fn writev(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let [a, b] = halves(bytes);
    let parts = [
        libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        },
        a,
        b,
    ];
    // SAFETY: three buffers, live and unchanged during the call.
    check_size(unsafe { libc::writev(stream.as_raw_fd(), parts.as_ptr(), 3) })
}

fn sendmsg(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut parts = halves(bytes);
    let header = message(&mut parts);
    // SAFETY: the header points to two live buffers and nothing else.
    check_size(unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const header, 0) })
}

/// The header of a message without address or control data.
fn message(parts: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: all its members are integers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = parts.as_mut_ptr();
    header.msg_iovlen = parts.len();
    header
}

fn sendmmsg(stream: &TcpStream, batch: &Batch) -> anyhow::Result<usize> {
    let mut parts: Vec<[libc::iovec; 1]> = batch.iter().map(|one| [iovec(&one.bytes)]).collect();
    let mut messages: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|part| libc::mmsghdr {
            msg_hdr: message(part),
            msg_len: 0,
        })
        .collect();
    let count = libc::c_uint::try_from(messages.len())?;
    // SAFETY: `count` live headers, each pointing to one live buffer.
    let sent =
        check(unsafe { libc::sendmmsg(stream.as_raw_fd(), messages.as_mut_ptr(), count, 0) })?;
    ensure!(
        usize::try_from(sent)? == messages.len(),
        "only {sent} messages were taken"
    );
    Ok(messages
        .iter()
        .map(|message| message.msg_len as usize)
        .sum())
}

/// A file in memory with these bytes.
fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: the name is a live C string.
    let fd = check(unsafe { libc::memfd_create(c"request".as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: the descriptor is new and owned by this function alone.
    let mut file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.write_all(bytes)?;
    Ok(file.into())
}

fn sendfile(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let file = memory_file(bytes)?;
    let mut offset = 0;
    // SAFETY: both descriptors are open, and the offset lives.
    check_size(unsafe {
        libc::sendfile(
            stream.as_raw_fd(),
            file.as_raw_fd(),
            &raw mut offset,
            bytes.len(),
        )
    })
}

fn splice(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let (from, mut to) = io::pipe()?;
    to.write_all(bytes)?;
    // SAFETY: both descriptors are open; no offsets are used.
    check_size(unsafe {
        libc::splice(
            from.as_raw_fd(),
            ptr::null_mut(),
            stream.as_raw_fd(),
            ptr::null_mut(),
            bytes.len(),
            0,
        )
    })
}

fn zerocopy(stream: &TcpStream, bytes: Vec<u8>) -> io::Result<usize> {
    set_option(stream, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)?;
    // The kernel may read the pages until the peer has acknowledged them: they stay as they are
    // for the rest of this process.
    let bytes = Vec::leak(bytes);
    // SAFETY: pointer and length are those of a live slice.
    check_size(unsafe {
        libc::send(
            stream.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_ZEROCOPY,
        )
    })
}

fn unfaulted(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let file = memory_file(bytes)?;
    // SAFETY: a new mapping at a place of the kernel's choice replaces no other mapping.
    let map = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes.len(),
            libc::PROT_READ,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        )
    };
    if map == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is as long as `bytes`, is not touched by this process, and stays.
    check_size(unsafe { libc::write(stream.as_raw_fd(), map, bytes.len()) })
}

fn overwritten(mut stream: &TcpStream, mut bytes: Vec<u8>) -> io::Result<usize> {
    let sent = stream.write(&bytes)?;
    for (old, new) in bytes
        .iter_mut()
        .zip(b"X-aws-ec2-metadata-token: overwritten\r\n".iter().cycle())
    {
        // SAFETY: an exclusive reference; volatile, so that the useless write is made.
        unsafe { ptr::write_volatile(old, *new) };
    }
    Ok(sent)
}

fn fast_open(
    stream: &TcpStream,
    target: SocketAddr,
    bytes: &[u8],
    options: &Send,
) -> anyhow::Result<usize> {
    fetch_cookie(target, options)?;
    ensure_inside(target)?;
    let address = Address::from(target);
    // SAFETY: pointers and lengths are those of a live slice and a live address.
    let sent = check_size(unsafe {
        libc::sendto(
            stream.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_FASTOPEN,
            address.ptr(),
            address.len(),
        )
    });
    sent.context("MSG_FASTOPEN")
}

fn fast_open_connect(
    mut stream: &TcpStream,
    target: SocketAddr,
    bytes: &[u8],
    options: &Send,
) -> anyhow::Result<usize> {
    fetch_cookie(target, options)?;
    set_option(stream, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)?;
    // With a cookie at hand this sends nothing; the write opens the connection.
    connect(stream, target)?;
    Ok(stream.write(bytes)?)
}

/// Gets the Fast Open cookie on a connection that carries no data and is closed at once.
fn fetch_cookie(target: SocketAddr, options: &Send) -> anyhow::Result<()> {
    let stream = open(options.target.socket)?;
    set_option(&stream, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)?;
    connect(&stream, target).context("fetching the Fast Open cookie")
}
