//! Real SDKs, old and new, and what the report says of them.
//!
//! `cargo xtask test` installs them; what it could not install is skipped with a word. The
//! programs that use them are in `tests/clients`.

#![expect(clippy::print_stderr, clippy::unwrap_used, reason = "these are tests")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use imdsmon::sandbox::{HttpTokens, ImdsConfig, TokenRequestMode};
use tests::{Recorded, sdk, verdict::Calls};

const URL: &str = "http://169.254.169.254/latest/meta-data/instance-id";

/// What raises the hop limit.
const HOP_LIMIT: &str = "--http-put-response-hop-limit 2";

/// An SDK, and the program of `tests/clients` that uses it.
struct Client {
    interpreter: &'static str,
    script: &'static str,
    /// Where the interpreter finds the SDK, if it must be told.
    library: Option<(&'static str, PathBuf)>,
}

impl Client {
    /// These are `None` where the SDK is not installed; a message says so.
    fn botocore(name: &str) -> Option<Self> {
        Self::python(name, "botocore_credentials.py")
    }

    fn python(name: &str, script: &'static str) -> Option<Self> {
        Some(Self {
            interpreter: "python3",
            script,
            library: Some(("PYTHONPATH", sdk(name)?)),
        })
    }

    fn node(name: &str, script: &'static str) -> Option<Self> {
        Some(Self {
            interpreter: "node",
            script,
            library: Some(("NODE_PATH", sdk(name)?.join("node_modules"))),
        })
    }

    fn ruby() -> Option<Self> {
        let mut load = Command::new("ruby");
        load.args(["-e", "require 'aws-sdk-core'"]);
        if load.output().is_ok_and(|output| output.status.success()) {
            return Some(Self {
                interpreter: "ruby",
                script: "aws_sdk_ruby_3.rb",
                library: None,
            });
        }
        eprintln!("SKIPPED: the AWS SDK for Ruby is not installed");
        None
    }

    /// Runs it to its end, which must be a good one if `succeeds`, on such an instance.
    fn run(&self, config: ImdsConfig, args: &[&str], succeeds: bool) -> Option<(Calls, Recorded)> {
        let mut played = Recorded::begin(config, &[self.interpreter])?;
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
        let mut command = played.scene.command(self.interpreter);
        command
            .arg(played.copy(&scripts.join(self.script)))
            .args(args)
            .envs(self.library.clone())
            // What the host has set must not change how an SDK looks for credentials.
            .env_remove("AWS_EC2_METADATA_DISABLED")
            .env_remove("AWS_EC2_METADATA_V1_DISABLED")
            .env_remove("AWS_PROFILE")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("HOME", played.directory());
        played.run(&mut command, succeeds);
        Some((played.calls(), played))
    }

