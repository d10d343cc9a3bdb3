//! `wire-client` sends exact bytes in exact ways.
//!
//! The end-to-end tests need callers that a real program seldom is, and that the monitor must
//! read right all the same: a header cut in its name, a request from a pipe or in a SYN, a
//! socket that another process uses. Each is one command line here. The program reads nothing
//! but its arguments, links statically if asked to, and runs in an empty initramfs.
//!
//! It refuses to run outside the IMDS simulator, see [`imdsmon::sandbox::client`].

mod load;
mod options;
mod requests;
mod shapes;
mod socket;
mod uring;
mod ways;

use std::{
    fmt,
    io::{self, Write as _},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    process, thread,
};

use clap::Parser as _;
use imdsmon::sandbox::client::{ClientError, ResponseReader, ensure_inside, had_data_in_syn};

use crate::options::{By, Cli, Command, How, Send, Udp};

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Send(options) => send(&options),
        Command::Load(options) => load::run(&options),
        Command::Udp(options) => udp(&options),
    }
}

fn send(options: &Send) -> anyhow::Result<()> {
    let target = options.target.address()?;
    ensure_inside(target)?;
    if options.argv_junk && options.junk.is_none() {
        return shapes::exec_with_junk();
    }
    if let Some(comm) = &options.comm {
        shapes::set_comm(comm)?;
    }
    if let Some(fd) = options.fd {
        say(format_args!("sender {}", process::id()))?;
        return converse(options, &shapes::inherited(fd)?, target);
    }
    say(format_args!("pid {}", process::id()))?;
    let connect = || {
        let stream = socket::open(options.target.socket)?;
        if options.ip_options {
            socket::set_ip_options(&stream)?;
        }
        if options.ipv6_options {
            socket::set_ipv6_options(&stream)?;
        }
        if options.half_close {
            socket::set_option(&stream, libc::IPPROTO_TCP, libc::TCP_CORK, 1)?;
        }
        if !options.how.connects() {
            socket::connect(&stream, target)?;
        }
        Ok(stream)
    };
    match options.by {
        By::PassFd => shapes::pass(options, target, connect),
        By::Exec => shapes::exec_with_socket(&connect()?),
        By::Caller | By::Thread | By::Fork => converse(options, &connect()?, target),
    }
}

/// Everything that happens on a socket once its sender has it.
fn converse(options: &Send, stream: &TcpStream, target: SocketAddr) -> anyhow::Result<()> {
    if options.wait_stdin {
        wait_for_line()?;
    }
    thread::sleep(options.hold_before);
    if !options.silent {
        exchange(options, stream, target)?;
    }
    thread::sleep(options.hold_after);
    Ok(())
}

fn exchange(options: &Send, mut stream: &TcpStream, target: SocketAddr) -> anyhow::Result<()> {
    let together = options.pipeline || options.how == How::Sendmmsg;
    let batches = requests::batches(options, target, together)?;
    let mut responses = ResponseReader::default();
    for (index, batch) in batches.iter().enumerate() {
        shapes::send(options, stream, target, batch, index == 0)?;
        if options.half_close {
            stream.shutdown(Shutdown::Write)?;
        }
        if options.exit_at_once {
            continue;
        }
        stream.set_read_timeout(Some(options.timeout))?;
        for (number, message) in batch.iter().enumerate() {
            let response = responses.next(&mut stream, message.is_head);
            if index == 0
                && number == 0
                && matches!(options.how, How::FastOpen | How::FastOpenConnect)
            {
                let rode = if had_data_in_syn(stream) { "yes" } else { "no" };
                say(format_args!("fast-open {rode}"))?;
            }
            match response {
                Ok(response) => say(format_args!("{}", response.status))?,
                Err(ClientError::Timeout) => return say(format_args!("none")),
                Err(ClientError::Io(error)) if is_end(&error) => {
                    return say(format_args!("closed"));
                }
                Err(other) => return Err(other.into()),
            }
        }
    }
    if options.exit_at_once {
        // SAFETY: ends the process at once; nothing is buffered.
        unsafe { libc::_exit(0) };
    }
    Ok(())
}

/// Is this how a connection ends, rather than how a program fails?
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

fn udp(options: &Udp) -> anyhow::Result<()> {
    let target = options.target.address()?;
    ensure_inside(target)?;
    say(format_args!("pid {}", process::id()))?;
    let any: SocketAddr = if target.is_ipv4() {
        ([0; 4], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(target)?;
    for _ in 0..options.count {
        match socket.send(b"GET /latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n") {
            Ok(_) => say(format_args!("sent"))?,
            // The answer to the datagram before: no process listens on the port.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                say(format_args!("refused"))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Prints one line, at once.
fn say(line: fmt::Arguments<'_>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Returns when a line, or the end, has come on standard input.
fn wait_for_line() -> io::Result<()> {
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}
