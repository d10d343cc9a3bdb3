//! A real Prometheus scrapes the service, and the rules and the dashboard ask for what there is.

#![expect(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
};

use imdsmon::sandbox::{HttpTokens, ImdsConfig};
use serde_json::Value;
use tests::{
    prometheus::{Prometheus, ask, free_address, get, is_installed, response, selectors},
    service::{Service, eventually},
    stage::Stage,
};

const RULES: &str = include_str!("../../packaging/prometheus/imdsmon.rules.yml");
const DASHBOARD: &str = include_str!("../../packaging/grafana/imdsmon.json");
const DOCUMENTATION: &str = include_str!("../../docs/reference/metrics.md");

/// Labels that Prometheus adds itself.
const ADDED: [&str; 2] = ["instance", "job"];

/// The page for those who ask as people do.
fn page(address: SocketAddr) -> String {
    let (status, page) = eventually("there is a page", || get(address, "/metrics"));
    assert_eq!(status, 200, "{page}");
    page
}

/// The rules, but without their waiting times, which are minutes.
fn impatient_rules() -> String {
    let lines = RULES.lines().map(|line| {
        let (key, _) = line.split_at(line.find("for: ").map_or(0, |at| at + 5));
        if key.trim() == "for:" {
            format!("{key}0s\n")
        } else {
            format!("{line}\n")
        }
    });
    let rules: String = lines.collect();
    assert!(rules.matches("for: 0s\n").count() > 3, "{rules}");
    rules
}

#[test]
fn a_real_prometheus_counts_what_was_called_and_its_alerts_fire() {
    if !is_installed() {
        return;
    }
    let required = ImdsConfig {
        http_tokens: HttpTokens::Required,
        ..ImdsConfig::default()
    };
    let (Some(scraped), Some(holder), Some(refused)) = (
        Stage::new("scraped"),
        Stage::new("holder"),
        Stage::at("refused", required),
    ) else {
        return;
    };
    let target = free_address();
    let listen = target.to_string();
    let service = Service::start(scraped.place(), &["--canary", "1h", "--metrics", &listen]);
    let prometheus = Prometheus::start(target, &impatient_rules());
    prometheus.comes_to("up{job=\"imdsmon\"}", 1);

    let calls = |stage: &Stage, version: &str, outcome: &str, count: u32| {
        let program = stage.program();
        prometheus.comes_to(
            &format!(
                "imdsmon_calls_total{{client=~\".*{program}\",version=\"{version}\",outcome=\"{outcome}\"}}"
            ),
            count,
        );
    };
    // Twice: it takes two values of a counter to see a rate.
    for round in 1..=2 {
        scraped.call(20);
        refused.call(3);
        holder.call_as("v2", 5);
        calls(&scraped, "v1", "ok", 20 * round);
        calls(&refused, "v1", "unauthorized", 3 * round);
        calls(&holder, "v2", "ok", 5 * round);
        calls(&holder, "token", "ok", round);
    }
    let verdict = |stage: &Stage, verdict: &str| {
        let program = stage.program();
        format!("imdsmon_client_verdict{{client=~\".*{program}\",verdict=~\"{verdict}\"}}")
    };
    prometheus.comes_to(&verdict(&scraped, "breaks"), 1);
    prometheus.comes_to(&verdict(&refused, "rejected"), 1);
    assert_eq!(prometheus.sum(&verdict(&holder, ".*")), None);
    prometheus.comes_to("imdsmon_ready", 0);
    prometheus.comes_to("imdsmon_canary_success", 1);
    prometheus.comes_to("imdsmon_store_success", 1);

    // What the recording rules make of it; other tests may call at the same time.
    prometheus.comes_to(
        "imdsmon:instances:by_verdict{verdict=\"not-ready\"} == 1",
        1,
    );
    for (rule, least) in [
        ("imdsmon:tokenless_calls:rate5m", 0.0),
        ("imdsmon:tokenless_workloads:rate1h", 0.0),
        ("imdsmon:tokenless_workloads:instances", 0.5),
        ("imdsmon:token_share:ratio1h", 0.0),
    ] {
        eventually(rule, || prometheus.sum(rule).filter(|value| *value > least));
    }

    let alert = |name: &str, stage: &Stage| {
        eventually(&format!("{name} for {}", stage.program()), || {
            let alerts = prometheus.firing(name);
            let mut own = alerts.into_iter().filter(|alert| {
                let client = alert["labels"]["client"].as_str().unwrap();
                client.ends_with(stage.program())
            });
            own.next()
        })
    };
    let new = alert("ImdsmonNewTokenlessClient", &scraped);
    assert_eq!(new["labels"]["instance"], target.to_string(), "{new}");
    let summary = new["annotations"]["summary"].as_str().unwrap();
    let said = format!("scraped on {target} makes IMDSv1 calls");
    assert!(summary.ends_with(&said), "{summary}");
    alert("ImdsmonTokenlessRejected", &refused);
    let news = prometheus.firing("ImdsmonNewTokenlessClient");
    let is_of = |stage: &Stage| {
        let mut clients = news
            .iter()
            .map(|alert| alert["labels"]["client"].as_str().unwrap());
        clients.any(|client| client.ends_with(stage.program()))
    };
    assert!(!is_of(&holder) && !is_of(&refused), "{news:#?}");
    for silent in [
        "ImdsmonFleetReady",
        "ImdsmonNotReadyAgain",
        "ImdsmonCanaryOverdue",
        "ImdsmonDown",
    ] {
        let alerts = prometheus.firing(silent);
        assert!(alerts.is_empty(), "{alerts:#?}");
    }
    every_rule_is_evaluated(&prometheus);

    assert!(service.stop().success());
    prometheus.comes_to("up{job=\"imdsmon\"}", 0);
    eventually("the alert that it is gone", || {
        prometheus.firing("ImdsmonDown").pop()
    });
}

