//! Checks of the Prometheus rules and the Grafana dashboard with promtool.

use super::Release;
use crate::process::{self, QUERY_TIMEOUT};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::fs;

/// Checks and tests the rules, and parses every query of the dashboard.
pub fn check(release: &Release) -> Result<()> {
    let promtool = |words: &[&str]| {
        let mut promtool = process::external("promtool");
        promtool
            .current_dir(release.root.join("packaging/prometheus"))
            .args(words);
        process::output(&mut promtool, QUERY_TIMEOUT)
    };
    promtool(&["check", "rules", "imdsmon.rules.yml"])?;
    promtool(&["test", "rules", "imdsmon.rules.test.yml"])?;

    let dashboard = release.source("packaging/grafana/imdsmon.json")?;
    let dashboard: Value = serde_json::from_slice(&dashboard).context("parse the dashboard")?;
    let mut queries = Vec::new();
    collect(&dashboard["panels"], &mut queries);
    ensure!(!queries.is_empty(), "the dashboard has no queries");
    let rules: Vec<Value> = queries
        .iter()
        .enumerate()
        .map(|(index, query)| json!({ "record": format!("query:{index}"), "expr": substituted(query) }))
        .collect();
    // promtool parses queries only in rules. JSON is valid YAML.
    let file = tempfile::Builder::new()
        .suffix(".yml")
        .tempfile()
        .context("create a temporary file")?;
    let text = json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string();
    fs::write(file.path(), text).context("write the queries")?;
    let path = file.path().to_string_lossy();
    promtool(&["check", "rules", &path]).map(drop)
}

fn collect<'v>(value: &'v Value, queries: &mut Vec<&'v str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, queries)),
        Value::Object(fields) => {
            if let Some(query) = fields.get("expr").and_then(Value::as_str) {
                queries.push(query);
            }
            fields.values().for_each(|field| collect(field, queries));
        }
        _ => {}
    }
}

/// Replaces Grafana's variables as Grafana does.
fn substituted(query: &str) -> String {
    query
        .replace("$__rate_interval", "5m")
        .replace("$__range", "1d")
        .replace("$instance", ".*")
}
