//! Who sends: the process that connected, or one that has its socket in another way.

use std::{
    env,
    ffi::OsStr,
    io, mem,
    net::{SocketAddr, TcpStream},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::{ffi::OsStrExt as _, net::UnixStream, process::CommandExt as _},
    },
    process::Command,
    ptr, thread,
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    converse,
    options::{By, Bytes, Send},
    requests::Batch,
    say,
    socket::{check, check_size},
    ways,
};

/// Sends one batch as `--by` says. `Exec` and `PassFd` have changed the process before.
pub(crate) fn send(
    options: &Send,
    stream: &TcpStream,
    target: SocketAddr,
    batch: &Batch,
    first: bool,
) -> anyhow::Result<()> {
    let task = || ways::send(options, stream, target, batch, first);
    match options.by {
        By::Caller | By::Exec | By::PassFd => task(),
        By::Thread => thread::scope(|scope| match scope.spawn(task).join() {
            Ok(sent) => sent,
            Err(_panic) => bail!("the sending thread panicked"),
        }),
        By::Fork => {
            let child = fork(task)?;
            say(format_args!("sender {child}"))?;
            wait(child)
        }
    }
}

/// Sets the name of this thread: up to 15 bytes, without NUL.
pub(crate) fn set_comm(comm: &Bytes) -> anyhow::Result<()> {
    let mut name = [0_u8; 16];
    let len = comm.0.len().min(15);
    name[..len].copy_from_slice(&comm.0[..len]);
    // SAFETY: the kernel reads up to the NUL within the 16 bytes.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) })?;
    Ok(())
}

/// Starts this program anew, in the same process, with an argument that is not UTF-8.
pub(crate) fn exec_with_junk() -> anyhow::Result<()> {
    let junk = OsStr::from_bytes(b"\xff\xfejunk\x80");
    let error = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .arg("--junk")
        .arg(junk)
        .exec();
    Err(error).context("execve")
}

/// Starts this program anew, in the same process, under another name and with the socket.
pub(crate) fn exec_with_socket(stream: &TcpStream) -> anyhow::Result<()> {
    let fd = stream.as_raw_fd();
    // SAFETY: no memory is involved; the descriptor is to survive the exec.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })?;
    let error = Command::new(env::current_exe()?)
        .arg0("second-program")
        .args(env::args_os().skip(1))
        .args(["--by", "caller", "--fd", &fd.to_string()])
        .exec();
    Err(error).context("execve")
}

/// The socket that [`exec_with_socket`] left.
pub(crate) fn inherited(fd: RawFd) -> anyhow::Result<TcpStream> {
    // SAFETY: no memory is involved; tells whether the descriptor is open.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) }).context("--fd")?;
    // SAFETY: the descriptor came through exec for this use alone.
    Ok(TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Has a process that was there before the connection do all the rest with it.
pub(crate) fn pass(
    options: &Send,
    target: SocketAddr,
    connect: impl FnOnce() -> anyhow::Result<TcpStream>,
) -> anyhow::Result<()> {
    let (near, far) = UnixStream::pair()?;
    let child = fork(|| {
        let stream = receive(&far)?;
        say(format_args!("sender {}", std::process::id()))?;
        converse(options, &stream, target)
    })?;
    drop(far);
    let passed = connect().and_then(|stream| give(&near, &stream));
    // Without a socket the child sees the end of the stream and ends, too.
    drop(near);
    let ended = wait(child);
    passed.and(ended)
}

/// Runs `task` in a child, which ends right after; returns its process id.
fn fork(task: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<libc::pid_t> {
    // SAFETY: this program has no other thread when it forks, so that the child may go on as
    // any program does.
    let child = check(unsafe { libc::fork() })?;
    if child == 0 {
        let code = match task() {
            Ok(()) => 0,
            Err(error) => {
                // There is no reader left to report a failure to.
                drop(io::Write::write_all(
                    &mut io::stderr(),
                    format!("{error:#}\n").as_bytes(),
                ));
                1
            }
        };
        // SAFETY: ends the process at once, without the parent's exit handlers.
        unsafe { libc::_exit(code) };
    }
    Ok(child)
}

fn wait(child: libc::pid_t) -> anyhow::Result<()> {
    let mut status = 0;
    // SAFETY: the status lives; the child is this process's own.
    check(unsafe { libc::waitpid(child, &raw mut status, 0) })?;
    ensure!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
        "the sender failed"
    );
    Ok(())
}

/// Room for the control message of one descriptor, aligned as `cmsghdr` needs it.
type Control = [u64; 4];
const FD_LEN: u32 = 4;

fn give(to: &UnixStream, stream: &TcpStream) -> anyhow::Result<()> {
    let (mut byte, mut control): (u8, Control) = (0, [0; 4]);
    let mut part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let header = control_message(&mut part, &mut control);
    // SAFETY: `control` is larger than CMSG_SPACE(FD_LEN) and aligned; the header lies in it.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        ensure!(!first.is_null(), "no room for a descriptor");
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(FD_LEN) as _;
        ptr::write_unaligned(libc::CMSG_DATA(first).cast::<RawFd>(), stream.as_raw_fd());
        check_size(libc::sendmsg(to.as_raw_fd(), &raw const header, 0))?;
    }
    Ok(())
}

fn receive(from: &UnixStream) -> anyhow::Result<TcpStream> {
    let (mut byte, mut control): (u8, Control) = (0, [0; 4]);
    let mut part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let mut header = control_message(&mut part, &mut control);
    // SAFETY: as in `give`; the kernel fills the header's buffers, and a descriptor that came
    // is new and owned by this function alone.
    unsafe {
        let got = check_size(libc::recvmsg(
            from.as_raw_fd(),
            &raw mut header,
            libc::MSG_CMSG_CLOEXEC,
        ))?;
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        ensure!(got == 1 && !first.is_null(), "no socket came");
        ensure!(
            (*first).cmsg_type == libc::SCM_RIGHTS,
            "something else came"
        );
        let fd = ptr::read_unaligned(libc::CMSG_DATA(first).cast::<RawFd>());
        Ok(TcpStream::from(OwnedFd::from_raw_fd(fd)))
    }
}

fn control_message(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: all its members are integers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    // SAFETY: pure arithmetic.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(FD_LEN) } as _;
    header
}
