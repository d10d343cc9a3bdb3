//! Serves metrics to Prometheus: one page over HTTP/1, on a TCP port or a Unix socket.
//!
//! Each connection gets one response within one deadline. A connection beyond the limit ends the
//! oldest, so a client that hangs cannot block others. The service's main loop renders the page, at
//! most once per second. Without a request, nothing wakes up.

use std::{
    collections::VecDeque,
    fs, io,
    os::fd::FromRawFd as _,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixListener, UnixStream},
    sync::{Mutex, mpsc, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::metrics::to_text_format;
use crate::export::Listen;

/// From the connection to the end of the response.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CONNECTIONS: usize = 32;
const MAX_HEAD_BYTES: usize = 8 << 10;
const MAX_HEADERS: usize = 64;
/// How long a rendered page is reused.
const PAGE_TTL: Duration = Duration::from_secs(1);
/// Delay after `accept` fails, for example without free file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// A scrape that waits for the `OpenMetrics` page. May be dropped.
pub(crate) type PageRequest = oneshot::Sender<String>;

pub(crate) struct MetricsServer {
    listener: Listener,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The path of a Unix socket, removed on drop.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The file may be removed already.
        let _ = fs::remove_file(&self.0);
    }
}

impl MetricsServer {
    /// Must be called inside a tokio runtime.
    pub(crate) async fn bind(listen: &Listen) -> io::Result<Self> {
        let listener = match listen {
            Listen::Tcp(address) => Listener::Tcp(TcpListener::bind(address).await?),
            Listen::Unix(path) => {
                remove_stale(path).await?;
                let listener = UnixListener::bind(path)?;
                let file = SocketFile(path.clone());
                // The socket's group and directory control access.
                fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
                Listener::Unix(listener, file)
            }
        };
        Ok(Self { listener })
    }

    /// The TCP socket from the service manager, if any (`sd_listen_fds(3)`). Must be called inside
    /// a tokio runtime, and at most once.
    pub(crate) fn inherited() -> io::Result<Option<Self>> {
        let Some(descriptor) = sd_notify::listen_fds()?.next() else {
            return Ok(None);
        };
        // SAFETY: the service manager passes the descriptor to this process only (`$LISTEN_PID`),
        // and no other code takes it.
        let socket = unsafe { std::net::TcpListener::from_raw_fd(descriptor) };
        // Fails unless the socket is TCP.
        socket.local_addr()?;
        socket.set_nonblocking(true)?;
        let listener = Listener::Tcp(TcpListener::from_std(socket)?);
        Ok(Some(Self { listener }))
    }

    /// The address, with the actual port if the configured one is 0.
    pub(crate) fn address(&self) -> io::Result<Listen> {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Listener::Unix(_, file) => Ok(Listen::Unix(file.0.clone())),
        }
    }

    /// Serves until dropped; requests each page through `scrapes`.
    pub(crate) async fn run(self, scrapes: mpsc::Sender<PageRequest>) {
        let page = Arc::new(Page {
            scrapes,
            latest: Mutex::new(None),
        });
        let mut tasks = JoinSet::new();
        let mut oldest_first = VecDeque::new();
        loop {
            let accepted: io::Result<Box<dyn Connection>> = tokio::select! {
                Some(_ended) = tasks.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let Ok(connection) = accepted else {
                sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            };
            oldest_first.retain(|task: &tokio::task::AbortHandle| !task.is_finished());
            if oldest_first.len() >= MAX_CONNECTIONS
                && let Some(oldest) = oldest_first.pop_front()
            {
                oldest.abort();
            }
            let page = Arc::clone(&page);
            oldest_first.push_back(tasks.spawn(async move {
                // A slow or disconnected client gets no response.
                let _ = timeout(CONNECTION_TIMEOUT, handle(connection, &page)).await;
            }));
        }
    }
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Connection>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Removes a socket without a listener, left by a killed process; nothing else.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    // A listener too busy to accept must keep its socket.
    let is_stale = metadata.file_type().is_socket()
        && matches!(
            timeout(CONNECTION_TIMEOUT, UnixStream::connect(path)).await,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused
        );
    if is_stale {
        fs::remove_file(path)
    } else {
        Err(io::ErrorKind::AddrInUse.into())
    }
}

struct Page {
    scrapes: mpsc::Sender<PageRequest>,
    latest: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Page {
    /// `None` if the service is stopping.
    async fn get(&self) -> Option<Arc<str>> {
        // Held while the page is rendered: concurrent scrapes wait and get the same page.
        let mut latest = self.latest.lock().await;
        if let Some((made, page)) = &*latest
            && made.elapsed() < PAGE_TTL
        {
            return Some(Arc::clone(page));
        }
        let (scrape, reply) = oneshot::channel();
        self.scrapes.send(scrape).await.ok()?;
        let page: Arc<str> = reply.await.ok()?.into();
        *latest = Some((Instant::now(), Arc::clone(&page)));
        Some(page)
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

struct Response {
    status: &'static str,
    content_type: &'static str,
    body: String,
}

impl Response {
    fn error(status: &'static str, sentence: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{sentence}\n"),
        }
    }
}

async fn handle(mut connection: Box<dyn Connection>, page: &Page) -> io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    let (response, has_body) = loop {
        if (&mut connection)
            .take((MAX_HEAD_BYTES - head.len()) as u64)
            .read_buf(&mut head)
            .await?
            == 0
        {
            if head.len() < MAX_HEAD_BYTES {
                return Ok(());
            }
            let status = "431 Request Header Fields Too Large";
            break (Response::error(status, "The request is too long."), true);
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(_)) => {
                let has_body = request.method != Some("HEAD");
                break (respond(&request, page).await, has_body);
            }
            Err(error) => {
                let sentence = format!("Not an HTTP request: {error}.");
                break (Response::error("400 Bad Request", &sentence), true);
            }
        }
    };
    let Response {
        status,
        content_type,
        body,
    } = response;
    let allow = if status.starts_with("405") {
        "Allow: GET, HEAD\r\n"
    } else {
        ""
    };
    let length = body.len();
    let mut text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         {allow}Connection: close\r\n\r\n"
    );
    if has_body {
        text.push_str(&body);
    }
    connection.write_all(text.as_bytes()).await?;
    connection.shutdown().await?;
    // Closing with unread bytes would reset the connection before the response is read.
    tokio::io::copy(
        &mut connection.take(MAX_HEAD_BYTES as u64),
        &mut tokio::io::sink(),
    )
    .await?;
    Ok(())
}

async fn respond(request: &httparse::Request<'_, '_>, page: &Page) -> Response {
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    if !matches!(request.method, Some("GET" | "HEAD")) {
        return Response::error("405 Method Not Allowed", "Only GET and HEAD are supported.");
    }
    if path != "/metrics" {
        return Response::error("404 Not Found", "The metrics are at /metrics.");
    }
    let wants_open_metrics = request.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("accept")
            && header
                .value
                .windows(28)
                .any(|part| part.eq_ignore_ascii_case(b"application/openmetrics-text"))
    });
    match page.get().await {
        Some(page) if wants_open_metrics => Response {
            status: "200 OK",
            content_type: OPEN_METRICS,
            body: page.to_string(),
        },
        Some(page) => Response {
            status: "200 OK",
            content_type: TEXT,
            body: to_text_format(&page),
        },
        None => Response::error("503 Service Unavailable", "The monitor does not respond."),
    }
}

#[cfg(test)]
mod tests;
