//! What stands in `packaging` more than once is the same everywhere.

use std::collections::BTreeSet;

const UNIT: &str = include_str!("../../../packaging/systemd/imdsmon.service");
const DAEMONSET: &str = include_str!("../../../packaging/kubernetes/imdsmon.yaml");
const RULES: &str = include_str!("../../../packaging/prometheus/imdsmon.rules.yml");
const RULE_TESTS: &str = include_str!("../../../packaging/prometheus/imdsmon.rules.test.yml");
const DASHBOARD: &str = include_str!("../../../packaging/grafana/imdsmon.json");
/// Its table has every metric that imdsmon exports, and no other: a test beside them sees to it.
const METRICS: &str = include_str!("../../../docs/reference/metrics.md");

/// What systemd gives the service instead: a network of its own.
const ONLY_IN_KUBERNETES: &str = "CAP_SYS_ADMIN";

/// The capabilities that a setting of the unit lists.
fn of_unit(setting: &str) -> BTreeSet<String> {
    let line = UNIT
        .lines()
        .find_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    let line = line.unwrap_or_else(|| panic!("the unit has no {setting}"));
    line.split(' ').map(str::to_owned).collect()
}

/// The items of the list below the first line that is `heading`, without their comments.
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
fn the_service_has_the_same_capabilities_everywhere() {
    let bounding = of_unit("CapabilityBoundingSet");
    assert_eq!(bounding, of_unit("AmbientCapabilities"));
    let mut pod: BTreeSet<String> = items(DAEMONSET, "add:")
        .iter()
        .map(|name| format!("CAP_{name}"))
        .collect();
    assert!(pod.remove(ONLY_IN_KUBERNETES));
    assert_eq!(pod, bounding);
}

#[test]
fn every_mount_of_the_pod_has_its_volume() {
    let mounts = items(DAEMONSET, "volumeMounts:");
    assert_eq!(mounts, items(DAEMONSET, "volumes:"));
    assert!(mounts.contains(&"name: cgroup".to_owned()), "{mounts:?}");
}

#[test]
fn the_pod_runs_the_image_that_is_made_here() {
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
fn rules_and_panels_ask_for_metrics_that_there_are() {
    for (name, text) in [
        ("rules", RULES),
        ("tests of rules", RULE_TESTS),
        ("dashboard", DASHBOARD),
    ] {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let asked: BTreeSet<&str> = words.filter(|word| word.starts_with("imdsmon_")).collect();
        assert!(asked.len() > 5, "{name}: {asked:?}");
        for metric in asked {
            let row = format!("| `{metric}` |");
            assert!(METRICS.contains(&row), "{name}: {metric}");
        }
    }
}
