//! Consistency of the files in `packaging`.

use std::collections::BTreeSet;

const UNIT: &str = include_str!("../../../packaging/systemd/imdsmon.service");
const DAEMONSET: &str = include_str!("../../../packaging/kubernetes/imdsmon.yaml");
const RULES: &str = include_str!("../../../packaging/prometheus/imdsmon.rules.yml");
const RULE_TESTS: &str = include_str!("../../../packaging/prometheus/imdsmon.rules.test.yml");
const DASHBOARD: &str = include_str!("../../../packaging/grafana/imdsmon.json");
/// Lists exactly the exported metrics, as a test of the package imdsmon ensures.
const METRICS: &str = include_str!("../../../docs/reference/metrics.md");

/// Not needed under systemd, which provides a private network namespace.
const ONLY_IN_KUBERNETES: &str = "CAP_SYS_ADMIN";

/// The capabilities in a setting of the unit.
fn unit_capabilities(setting: &str) -> BTreeSet<String> {
    let line = UNIT
        .lines()
        .find_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    let line = line.unwrap_or_else(|| panic!("the unit has no {setting}"));
    line.split(' ').map(str::to_owned).collect()
}

/// The items of the YAML list below the first line `heading`, without comments.
fn items(text: &str, heading: &str) -> Vec<String> {
    let mut lines = text.lines().skip_while(|line| line.trim() != heading);
    let indent = |line: &str| line.len() - line.trim_start().len();
    let top = indent(lines.next().unwrap_or_else(|| panic!("no {heading}")));
    lines
        .take_while(|line| indent(line) > top)
        .filter_map(|line| line.trim().strip_prefix("- "))
        .map(|item| item.split(" #").next().unwrap_or(item).trim().to_owned())
        .collect()
}

#[test]
fn unit_and_pod_have_the_same_capabilities() {
    let bounding = unit_capabilities("CapabilityBoundingSet");
    assert_eq!(bounding, unit_capabilities("AmbientCapabilities"));
    let mut pod: BTreeSet<String> = items(DAEMONSET, "add:")
        .iter()
        .map(|name| format!("CAP_{name}"))
        .collect();
    assert!(pod.remove(ONLY_IN_KUBERNETES));
    assert_eq!(pod, bounding);
}

#[test]
fn every_mount_of_the_pod_has_a_volume() {
    let mounts = items(DAEMONSET, "volumeMounts:");
    assert_eq!(mounts, items(DAEMONSET, "volumes:"));
    assert!(mounts.contains(&"name: cgroup".to_owned()), "{mounts:?}");
}

#[test]
fn pod_runs_the_image_that_dist_makes() {
    let image = format!(
        "image: {}:{}",
        super::image::NAME,
        env!("CARGO_PKG_VERSION")
    );
    assert!(
        DAEMONSET.lines().any(|line| line.trim() == image),
        "{image}"
    );
}

#[test]
fn rules_and_dashboard_use_documented_metrics() {
    for (name, text) in [
        ("rules", RULES),
        ("tests of rules", RULE_TESTS),
        ("dashboard", DASHBOARD),
    ] {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let used: BTreeSet<&str> = words.filter(|word| word.starts_with("imdsmon_")).collect();
        assert!(used.len() > 5, "{name}: {used:?}");
        for metric in used {
            let row = format!("| `{metric}` |");
            assert!(METRICS.contains(&row), "{name}: {metric}");
        }
    }
}

#[test]
fn debian_copyright_has_the_text_of_the_licence() {
    let words = |text: &str| -> Vec<String> {
        let words = text.split_whitespace().filter(|&word| word != ".");
        words.map(str::to_owned).collect()
    };
    let licence = words(include_str!("../../../LICENSE-MIT"));
    let copyright = words(include_str!("../../../packaging/debian/copyright"));
    assert!(copyright.windows(licence.len()).any(|part| part == licence));
}
