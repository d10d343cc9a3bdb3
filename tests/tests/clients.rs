//! Real programs: what they send is not ours to choose.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "these are tests")]

use std::process::{Command, Stdio};

use imdsmon::sandbox::{HttpTokens, ImdsConfig, TokenRequestMode};
use serde_json::Value;
use tests::{Scene, skipped, watch::is_installed};

const URL: &str = "http://169.254.169.254/latest/meta-data/instance-id";

/// Runs a program on the stage and gives the calls that came out, with the pid it had.
fn calls_of(config: ImdsConfig, program: &str, args: &[&str]) -> Option<(u32, Vec<Value>)> {
    if skipped() {
        return None;
    }
    if !is_installed(program) {
        eprintln!("SKIPPED: {program} is not installed");
        return None;
    }
    let mut scene = Scene::new(config);
    let mut command: Command = scene.command(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    Some((pid, scene.finish()))
}

fn versions(calls: &[Value]) -> Vec<&str> {
    calls
        .iter()
        .map(|call| call["imds.version"].as_str().unwrap_or("-"))
        .collect()
}

#[test]
fn curl_without_a_token() {
    let Some((pid, calls)) = calls_of(ImdsConfig::default(), "curl", &["-s", URL]) else {
        return;
    };
    assert_eq!(versions(&calls), ["v1"]);
    assert_eq!(calls[0]["process.pid"], pid);
    assert_eq!(calls[0]["process.executable.name"], "curl");
    assert_eq!(
        calls[0]["process.command_args"],
        serde_json::json!(["curl", "-s", URL])
    );
    assert_eq!(calls[0]["http.response.status_code"], 200);
    assert_eq!(calls[0]["imds.server"], "EC2ws");
    assert!(
        calls[0]["user_agent.original"]
            .as_str()
            .unwrap()
            .starts_with("curl/")
    );
    assert!(calls[0]["imds.latency_us"].as_u64().unwrap() < 5_000_000);
}

#[test]
fn curl_with_a_token_that_is_never_shown() {
    let script = r#"
        TOKEN=$(curl -s -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" http://169.254.169.254/latest/api/token)
        curl -s -H "X-aws-ec2-metadata-token: $TOKEN" http://169.254.169.254/latest/user-data"#;
    let Some((shell, calls)) = calls_of(ImdsConfig::default(), "sh", &["-c", script]) else {
        return;
    };
    assert_eq!(versions(&calls), ["token", "v2"]);
    assert_eq!(calls[1]["imds.token"], "present");
    assert_eq!(calls[1]["process.ancestors"][0]["pid"], shell);
    assert!(!calls[1].to_string().contains("AQAE"), "{}", calls[1]);
}

#[test]
fn curl_with_an_empty_token_sends_none() {
    let args = ["-s", "-H", "X-aws-ec2-metadata-token: ", URL];
    let Some((_, calls)) = calls_of(ImdsConfig::default(), "curl", &args) else {
        return;
    };
    assert_eq!(versions(&calls), ["v1"]);
    let args = calls[0]["process.command_args"].to_string();
    assert!(args.contains("X-aws-ec2-metadata-token"), "{args}");
}

#[test]
fn curl_head_and_http2_upgrade() {
    let Some((_, calls)) = calls_of(ImdsConfig::default(), "curl", &["-s", "-I", URL]) else {
        return;
    };
    assert_eq!(versions(&calls), ["v1"]);
    assert_eq!(calls[0]["http.request.method"], "HEAD");
    let Some((_, calls)) = calls_of(ImdsConfig::default(), "curl", &["-s", "--http2", URL]) else {
        return;
    };
    assert_eq!(versions(&calls), ["v1"]);
}

#[test]
fn curl_by_ipv6() {
    let url = "http://[fd00:ec2::254]/latest/meta-data/instance-id";
    let Some((_, calls)) = calls_of(ImdsConfig::default(), "curl", &["-s", "-g", url]) else {
        return;
    };
    assert_eq!(versions(&calls), ["v1"]);
    assert_eq!(calls[0]["server.address"], "fd00:ec2::254");
}

#[test]
fn curl_behind_a_hop_limit_gives_up_on_the_token() {
    let script = r#"
        TOKEN=$(curl -s -m 0.3 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" http://169.254.169.254/latest/api/token)
        curl -s -H "X-aws-ec2-metadata-token: $TOKEN" http://169.254.169.254/latest/user-data"#;
    let config = ImdsConfig {
        token_requests: TokenRequestMode::HopLimit,
        ..ImdsConfig::default()
    };
    let Some((_, calls)) = calls_of(config, "sh", &["-c", script]) else {
        return;
    };
    assert_eq!(versions(&calls), ["token", "v1"]);
    assert_eq!(calls[0]["imds.outcome"], "no-answer");
}

#[test]
fn wget_with_an_empty_token_header() {
    let args = ["-q", "-O-", "--header=X-aws-ec2-metadata-token: ", URL];
    let Some((pid, calls)) = calls_of(ImdsConfig::default(), "wget", &args) else {
        return;
    };
    assert_eq!(versions(&calls), ["v2"]);
    assert_eq!(calls[0]["imds.token"], "empty");
    assert_eq!(calls[0]["http.response.status_code"], 401);
    assert_eq!(calls[0]["process.pid"], pid);
}

#[test]
fn python_urllib() {
    let script = format!("import urllib.request as u; u.urlopen('{URL}').read()");
    let Some((_, calls)) = calls_of(ImdsConfig::default(), "python3", &["-c", &script]) else {
        return;
    };
    assert_eq!(versions(&calls), ["v1"]);
    let agent = calls[0]["user_agent.original"].as_str().unwrap();
    assert!(agent.starts_with("Python-urllib/"), "{agent}");
    let name = calls[0]["process.executable.name"].as_str().unwrap();
    assert!(name.starts_with("python3"), "{name}");
}

#[test]
fn bash_writes_a_request_in_three_pieces() {
    let script = r"exec 3<>/dev/tcp/169.254.169.254/80
        printf 'GET /latest/meta-data/instance-id HTTP/1.0\r\n' >&3
        printf 'Host: 169.254.169.254\r\n' >&3
        printf '\r\n' >&3
        cat <&3";
    let Some((pid, calls)) = calls_of(ImdsConfig::default(), "bash", &["-c", script]) else {
        return;
    };
    assert_eq!(versions(&calls), ["v1"]);
    assert_eq!(calls[0]["network.protocol.version"], "1.0");
    assert_eq!(calls[0]["imds.connector.pid"], Value::Null);
    assert_eq!(calls[0]["process.pid"], pid);
}

#[test]
fn java_through_a_mapped_ipv6_socket() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("Imds.java");
    let text = format!(
        r#"public class Imds {{ public static void main(String[] a) throws Exception {{
            new java.net.URL("{URL}").openConnection().getInputStream().readAllBytes(); }} }}"#
    );
    std::fs::write(&source, text).unwrap();
    let args = [source.to_str().unwrap()];
    let Some((pid, calls)) = calls_of(ImdsConfig::default(), "java", &args) else {
        return;
    };
    assert_eq!(versions(&calls), ["v1"]);
    assert_eq!(calls[0]["process.pid"], pid);
    assert_eq!(calls[0]["server.address"], "169.254.169.254");
}

#[test]
fn imdsv1_clients_are_rejected_where_imdsv2_is_required() {
    let config = ImdsConfig {
        http_tokens: HttpTokens::Required,
        ..ImdsConfig::default()
    };
    let Some((_, calls)) = calls_of(config, "curl", &["-s", URL]) else {
        return;
    };
    assert_eq!(versions(&calls), ["v1"]);
    assert_eq!(calls[0]["http.response.status_code"], 401);
}
