//! When a live run ends: a signal, its duration, or a closed standard output.

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

/// Completes on SIGINT, SIGTERM or SIGHUP, after the given time, or when the reader of standard
/// output closes it. Must be called inside a tokio runtime; signals count from then on.
pub(crate) fn stop(after: Option<Duration>) -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = unless_ignored(SignalKind::interrupt())?;
    let mut terminate = unless_ignored(SignalKind::terminate())?;
    let mut hangup = unless_ignored(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            () = received(&mut interrupt) => {}
            () = received(&mut terminate) => {}
            () = received(&mut hangup) => {}
            () = reader_gone() => {}
            () = time_over(after) => {}
        }
    })
}

/// Completes on SIGINT or SIGTERM, for the service, which reloads on SIGHUP.
pub(crate) fn end() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = unless_ignored(SignalKind::interrupt())?;
    let mut terminate = unless_ignored(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            () = received(&mut interrupt) => {}
            () = received(&mut terminate) => {}
        }
    })
}

/// `None` if the parent process had the signal ignored, as `nohup` does.
fn unless_ignored(kind: SignalKind) -> io::Result<Option<Signal>> {
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

/// Standard output, which stays open until the process ends.
struct Stdout;

impl AsRawFd for Stdout {
    fn as_raw_fd(&self) -> RawFd {
        libc::STDOUT_FILENO
    }
}

/// A pipe or socket reports that its other end is closed; a file or terminal never does.
async fn reader_gone() {
    // SAFETY: the descriptor is always the same, and nothing closes standard output.
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
