//! Those who ask, and those who only want to be in the way.

use std::{
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::{net::TcpStream, task::JoinHandle};

use super::*;

const PAGE: &str = "# HELP a_b Help.\n# TYPE a_b counter\na_b_total 7\n# EOF\n";

struct Served {
    address: SocketAddr,
    /// How often a page was made.
    made: Arc<AtomicUsize>,
    _tasks: [Task; 2],
}

/// Ends with the test.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve() -> Served {
    let any = Listen::Tcp("127.0.0.1:0".parse().unwrap());
    let server = MetricsServer::bind(&any).await.unwrap();
    let Ok(Listen::Tcp(address)) = server.address() else {
        panic!("a port");
    };
    let (scrapes, mut asked) = mpsc::channel::<PageRequest>(1);
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let monitor = tokio::spawn(async move {
        while let Some(scrape) = asked.recv().await {
            counter.fetch_add(1, Ordering::Relaxed);
            drop(scrape.send(PAGE.into()));
        }
    });
    Served {
        address,
        made,
        _tasks: [Task(tokio::spawn(server.run(scrapes))), Task(monitor)],
    }
}

async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn the_page_comes_in_the_format_that_is_asked_for() {
    let served = serve().await;
    let response = exchange(served.address, GET).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(
        response.contains("\r\nContent-Type: text/plain; version=0.0.4"),
        "{response}"
    );
    assert!(
        response
            .ends_with("\r\n\r\n# HELP a_b_total Help.\n# TYPE a_b_total counter\na_b_total 7\n")
    );
    let request = b"GET /metrics?x HTTP/1.0\r\nACCEPT: text/plain;q=0.1, Application/OpenMetrics-Text; version=1.0.0\r\n\r\n";
    let response = exchange(served.address, request).await;
    assert!(response.contains(OPEN_METRICS), "{response}");
    assert!(
        response.contains(&format!("\r\nContent-Length: {}\r\n", PAGE.len())),
        "{response}"
    );
    assert!(response.ends_with(PAGE), "{response}");
    let response = exchange(served.address, b"HEAD /metrics HTTP/1.1\r\n\r\n").await;
    assert!(
        response.starts_with("HTTP/1.1 200") && response.ends_with("\r\n\r\n"),
        "{response}"
    );
}

#[tokio::test]
async fn unknown_path_is_reported() {
    let served = serve().await;
    let long = [
        b"GET /metrics HTTP/1.1\r\nX: ".as_slice(),
        &[b'x'; 2 * MAX_HEAD_BYTES],
    ]
    .concat();
    let many = [
        b"GET /metrics HTTP/1.1\r\n".as_slice(),
        &b"X: y\r\n".repeat(MAX_HEADERS + 1),
        b"\r\n",
    ]
    .concat();
    for (request, status) in [
        (b"GET / HTTP/1.1\r\n\r\n".as_slice(), "404 "),
        (b"GET /metrics/../../etc/passwd HTTP/1.1\r\n\r\n", "404 "),
        (
            b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
            "405 ",
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400 "),
        (b"GET /metrics\r\n\r\n", "400 "),
        (&many, "400 "),
        (&long, "431 "),
    ] {
        let response = exchange(served.address, request).await;
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status}")),
            "{response}"
        );
    }
    assert_eq!(served.made.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_request_in_pieces_is_a_request() {
    let served = serve().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    for byte in GET {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
}

#[tokio::test]
async fn hanging_clients_do_not_block_others() {
    let served = serve().await;
    let mut slow = Vec::new();
    for number in 0..20 * MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /met").await.unwrap();
        }
        slow.push(stream);
        if number % 100 == 0 {
            let response = timeout(Duration::from_secs(1), exchange(served.address, GET)).await;
            assert!(
                response.unwrap().starts_with("HTTP/1.1 200"),
                "after {number}"
            );
        }
    }
    // All but the latest were let go of.
    let mut ended = 0;
    for stream in &mut slow[..19 * MAX_CONNECTIONS] {
        let mut byte = [0];
        let read = timeout(Duration::from_secs(1), stream.read(&mut byte)).await;
        ended += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    assert_eq!(ended, 19 * MAX_CONNECTIONS);
}

#[tokio::test(start_paused = true)]
async fn who_is_too_slow_is_let_go_of() {
    let (mut client, server) = tokio::io::duplex(64);
    let (scrapes, _asked) = mpsc::channel(1);
    let page = Page {
        scrapes,
        latest: Mutex::new(None),
    };
    let answering =
        tokio::spawn(
            async move { timeout(CONNECTION_TIMEOUT, handle(Box::new(server), &page)).await },
        );
    // A byte each second: never silent for long, and never done.
    let mut sent = 0;
    while client.write_all(b"G").await.is_ok() {
        sent += 1;
        sleep(Duration::from_secs(1)).await;
    }
    assert!(answering.await.unwrap().is_err());
    assert!(sent <= 6, "{sent}");
}

#[tokio::test]
async fn a_crowd_gets_one_page() {
    let served = serve().await;
    let all: Vec<_> = (0..20)
        .map(|_| tokio::spawn(exchange(served.address, GET)))
        .collect();
    for one in all {
        assert!(one.await.unwrap().starts_with("HTTP/1.1 200"));
    }
    assert_eq!(served.made.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn monitor_that_is_gone_is_reported() {
    let any = Listen::Tcp("127.0.0.1:0".parse().unwrap());
    let server = MetricsServer::bind(&any).await.unwrap();
    let Ok(Listen::Tcp(address)) = server.address() else {
        panic!("a port");
    };
    let (scrapes, asked) = mpsc::channel(1);
    drop(asked);
    let _task = Task(tokio::spawn(server.run(scrapes)));
    let response = exchange(address, GET).await;
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");
}

#[tokio::test]
async fn only_a_stale_unix_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.sock");
    let listen = Listen::Unix(path.clone());
    // Left by a kill: the descriptor is closed, the name stays.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let server = MetricsServer::bind(&listen).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
    let error = MetricsServer::bind(&listen).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let (scrapes, mut asked) = mpsc::channel::<PageRequest>(1);
    let running = tokio::spawn(server.run(scrapes));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(GET).await.unwrap();
    asked.recv().await.unwrap().send(PAGE.into()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    running.abort();
    drop(running.await);
    assert!(!path.exists());
    fs::write(&path, "precious").unwrap();
    assert!(MetricsServer::bind(&listen).await.is_err());
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}