    /// The same, and it must get its data.
    fn on(&self, config: ImdsConfig) -> Option<(Calls, Recorded)> {
        self.run(config, &[], true)
    }
}

fn calls(calls: &[(&str, u64)]) -> Calls {
    let call = |&(version, status): &(&str, u64)| (version.to_owned(), Some(status));
    calls.iter().map(call).collect()
}

/// Token requests that all ended with this status, then calls without a token that were answered.
fn assert_fell_back(calls: &Calls, status: Option<u64>) {
    let puts = calls.iter().take_while(|call| call.0 == "token").count();
    assert!(puts > 0, "no token request first: {calls:?}");
    assert!(calls[..puts].iter().all(|put| put.1 == status), "{calls:?}");
    let rest: Vec<_> = calls[puts..].iter().filter(|call| call.0 == "v1").collect();
    assert!(!rest.is_empty(), "no call without a token: {calls:?}");
    assert!(rest.iter().all(|call| call.1 == Some(200)), "{calls:?}");
}

fn required() -> ImdsConfig {
    ImdsConfig {
        http_tokens: HttpTokens::Required,
        ..ImdsConfig::default()
    }
}

fn hop_limit_1() -> ImdsConfig {
    ImdsConfig {
        token_requests: TokenRequestMode::HopLimit,
        ..ImdsConfig::default()
    }
}

const CREDENTIALS_V1: &[(&str, u64)] = &[("v1", 200), ("v1", 200)];
const CREDENTIALS_V2: &[(&str, u64)] = &[("token", 200), ("v2", 200), ("v2", 200)];

/// An SDK from before its first version with tokens.
fn is_too_old(client: Option<Client>, minimum: &str) {
    let Some((seen, played)) = client.and_then(|client| client.on(ImdsConfig::default())) else {
        return;
    };
    assert_eq!(seen, calls(CREDENTIALS_V1));
    played
        .verdict()
        .is("breaks")
        .needs_action(true)
        .remedy_names(minimum)
        .remedy_has_command(HOP_LIMIT, false);
}

#[test]
fn old_botocore_breaks() {
    is_too_old(Client::botocore("botocore-old"), "1.13.25");
}

#[test]
fn old_sdk_for_javascript_breaks() {
    is_too_old(
        Client::node("aws-sdk-js-2-old", "aws_sdk_js_2.js"),
        "2.722.0",
    );
}

/// A current SDK, before and after IMDSv2 is required.
fn is_ready(client: Option<Client>) {
    let Some(client) = client else { return };
    for config in [ImdsConfig::default(), required()] {
        let Some((seen, played)) = client.on(config) else {
            return;
        };
        assert_eq!(seen, calls(CREDENTIALS_V2));
        played.verdict().is("ready").needs_action(false);
    }
}

#[test]
fn current_botocore_is_ready() {
    is_ready(Client::botocore("botocore-new"));
}

#[test]
fn newest_sdk_2_for_javascript_is_ready() {
    is_ready(Client::node("aws-sdk-js-2-new", "aws_sdk_js_2.js"));
}

#[test]
fn current_sdk_for_javascript_is_ready() {
    is_ready(Client::node("aws-sdk-js-3", "aws_sdk_js_3.js"));
}

#[test]
fn current_sdk_for_ruby_is_ready() {
    is_ready(Client::ruby());
}

/// A current SDK in a container behind a bridge: the token never gets there.
fn falls_back(client: Option<Client>) {
    let Some((seen, played)) = client.and_then(|client| client.on(hop_limit_1())) else {
        return;
    };
    assert_fell_back(&seen, None);
    played
        .verdict()
        .is("falls-back")
        .needs_action(true)
        .remedy_has_command(HOP_LIMIT, true);
}

#[test]
fn current_botocore_behind_hop_limit_1_falls_back() {
    falls_back(Client::botocore("botocore-new"));
}

#[test]
fn newest_sdk_2_for_javascript_behind_hop_limit_1_falls_back() {
    falls_back(Client::node("aws-sdk-js-2-new", "aws_sdk_js_2.js"));
}

#[test]
fn current_sdk_for_javascript_behind_hop_limit_1_falls_back() {
    falls_back(Client::node("aws-sdk-js-3", "aws_sdk_js_3.js"));
}

#[test]
fn current_sdk_for_ruby_behind_hop_limit_1_falls_back() {
    falls_back(Client::ruby());
}

#[test]
fn what_is_refused_its_token_is_not_told_to_raise_the_hop_limit() {
    let config = ImdsConfig {
        token_requests: TokenRequestMode::Forbidden,
        ..ImdsConfig::default()
    };
    let client = Client::botocore("botocore-new");
    let Some((seen, played)) = client.and_then(|client| client.on(config)) else {
        return;
    };
    assert_fell_back(&seen, Some(403));
    played
        .verdict()
        .is("falls-back")
        .needs_action(true)
        .remedy_has_command(HOP_LIMIT, false);
}

#[test]
fn old_sdk_where_imdsv2_is_required_is_rejected() {
    let client = Client::botocore("botocore-old");
    let Some((seen, played)) = client.and_then(|client| client.run(required(), &[], false)) else {
        return;
    };
    assert_eq!(seen, calls(&[("v1", 401)]));
    played
        .verdict()
        .is("rejected")
        .needs_action(true)
        .remedy_names("1.13.25");
}

#[test]
fn one_sdk_with_two_ways_of_calling_is_mixed() {
    let client = Client::node("aws-sdk-js-2-new", "aws_sdk_js_2.js");
    let Some((seen, played)) =
        client.and_then(|client| client.run(ImdsConfig::default(), &["metadata"], true))
    else {
        return;
    };
    assert_eq!(seen, calls(&[CREDENTIALS_V2, &[("v1", 200)]].concat()));
    played.verdict().is("mixed").needs_action(true);
}

#[test]
fn salt_takes_a_token_once_it_is_refused_and_survives() {
    let client = Client::python("salt", "salt_grains.py");
    let Some((seen, played)) = client.and_then(|client| client.on(required())) else {
        return;
    };
    assert_eq!(
        seen[..3],
        calls(&[("v1", 401), ("token", 200), ("v2", 200)])
    );
    assert!(seen[3..].iter().all(|call| call.0 == "v2"), "{seen:?}");
    played.verdict().is("survives").needs_action(false);
}

/// What curl, called so on such an instance, does, and the verdict.
fn curl(config: ImdsConfig, args: &[&str]) -> Option<(Calls, Recorded)> {
    let mut played = Recorded::begin(config, &["curl"])?;
    let path = std::env::var_os("PATH").unwrap();
    let mut places = std::env::split_paths(&path).map(|directory| directory.join("curl"));
    let curl = played.copy(&places.find(|place| place.is_file()).unwrap());
    // An answer is a good end, whatever its status.
    played.run(played.scene.command(curl).arg("-s").args(args), true);
    Some((played.calls(), played))
}

#[test]
fn a_token_that_is_empty_unnoticed() {
    // What a script does whose `TOKEN=$(curl -X PUT ...)` failed.
    let header = "X-aws-ec2-metadata-token: ";
    let Some((seen, played)) = curl(ImdsConfig::default(), &["-H", header, URL]) else {
        return;
    };
    assert_eq!(seen, calls(&[("v1", 200)]));
    played.verdict().is("empty-token").needs_action(true);
}

#[test]
fn looking_for_another_cloud_is_a_probe() {
    let url = "http://169.254.169.254/computeMetadata/v1/instance/zone";
    let args = ["-H", "Metadata-Flavor: Google", url];
    let Some((seen, played)) = curl(ImdsConfig::default(), &args) else {
        return;
    };
    assert_eq!(seen, calls(&[("v1", 404)]));
    played.verdict().is("probe").needs_action(false);
}

#[test]
fn an_answer_of_something_else_is_not_imds() {
    let config = ImdsConfig {
        server: "nginx".to_owned(),
        ..ImdsConfig::default()
    };
    let Some((seen, played)) = curl(config, &[URL]) else {
        return;
    };
    assert_eq!(seen, calls(&[("v1", 200)]));
    played.verdict().is("not-imds");
}

#[test]
fn imdsv1_call_where_imdsv2_is_required_is_rejected() {
    let Some((seen, played)) = curl(required(), &[URL]) else {
        return;
    };
    assert_eq!(seen, calls(&[("v1", 401)]));
    played.verdict().is("rejected").needs_action(true);
}

#[test]
fn imdsv1_call_that_is_served_breaks() {
    let Some((seen, played)) = curl(ImdsConfig::default(), &[URL]) else {
        return;
    };
    assert_eq!(seen, calls(&[("v1", 200)]));
    played.verdict().is("breaks").needs_action(true);
}
