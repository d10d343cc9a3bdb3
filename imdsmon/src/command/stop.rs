//! When a live run ends: a signal, the end of its time, or a reader that went away.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    time::Duration,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal, SignalKind, signal},
};

/// Done on SIGINT, SIGTERM or SIGHUP, after the given time, or when nobody reads standard output
/// any more. Must be called inside a tokio runtime; the signals count from then on.
pub fn stop(after: Option<Duration>) -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = wanted(SignalKind::interrupt())?;
    let mut terminate = wanted(SignalKind::terminate())?;
    let mut hang_up = wanted(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            () = received(&mut interrupt) => {}
            () = received(&mut terminate) => {}
            () = received(&mut hang_up) => {}
            () = reader_gone() => {}
            () = time_over(after) => {}
        }
    })
}

/// Done on SIGINT or SIGTERM, for a service: SIGHUP means something else there.
pub fn end() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = wanted(SignalKind::interrupt())?;
    let mut terminate = wanted(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            () = received(&mut interrupt) => {}
            () = received(&mut terminate) => {}
        }
    })
}

/// A signal, unless whoever started us wants it ignored, as `nohup` does.
fn wanted(kind: SignalKind) -> io::Result<Option<Signal>> {
    // SAFETY: all-zero is a valid `sigaction`, and a null new action only reads the old one.
    let ignored = unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(kind.as_raw_value(), std::ptr::null(), &raw mut old) == 0
            && old.sa_sigaction == libc::SIG_IGN
    };
    if ignored {
        Ok(None)
    } else {
        signal(kind).map(Some)
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

async fn time_over(after: Option<Duration>) {
    match after {
        Some(after) => tokio::time::sleep(after).await,
        None => std::future::pending().await,
    }
}

/// Standard output, which stays open as long as the process.
struct Stdout;

impl AsRawFd for Stdout {
    fn as_raw_fd(&self) -> RawFd {
        libc::STDOUT_FILENO
    }
}

/// A pipe or socket says when its other end is closed; of a file or a terminal there is nothing
/// to wait for.
async fn reader_gone() {
    // SAFETY: the descriptor is always the same, and nobody closes standard output.
    let registered = unsafe { AsyncFd::register_with_interest(Stdout, Interest::ERROR) };
    let wait: Pin<Box<dyn Future<Output = ()>>> = match registered {
        Ok(stdout) => Box::pin(async move {
            if stdout.ready(Interest::ERROR).await.is_err() {
                std::future::pending::<()>().await;
            }
        }),
        Err(_) => Box::pin(std::future::pending()),
    };
    wait.await;
}
