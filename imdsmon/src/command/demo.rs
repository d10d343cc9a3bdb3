//! `imdsmon demo`: real clients, the real hooks, a simulated metadata service.

use std::{
    fs,
    io::{self, Write},
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{
    block_on,
    output::{Format, Output},
    stop::stop,
};
use crate::{
    capture::Options,
    host::Instance,
    knowledge::Knowledge,
    monitor::{Monitor, Sink},
    pipeline::AttributedEvent,
    sandbox::{HttpTokens, ImdsConfig, ImdsSimulator, TokenRequestMode},
};

/// Demonstrate imdsmon with real clients and a simulated IMDS
///
/// Creates a private network namespace with the service's addresses, runs the clients that this
/// machine has (curl, wget, python3, java and a built-in one), and shows what `imdsmon watch`
/// captures. Takes a few seconds, sends nothing to the real service and cleans up. Needs root.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  imdsmon demo                               an instance that allows IMDSv1
  imdsmon demo --http-tokens required        an instance that requires IMDSv2
  imdsmon demo --hop-limit 1                 a container behind a bridge")]
pub(crate) struct Args {
    /// `HttpTokens` of the simulated instance
    #[arg(long, value_name = "STATE", value_enum, default_value_t = HttpTokens::Optional)]
    http_tokens: HttpTokens,

    /// `HttpPutResponseHopLimit`; with 1, token requests get no response, as in a container
    #[arg(long, value_name = "HOPS", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    hop_limit: u8,

    #[command(flatten)]
    format: Format,
}

/// How long one client may take.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(4);
/// How long after the last client an event may still arrive.
const DRAIN_DELAY: Duration = Duration::from_millis(100);

const GET: &str = "http://169.254.169.254/latest/meta-data/";
/// A correct script.
const WITH_TOKEN: &str = r#"
TOKEN=$(curl -s -m 1 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" http://169.254.169.254/latest/api/token)
curl -s -m 1 -H "X-aws-ec2-metadata-token: $TOKEN" http://169.254.169.254/latest/meta-data/iam/security-credentials/
"#;
/// A script that ignores its failed token request; the path is wrong.
const EMPTY_TOKEN: &str = r#"
TOKEN=$(curl -sf -m 1 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" http://169.254.169.254/latest/api/tokens)
curl -s -m 1 -H "X-aws-ec2-metadata-token: $TOKEN" http://169.254.169.254/latest/meta-data/iam/security-credentials/
"#;
/// A script that probes for another cloud.
const PROBE: &str = r#"
curl -s -m 1 -H "Metadata-Flavor: Google" http://169.254.169.254/computeMetadata/v1/instance/id
"#;
const PYTHON: &str = r#"
import urllib.request
urllib.request.urlopen("http://169.254.169.254/latest/user-data", timeout=2).read()
"#;
const JAVA: &str = r#"
public class Imds {
    public static void main(String[] args) throws Exception {
        var url = new java.net.URL("http://169.254.169.254/latest/dynamic/instance-identity/document");
        url.openConnection().getInputStream().readAllBytes();
    }
}
"#;

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    block_on(demo(args))?
}

async fn demo(args: &Args) -> anyhow::Result<ExitCode> {
    let interrupted = stop(None)?;
    let knowledge = Rc::new(Knowledge::builtin());
    let mut monitor = Monitor::start(Options::default(), Path::new("/"), Rc::clone(&knowledge))?;
    let simulator = ImdsSimulator::start(ImdsConfig {
        http_tokens: args.http_tokens,
        token_requests: if args.hop_limit == 1 {
            TokenRequestMode::HopLimit
        } else {
            TokenRequestMode::Issue
        },
        ..ImdsConfig::default()
    })?;
    let scratch = Scratch::new().context("cannot create a temporary directory")?;
    let clients = clients(&simulator, &scratch)?;
    announce(&clients)?;
    let netns = simulator.netns();
    let mut output = Demo {
        netns,
        output: Output::new(args.format, Instance::default(), knowledge)?,
    };
    let (done, all_done) = tokio::sync::oneshot::channel();
    let enough = Arc::new(AtomicBool::new(false));
    let runner = thread::Builder::new().name("demo-clients".into()).spawn({
        let enough = Arc::clone(&enough);
        move || {
            for client in clients {
                client.run(&simulator, &enough);
            }
            // The receiver is dropped if the demo was interrupted.
            let _ = done.send(());
        }
    })?;
    let stop = async {
        tokio::select! {
            () = interrupted => {}
            _ = all_done => tokio::time::sleep(DRAIN_DELAY).await,
        }
    };
    let ran = monitor.run(stop, &mut output).await;
    enough.store(true, Ordering::Relaxed);
    if runner.join().is_err() {
        tracing::warn!("the demo's clients ended early");
    }
    ran?;
    output.output.finish(monitor.pipeline())?;
    Ok(ExitCode::SUCCESS)
}

/// A client that this machine has.
struct Client {
    name: &'static str,
    command: Command,
}

/// The built-in clients, and those that are installed.
fn clients(simulator: &ImdsSimulator, scratch: &Scratch) -> io::Result<Vec<Client>> {
    let mut clients = Vec::new();
    let mut add = |name, program: &str, args: &[&str]| {
        if program.starts_with('/') || is_installed(program) {
            let mut command = Command::new(program);
            command
                .arg0(if program.starts_with('/') {
                    "imdsmon"
                } else {
                    program
                })
                .args(args);
            clients.push(Client { name, command });
        }
    };
    // The link, not the path: this binary may have been replaced since it started.
    let own = "/proc/self/exe";
    add(
        "built in, IMDSv1",
        own,
        &["sandbox-client", "/latest/meta-data/placement/region"],
    );
    add("built in, IMDSv2", own, &["sandbox-client", "--token"]);
    if simulator.has_ipv6() {
        add(
            "built in, IMDSv2 over IPv6",
            own,
            &["sandbox-client", "--token", "--ipv6"],
        );
    }
    add(
        "curl, IMDSv1",
        "curl",
        &["-s", "-m", "2", &format!("{GET}instance-id")],
    );
    if is_installed("curl") {
        for (name, file, text) in [
            ("a script with a token", "with-token.sh", WITH_TOKEN),
            (
                "a script with an empty token",
                "empty-token.sh",
                EMPTY_TOKEN,
            ),
            (
                "a script that probes for another cloud",
                "which-cloud.sh",
                PROBE,
            ),
        ] {
            let script = scratch.0.join(file);
            fs::write(&script, text)?;
            add(name, "sh", &[&script.to_string_lossy()]);
        }
    }
    add(
        "wget",
        "wget",
        &["-q", "-O-", "-T", "2", "-t", "1", &format!("{GET}hostname")],
    );
    if is_installed("python3") {
        let script = scratch.0.join("settings.py");
        fs::write(&script, PYTHON)?;
        add("python3 urllib", "python3", &[&script.to_string_lossy()]);
    }
    if is_installed("java") {
        let source = scratch.0.join("Imds.java");
        fs::write(&source, JAVA)?;
        add(
            "java HttpURLConnection",
            "java",
            &["-Xshare:auto", &source.to_string_lossy()],
        );
    }
    Ok(clients)
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn announce(clients: &[Client]) -> io::Result<()> {
    let names: Vec<_> = clients.iter().map(|client| client.name).collect();
    writeln!(
        anstream::stderr(),
        "imdsmon demo: a private network with a simulated metadata service; clients: {}.",
        names.join("; ")
    )
}

impl Client {
    fn run(mut self, simulator: &ImdsSimulator, enough: &AtomicBool) {
        if enough.load(Ordering::Relaxed) {
            return;
        }
        let command = simulator.enter(&mut self.command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // A process group, to kill the children of a shell, too.
        command.process_group(0);
        let until = Instant::now() + CLIENT_TIMEOUT;
        match command.spawn() {
            Ok(mut child) => wait(&mut child, until, enough),
            Err(error) => tracing::warn!(%error, client = self.name, "cannot start client"),
        }
    }
}

fn wait(child: &mut Child, until: Instant, enough: &AtomicBool) {
    while let Ok(None) = child.try_wait() {
        if Instant::now() > until || enough.load(Ordering::Relaxed) {
            if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            // The child was killed; only its zombie is left to collect.
            let _ = child.wait();
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Shows only calls inside the simulator, not other IMDS calls of this host.
struct Demo {
    netns: u32,
    output: Output,
}

impl Sink for Demo {
    fn accept(&mut self, attributed: &AttributedEvent) -> io::Result<()> {
        let place = attributed
            .caller
            .process
            .as_ref()
            .and_then(|process| process.netns);
        if place.is_none_or(|place| place == self.netns) {
            self.output.accept(attributed)
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// A directory that is removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("imdsmon-demo-{}", std::process::id()));
        // Fails if the directory exists: another user may own it.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // On failure, the system cleans up temporary directories.
        let _ = fs::remove_dir_all(&self.0);
    }
}
