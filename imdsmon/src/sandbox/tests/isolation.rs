//! Isolation of the simulator from the host, and its end.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::MetadataExt as _,
    process::Command,
    time::{Duration, Instant},
};

use crate::event::Endpoint;

use super::{
    super::{
        client::{ClientError, ImdsConnection, ensure_inside, get},
        server::FAST_OPEN,
        *,
    },
    fetch, simulator,
};

#[test]
fn client_outside_simulator_sends_nothing() {
    for address in [IMDS_V4, IMDS_V6, OTHER_PORT, OTHER_ADDRESS] {
        let rejected = ensure_inside(address).expect_err("outside");
        assert!(
            matches!(rejected, ClientError::OutsideSimulator(_)),
            "{rejected}"
        );
    }
    assert!(matches!(
        get(Endpoint::V4, "/", None),
        Err(ClientError::OutsideSimulator(_))
    ));

    // Inside, addresses of the rest of the world are as closed.
    let Some(simulator) = simulator(ImdsConfig::default()) else {
        return;
    };
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 80));
    simulator
        .run(|| ensure_inside(elsewhere).expect_err("not ours"))
        .expect("runs");
    simulator
        .run(|| ensure_inside(IMDS_V4).expect("ours"))
        .expect("runs");
}

#[test]
fn children_and_closures_run_inside() {
    let Some(simulator) = simulator(ImdsConfig::default()) else {
        return;
    };
    let mut command = Command::new("readlink");
    let output = simulator
        .enter(command.arg("/proc/self/ns/net"))
        .output()
        .expect("runs");
    let inside = format!("net:[{}]", simulator.netns());
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), inside);
    let link = simulator
        .run(|| fs::read_link("/proc/thread-self/ns/net").expect("proc"))
        .expect("runs");
    assert_eq!(link.to_str(), Some(inside.as_str()));
    let own = fs::metadata("/proc/thread-self/ns/net")
        .expect("proc")
        .ino();
    assert_ne!(
        own,
        u64::from(simulator.netns()),
        "the caller stays outside"
    );
    let panicked = simulator
        .run(|| panic!("on purpose"))
        .map(|(): ()| ())
        .expect_err("a panic");
    assert!(panicked.to_string().ends_with("on purpose"), "{panicked}");
}

#[test]
fn two_simulators_count_separately() {
    let (Some(one), Some(two)) = (
        simulator(ImdsConfig::default()),
        simulator(ImdsConfig::default()),
    ) else {
        return;
    };
    assert_ne!(one.netns(), two.netns());
    fetch(&one, "/", None);
    assert_eq!((one.requests().total, two.requests().total), (1, 0));
}

#[test]
fn dropped_simulator_leaves_no_thread_or_descriptor() {
    let Some(simulator) = simulator(ImdsConfig::default()) else {
        return;
    };
    let inode = u64::from(simulator.netns());
    let waiting = simulator
        .run(|| ImdsConnection::open(IMDS_V4, Duration::from_secs(2)).expect("inside"))
        .expect("runs");
    // While this is held, no other simulator gets the same inode number.
    let held = simulator
        .as_fd()
        .try_clone_to_owned()
        .expect("a descriptor");
    let began = Instant::now();
    drop(simulator);
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "an open connection does not hold it up"
    );
    drop(waiting);
    let in_it = |kind: &str| {
        fs::read_dir(format!("/proc/self/{kind}"))
            .expect("proc")
            .flatten()
            .map(|entry| {
                if kind == "task" {
                    entry.path().join("ns/net")
                } else {
                    entry.path()
                }
            })
            // Tasks and descriptors of other tests come and go.
            .filter(|path| fs::metadata(path).is_ok_and(|found| found.ino() == inode))
            .filter(|path| {
                fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("net:"))
            })
            .count()
    };
    // A joined thread is listed until the kernel has let it go, a moment later.
    while in_it("task") > 0 && began.elapsed() < Duration::from_secs(2) {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!((in_it("task"), in_it("fd")), (0, 1));
    drop(held);
}

#[test]
fn syn_carries_requests_as_configured() {
    for (fast_open, expected) in [
        (FastOpen::Off, 0),
        (FastOpen::Cookie, 1),
        (FastOpen::NoCookie, 2),
    ] {
        let Some(simulator) = simulator(ImdsConfig {
            fast_open,
            ..ImdsConfig::default()
        }) else {
            return;
        };
        let sysctl = simulator
            .run(|| fs::read_to_string(FAST_OPEN))
            .expect("runs");
        if !sysctl.is_ok_and(|bits| bits.trim() == fast_open.sysctl().to_string()) {
            println!("SKIPPED: no Fast Open here");
            return;
        }
        for _ in 0..2 {
            simulator
                .run(|| drop(send_in_syn(b"GET / HTTP/1.1\r\n\r\n")))
                .expect("runs");
        }
        let counts = simulator.requests();
        assert_eq!(
            (counts.fast_open, counts.connections),
            (expected, 2),
            "{fast_open:?}"
        );
    }
}

/// `sendto` with `MSG_FASTOPEN`; returns after a response.
fn send_in_syn(bytes: &[u8]) -> TcpStream {
    use std::{io::Read as _, os::fd::FromRawFd as _};
    ensure_inside(IMDS_V4).expect("inside");
    let address = libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).expect("small"),
        sin_port: IMDS_V4.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(imdsmon_common::IMDS_V4),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: the descriptor is new and owned by the stream alone; pointers and lengths are
    // those of live values.
    let mut stream = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0);
        let sent = libc::sendto(
            fd,
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_FASTOPEN,
            (&raw const address).cast(),
            libc::socklen_t::try_from(size_of_val(&address)).expect("small"),
        );
        assert_eq!(
            usize::try_from(sent),
            Ok(bytes.len()),
            "{}",
            io::Error::last_os_error()
        );
        TcpStream::from_raw_fd(fd)
    };
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("set");
    assert!(stream.read(&mut [0; 4096]).expect("a response") > 0);
    stream
}
