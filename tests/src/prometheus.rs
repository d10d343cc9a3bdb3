//! A real Prometheus that scrapes a service, and what stands in its pages and questions.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::{service::eventually, watch};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running Prometheus with a directory of its own; ended when dropped.
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    place: tempfile::TempDir,
}

impl Prometheus {
    /// Starts one that asks `target` every second, as the job `imdsmon`, and evaluates `rules` as
    /// often. Waits until it is ready.
    ///
    /// # Panics
    ///
    /// If it does not get there, or `promtool` has something to say about its configuration.
    #[must_use]
    pub fn start(target: SocketAddr, rules: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let config = place.path().join("prometheus.yml");
        fs::write(place.path().join("rules.yml"), rules).unwrap();
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [rules.yml]\n\
             scrape_configs: [{{ job_name: imdsmon, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
        );
        fs::write(&config, text).unwrap();
        let mut check = Command::new("promtool");
        let check = check.args(["check", "config"]).arg(&config);
        let output = check.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let address = free_address();
        let log = File::create(place.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                place.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut prometheus = Self {
            child,
            address,
            place,
        };
        eventually("Prometheus is ready", || {
            let ended = prometheus.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", prometheus.log());
            get(prometheus.address, "/-/ready").filter(|(status, _)| *status == 200)
        });
        prometheus
    }

    /// The data that its API has under this path.
    ///
    /// # Panics
    ///
    /// If it has none.
    #[must_use]
    pub fn api(&self, path: &str) -> Value {
        let (_, body) = get(self.address, &format!("/api/v1/{path}")).unwrap();
        let mut response: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(response["status"], "success", "{response}");
        response["data"].take()
    }

    /// The sum of what a question selects; `None` if that is nothing.
    ///
    /// # Panics
    ///
    /// If Prometheus does not understand it.
    #[must_use]
    pub fn sum(&self, question: &str) -> Option<f64> {
        let question = format!("sum({question})");
        let escaped: Vec<String> = question.bytes().map(|b| format!("%{b:02X}")).collect();
        let data = self.api(&format!("query?query={}", escaped.concat()));
        let value = data["result"].as_array().unwrap().first()?;
        Some(value["value"][1].as_str().unwrap().parse().unwrap())
    }

    /// Waits until a question has this answer.
    pub fn comes_to(&self, question: &str, expected: u32) {
        eventually(&format!("{question} is {expected}"), || {
            let off = self.sum(question)? - f64::from(expected);
            (off.abs() < 1e-6).then_some(())
        });
    }

    /// Labels and annotations of the alerts with this name that fire.
    ///
    /// # Panics
    ///
    /// If Prometheus does not answer.
    #[must_use]
    pub fn firing(&self, name: &str) -> Vec<Value> {
        let mut data = self.api("alerts");
        let alerts = data["alerts"].as_array_mut().unwrap();
        alerts.retain(|alert| alert["labels"]["alertname"] == name && alert["state"] == "firing");
        std::mem::take(alerts)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether Prometheus and `promtool` are installed; prints a message if not.
#[must_use]
pub fn is_installed() -> bool {
    let mut needed = ["prometheus", "promtool"].into_iter();
    let missing = needed.find(|program| !watch::is_installed(program));
    if let Some(program) = missing {
        eprintln!("SKIPPED: {program} is not installed: run the tests with `cargo xtask test`");
    }
    missing.is_none()
}

/// An address on loopback whose port was free a moment ago.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Status and body of what is under a path there; `None` without a response.
#[must_use]
pub fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    ask(&mut stream, path)?;
    response(&mut stream)
}

/// The first half of [`get`].
pub fn ask(stream: &mut TcpStream, path: &str) -> Option<()> {
    // In this version nothing comes in chunks, and the end is the end of the connection.
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()
}

/// The second half.
pub fn response(stream: &mut TcpStream) -> Option<(u16, String)> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// A metric of imdsmon and labels, as they stand in a page and in a question alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The name.
    pub metric: String,
    /// Labels, each with the values it may have. Those that only a regular expression tells, as
    /// Grafana's variables do, have none.
    pub labels: BTreeMap<String, Vec<String>>,
}

/// All selectors of a text, each with what follows it.
///
/// # Panics
///
/// If one of them breaks off.
#[must_use]
pub fn selectors(text: &str) -> Vec<(Selector, &str)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    text.match_indices("imdsmon_")
        .filter(|(at, _)| !text[..*at].ends_with(is_name))
        .map(|(at, _)| {
            let text = &text[at..];
            let (metric, rest) = text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()));
            let (labels, rest) = match rest.strip_prefix('{') {
                Some(rest) => matchers(rest),
                None => (BTreeMap::new(), rest),
            };
            let metric = metric.to_owned();
            (Selector { metric, labels }, rest)
        })
        .collect()
}

/// What stands between braces, behind the first of them; and what comes after the second.
fn matchers(mut rest: &str) -> (BTreeMap<String, Vec<String>>, &str) {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return (labels, after);
        }
        let (matcher, quoted) = rest.split_once('"').unwrap();
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => value.push(chars.next().unwrap().1),
                (_, c) => value.push(c),
            }
        };
        rest = &quoted[end + 1..];
        let label = matcher.trim_end_matches(['=', '~', '!', ' ']);
        let values = match value.contains(['$', '*', '+', '(']) && matcher.ends_with('~') {
            true => Vec::new(),
            false if matcher.ends_with('~') => value.split('|').map(str::to_owned).collect(),
            false => vec![value],
        };
        labels.insert(label.to_owned(), values);
    }
}
