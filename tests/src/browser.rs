//! Chromium without a window, driven over `WebDriver` (W3C) by chromedriver.
//!
//! Chromium makes network requests unless it cannot: run it inside an [`ImdsSimulator`](imdsmon::sandbox::ImdsSimulator).

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a single step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What keeps Chromium from doing anything of its own accord.
const QUIET: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    /// Open, so that it can say more.
    _said: BufReader<ChildStdout>,
    port: u16,
    session: String,
    profile: TempDir,
}

impl Browser {
    /// Starts it; `None`, and a word about it, if it is not installed.
    ///
    /// # Panics
    ///
    /// If it is installed and does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        let started = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut driver) = started else {
            eprintln!("SKIPPED: chromedriver is not installed");
            return None;
        };
        // First "Starting ChromeDriver ... on port 0", then "... successfully on port 40123."
        let mut said = BufReader::new(driver.stdout.take().unwrap());
        let port = said
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| {
                let (_, port) = line.rsplit_once(" on port ")?;
                port.trim_end_matches('.').parse().ok()
            })
            .find(|port| *port != 0)
            .expect("chromedriver says its port");
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self {
            driver,
            _said: said,
            port,
            session: String::new(),
            profile,
        };
        let mut args: Vec<String> = QUIET.iter().map(|&arg| arg.into()).collect();
        args.push(format!(
            "--user-data-dir={}",
            browser.profile.path().display()
        ));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "unhandledPromptBehavior": "ignore",
            "goog:chromeOptions": {"args": args},
            "goog:loggingPrefs": {"performance": "ALL"},
        }}});
        let session = browser.ask("POST", "/session", &wanted);
        session["sessionId"]
            .as_str()
            .unwrap()
            .clone_into(&mut browser.session);
        // The page that it begins with loads much that no test needs.
        browser.command("url", &json!({"url": "about:blank"}));
        drop(browser.requests());
        Some(browser)
    }

    /// Opens a file.
    ///
    /// # Panics
    ///
    /// If it cannot be opened.
    pub fn open(&self, file: &Path) {
        let url = format!("file://{}", file.display());
        self.command("url", &json!({"url": url}));
    }

    /// Runs the body of a function in the page, and gives what it returns.
    ///
    /// # Panics
    ///
    /// If it throws.
    #[must_use]
    pub fn run(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Every URL that was asked for since this was asked last, also where the policy forbade it.
    ///
    /// # Panics
    ///
    /// If Chromium does not tell.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let log = self.command("se/log", &json!({"type": "performance"}));
        let entries = log.as_array().unwrap().iter();
        let messages = entries.filter_map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &message["message"];
            (message["method"] == "Network.requestWillBeSent").then(|| {
                message["params"]["request"]["url"]
                    .as_str()
                    .map(str::to_owned)
            })?
        });
        messages.collect()
    }

    /// What size the page has from now on, and whether it is dark around it.
    ///
    /// # Panics
    ///
    /// If Chromium does not know how.
    pub fn emulate(&self, width: u32, height: u32, is_dark: bool) {
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}),
        );
        let scheme = if is_dark { "dark" } else { "light" };
        self.devtools(
            "Emulation.setEmulatedMedia",
            &json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
    }

    /// The page looks as on paper from now on.
    ///
    /// # Panics
    ///
    /// If Chromium does not know how.
    pub fn emulate_paper(&self) {
        self.devtools("Emulation.setEmulatedMedia", &json!({"media": "print"}));
    }

    /// A picture of what is seen, as PNG.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn screenshot(&self, file: &Path) {
        let picture = self.get("screenshot");
        let picture = BASE64.decode(picture.as_str().unwrap().as_bytes()).unwrap();
        fs::write(file, picture).unwrap();
    }

    fn devtools(&self, command: &str, params: &Value) {
        self.command(
            "goog/cdp/execute",
            &json!({"cmd": command, "params": params}),
        );
    }

    fn command(&self, command: &str, body: &Value) -> Value {
        self.ask(
            "POST",
            &format!("/session/{}/{command}", self.session),
            body,
        )
    }

    fn get(&self, what: &str) -> Value {
        self.ask(
            "GET",
            &format!("/session/{}/{what}", self.session),
            &Value::Null,
        )
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let response = self.response(method, path, body).unwrap();
        let value = &response["value"];
        assert!(value.get("error").is_none(), "{method} {path}: {value}");
        value.clone()
    }

    fn response(&self, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut response = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            if response.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        response.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session.
        if !self.session.is_empty() {
            drop(self.response(
                "DELETE",
                &format!("/session/{}", self.session),
                &Value::Null,
            ));
        }
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}