/// None of them failed.
fn every_rule_is_evaluated(prometheus: &Prometheus) {
    let data = prometheus.api("rules");
    let groups = data["groups"].as_array().unwrap();
    let rules: Vec<&Value> = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    let there_are = RULES.matches("- record: ").count() + RULES.matches("- alert: ").count();
    assert_eq!(rules.len(), there_are);
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule:#}");
    }
}

#[test]
fn promtool_has_nothing_to_say() {
    if !is_installed() {
        return;
    }
    let promtool = |words: &[&str], input: &str| {
        let packaging = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/prometheus");
        let mut child = Command::new("promtool")
            .args(words)
            .current_dir(PathBuf::from(packaging))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        output
    };
    promtool(&["check", "rules", "--lint=all", "imdsmon.rules.yml"], "");
    promtool(&["test", "rules", "imdsmon.rules.test.yml"], "");
    let Some(stage) = Stage::new("linted") else {
        return;
    };
    let target = free_address();
    let listen = target.to_string();
    let service = Service::start(stage.place(), &["--canary", "1h", "--metrics", &listen]);
    stage.call(3);
    stage.has(3);
    let output = promtool(&["check", "metrics"], &page(target));
    assert!(output.stderr.is_empty(), "{output:?}");
    assert!(service.stop().success());
}

/// Names of metrics, each with its labels and their values.
type Known = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What a live service exports, once it knows everything.
fn exported(stage: &Stage) -> Known {
    let target = free_address();
    let listen = target.to_string();
    let service = Service::start(stage.place(), &["--canary", "1h", "--metrics", &listen]);
    stage.call(3);
    stage.call_as("v2", 3);
    let page = eventually("the page has it all", || {
        let page = page(target);
        let is_full = [
            "_canary_success{} 1",
            "_store_success{} 1",
            "version=\"v2\"",
        ]
        .iter()
        .all(|part| page.contains(part));
        is_full.then_some(page)
    });
    assert!(service.stop().success());
    let mut known = Known::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        // Labels may have anything in them: only what the line begins with is a metric.
        let (selector, rest) = selectors(line).swap_remove(0);
        rest.trim().parse::<f64>().unwrap();
        let labels = known.entry(selector.metric).or_default();
        for (label, values) in selector.labels {
            labels.entry(label).or_default().extend(values);
        }
    }
    known
}

