//! What is measured: small things that ordinary programs do all day, none of them IMDS.
//!
//! Where one thread holds both ends, nothing waits for the scheduler: loopback delivers a packet
//! before the `write` that sent it returns. That leaves system calls, the network stack and the
//! hooks, which is what is to be compared. `round-trip` has two threads, as programs do.

use anyhow::{Context as _, Result, bail};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

/// Bytes of one operation of the stream.
pub const PIECE: usize = 64 * 1024;

/// How long one operation may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Something to measure.
pub trait Workload {
    /// Does it once.
    fn once(&mut self) -> Result<()>;
}

/// All workloads by name, ready to run in the caller's network namespace.
///
/// Each name is a column of the tables of `cargo xtask bench`.
pub fn all() -> Result<Vec<(&'static str, Box<dyn Workload>)>> {
    Ok(vec![
        ("round-trip", Box::new(RoundTrip::start()?)),
        ("packets", Box::new(Packets(connection()?))),
        ("stream", Box::new(Stream::start()?)),
        ("unix", Box::new(Unix::start()?)),
    ])
}

/// One byte there and back over TCP, between two threads.
struct RoundTrip(TcpStream);

impl RoundTrip {
    fn start() -> Result<Self> {
        let (near, mut far) = connection()?;
        // Ends when the near end is closed.
        thread::spawn(move || {
            let mut byte = [0];
            while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
        });
        Ok(Self(near))
    }
}

impl Workload for RoundTrip {
    fn once(&mut self) -> Result<()> {
        exchange_half(&mut self.0)
    }
}

fn exchange_half(near: &mut TcpStream) -> Result<()> {
    let mut byte = [7];
    near.write_all(&byte)?;
    near.read_exact(&mut byte)?;
    Ok(())
}

/// One byte there and back over TCP, both ends in one thread.
struct Packets((TcpStream, TcpStream));

impl Workload for Packets {
    fn once(&mut self) -> Result<()> {
        let (near, far) = &mut self.0;
        let mut byte = [7];
        near.write_all(&byte)?;
        far.read_exact(&mut byte)?;
        far.write_all(&byte)?;
        near.read_exact(&mut byte)?;
        Ok(())
    }
}

/// [`PIECE`] bytes over TCP, both ends in one thread.
struct Stream {
    near: TcpStream,
    far: TcpStream,
    piece: Vec<u8>,
}

impl Stream {
    fn start() -> Result<Self> {
        let (near, far) = connection()?;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        Ok(Self {
            near,
            far,
            piece: vec![7; PIECE],
        })
    }
}

impl Workload for Stream {
    fn once(&mut self) -> Result<()> {
        let (mut sent, mut received) = (0, 0);
        let mut idle = None;
        while received < PIECE {
            let before = (sent, received);
            if sent < PIECE {
                sent += now(self.near.write(&self.piece[sent..]))?;
            }
            received += now(self.far.read(&mut self.piece[received..sent.max(received)]))?;
            if before != (sent, received) {
                idle = None;
            } else if idle.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                bail!("the stream has stopped");
            }
        }
        Ok(())
    }
}

/// Bytes that went through without waiting.
fn now(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

/// One byte over a Unix socket, both ends in one thread.
struct Unix(UnixStream, UnixStream);

impl Unix {
    fn start() -> Result<Self> {
        let (near, far) = UnixStream::pair().context("make a pair of Unix sockets")?;
        far.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(near, far))
    }
}

impl Workload for Unix {
    fn once(&mut self) -> Result<()> {
        let mut byte = [7];
        self.0.write_all(&byte)?;
        self.1.read_exact(&mut byte)?;
        Ok(())
    }
}

/// Both ends of a TCP connection over loopback.
fn connection() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
    let near = TcpStream::connect(listener.local_addr()?).context("connect")?;
    let (far, _) = listener.accept().context("accept")?;
    for end in [&near, &far] {
        end.set_nodelay(true)?;
    }
    // An echo may wait for long between two visits, but no response takes for ever.
    near.set_read_timeout(Some(PATIENCE))?;
    Ok((near, far))
}