#[test]
fn documentation_rules_and_dashboard_name_exported_metrics() {
    let Some(stage) = Stage::new("named") else {
        return;
    };
    let known = exported(&stage);
    // | `name` | `label`, `label` | meaning |
    let rows = DOCUMENTATION
        .lines()
        .filter_map(|line| line.strip_prefix("| `imdsmon_"));
    let documented: BTreeMap<String, BTreeSet<String>> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').collect();
            let labels = cells[1].split('`').skip(1).step_by(2).map(str::to_owned);
            let name = cells[0].trim_matches(['`', ' ']);
            (format!("imdsmon_{name}"), labels.collect())
        })
        .collect();
    let live = known
        .iter()
        .map(|(name, labels)| (name.clone(), labels.keys().cloned().collect()));
    assert_eq!(documented, live.collect());

    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut texts = Vec::new();
    collect(&dashboard, &mut texts);
    let dashboard = texts.join("\n");
    for (name, text) in [("rules", RULES), ("dashboard", &dashboard)] {
        let asked = selectors(text);
        assert!(asked.len() > 8, "{name}: {asked:?}");
        for (selector, _) in asked {
            is_exported(&known, &selector.metric, &selector.labels);
        }
        let of_metrics: BTreeSet<&str> = known
            .values()
            .flat_map(|labels| labels.keys().map(String::as_str))
            .chain(ADDED)
            .collect();
        let grouped = grouped(text);
        assert!(grouped.len() > 3, "{name}: {grouped:?}");
        assert!(grouped.is_subset(&of_metrics), "{name}: {grouped:?}");
    }
}

fn is_exported(known: &Known, metric: &str, asked: &BTreeMap<String, Vec<String>>) {
    let labels = known
        .get(metric)
        .unwrap_or_else(|| panic!("{metric} is not exported"));
    for (label, values) in asked {
        if ADDED.contains(&label.as_str()) {
            continue;
        }
        let there = labels
            .get(label)
            .unwrap_or_else(|| panic!("{metric} has no {label}"));
        // A set of states has all of them; of the rest a page has what was called.
        if there.contains("ready") {
            for value in values {
                assert!(there.contains(value), "{metric} is never {label}={value}");
            }
        }
    }
}

/// Labels by which questions group and join, and those that texts for people name.
fn grouped(text: &str) -> BTreeSet<&str> {
    let lists = ["by (", "on (", "group_left ("].into_iter().flat_map(|by| {
        text.split(by)
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
    });
    let lists = lists.flat_map(|(list, _)| list.split(',').map(str::trim));
    let named = text.split("$labels.").skip(1);
    let named = named.filter_map(|rest| rest.split([' ', '}']).next());
    lists.chain(named).collect()
}

/// Every text below `value`.
fn collect<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, texts)),
        _ => {}
    }
}

#[test]
fn socket_that_systemd_opened_is_served_all_the_time() {
    let Some(stage) = Stage::new("activated") else {
        return;
    };
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // Who comes before the service waits for it.
    let mut early = TcpStream::connect(address).unwrap();
    ask(&mut early, "/metrics").unwrap();
    let mut service = Service::activate(stage.place(), &["--canary", "off"], socket);
    let (status, early) = response(&mut early).unwrap();
    assert!(
        status == 200 && early.contains("\nimdsmon_ready 0"),
        "{early}"
    );
    stage.call(4);
    eventually("the calls are on the page", || {
        let page = page(address);
        let calls = selectors(&page)
            .into_iter()
            .filter(|(selector, _)| {
                let client = selector.labels.get("client");
                let is_own = client.is_some_and(|c| c[0].ends_with(stage.program()));
                selector.metric == "imdsmon_calls_total" && is_own
            })
            .filter_map(|(_, rest)| rest.lines().next()?.trim().parse::<u64>().ok());
        (calls.sum::<u64>() == 4).then_some(())
    });
    service.reload();
    eventually("systemd is notified of the reload", || {
        let told = service.told();
        let at = told.iter().position(|s| s.starts_with("RELOADING"))?;
        told[at..].iter().any(|s| s == "READY=1").then_some(())
    });
    assert!(page(address).contains("\nimdsmon_ready 0"));
    assert!(service.stop().success());
    assert_eq!(get(address, "/metrics"), None);
}
