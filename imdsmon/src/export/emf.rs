//! The `TokenlessCalls` metric for CloudWatch: lines in the embedded metric format, which the
//! CloudWatch agent turns into metrics.
//!
//! Sources: "Specification: Embedded metric format" in the CloudWatch user guide, and `Dimension`
//! in the API reference. A line has at most 100 metrics, 30 dimensions and 1 MB.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    http::call::Auth,
    ledger::{ClientStats, OTHERS, ResponseClass},
    time::Timestamp,
};

/// Clients with their own line in a period; each is a billed metric.
const MAX_CLIENTS: usize = 100;
/// CloudWatch accepts 1024.
const MAX_DIMENSION_CHARS: usize = 255;

/// A namespace of CloudWatch metrics (`PutMetricData` in the API reference).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespace(String);

impl Default for Namespace {
    fn default() -> Self {
        Self("imdsmon".into())
    }
}

impl Namespace {
    /// 1 to 255 characters, and not reserved by AWS.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || ".-_/#:".contains(c);
        let is_valid = (1..=255).contains(&text.len())
            && text.chars().all(is_allowed)
            && !text.starts_with("AWS/")
            && !text.starts_with(':');
        is_valid.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// IMDSv1 calls since the last lines were written.
pub(crate) struct Emf {
    namespace: Namespace,
    instance: Option<String>,
    counts: BTreeMap<String, Count>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    calls: i64,
    successful: i64,
    rejected: i64,
}

impl Emf {
    /// `instance` is the instance ID, if known.
    pub(crate) fn new(namespace: Namespace, instance: Option<String>) -> Self {
        Self {
            namespace,
            instance,
            counts: BTreeMap::new(),
        }
    }

    pub(crate) fn count(&mut self, delta: &[ClientStats]) {
        for entry in delta {
            let mut count = Count::default();
            for (bucket, calls) in &entry.buckets {
                if bucket.auth != Auth::V1 {
                    continue;
                }
                count.calls += calls;
                match bucket.response {
                    ResponseClass::Ok => count.successful += calls,
                    ResponseClass::Unauthorized => count.rejected += calls,
                    _ => {}
                }
            }
            if count.calls != 0 {
                self.add(&dimension(&entry.client.name()), count);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.values().all(|count| count.calls <= 0)
    }

    /// One line per client; `now` is the end of the period.
    pub(crate) fn lines(&self, now: Timestamp) -> String {
        let mut lines = String::new();
        for (client, count) in self.counts.iter().filter(|(_, count)| count.calls > 0) {
            lines.push_str(&self.line(client, *count, now).to_string());
            lines.push('\n');
        }
        lines
    }

    /// Discards the counts after their lines were written.
    pub(crate) fn clear(&mut self) {
        self.counts.clear();
    }

    fn add(&mut self, client: &str, count: Count) {
        let is_full = self.counts.len() >= MAX_CLIENTS && !self.counts.contains_key(client);
        let client = if is_full { OTHERS } else { client };
        let sum = self.counts.entry(client.to_owned()).or_default();
        sum.calls = sum.calls.saturating_add(count.calls);
        sum.successful = sum.successful.saturating_add(count.successful);
        sum.rejected = sum.rejected.saturating_add(count.rejected);
    }

    fn line(&self, client: &str, count: Count, now: Timestamp) -> Value {
        // By client over the fleet, by instance, and by both.
        let dimensions = match self.instance {
            Some(_) => json!([["InstanceId", "Client"], ["InstanceId"], ["Client"]]),
            None => json!([["Client"], []]),
        };
        let mut line = Map::new();
        line.insert(
            "_aws".into(),
            json!({
                "Timestamp": now.as_millis(),
                "CloudWatchMetrics": [{
                    "Namespace": self.namespace.as_str(),
                    "Dimensions": dimensions,
                    "Metrics": [{"Name": "TokenlessCalls", "Unit": "Count"}],
                }],
            }),
        );
        if let Some(instance) = &self.instance {
            line.insert("InstanceId".into(), json!(dimension(instance)));
        }
        line.insert("Client".into(), json!(client));
        line.insert("TokenlessCalls".into(), json!(count.calls));
        // For searches: the counts of `MetadataNoToken` and `MetadataNoTokenRejected`.
        line.insert("Successful".into(), json!(count.successful));
        line.insert("Rejected".into(), json!(count.rejected));
        Value::Object(line)
    }
}

/// A valid dimension value: printable ASCII, not empty, no leading colon.
fn dimension(text: &str) -> String {
    let printable = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    let mut value: String = text
        .trim()
        .chars()
        .take(MAX_DIMENSION_CHARS)
        .map(printable)
        .collect();
    if value.is_empty() || value.starts_with(':') {
        value.insert(0, '_');
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::call::TokenValue;
    use crate::ledger::{Cause, test_support::entry};

    fn emf() -> Emf {
        Emf::new(Namespace::default(), Some("i-0abc".into()))
    }

    fn parsed(emf: &Emf) -> Vec<Value> {
        let lines = emf.lines(Timestamp::from_nanos(1_700_000_000_123_456_789));
        assert!(lines.is_empty() || lines.ends_with('\n'));
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// What the specification and the API say of a line.
    fn is_valid(line: &Value) {
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert!(line["_aws"]["Timestamp"].is_u64());
        assert_eq!(directive.as_object().unwrap().len(), 3);
        assert!((1..=255).contains(&directive["Namespace"].as_str().unwrap().len()));
        let metrics = directive["Metrics"].as_array().unwrap();
        assert!((1..=100).contains(&metrics.len()));
        for metric in metrics {
            assert_eq!(metric["Unit"], "Count");
            assert!(line[metric["Name"].as_str().unwrap()].is_number());
        }
        for set in directive["Dimensions"].as_array().unwrap() {
            for key in set.as_array().unwrap() {
                let value = line[key.as_str().unwrap()].as_str().unwrap();
                assert!((1..=1024).contains(&value.len()), "{value}");
                assert!(value.bytes().all(|b| (b' '..=b'~').contains(&b)), "{value}");
                assert!(
                    !value.starts_with(':') && !value.trim().is_empty(),
                    "{value}"
                );
            }
        }
        assert!(line.to_string().len() < 1 << 20);
    }

    #[test]
    fn each_imdsv1_client_is_a_line_that_cloudwatch_accepts() {
        let mut emf = emf();
        emf.count(&[
            entry(
                "curl",
                &[
                    (Auth::V1, ResponseClass::Ok, Cause::Plain, 3),
                    (Auth::V1, ResponseClass::Unauthorized, Cause::Plain, 2),
                    (Auth::V1, ResponseClass::None, Cause::Plain, 1),
                    (
                        Auth::V2(TokenValue::Present),
                        ResponseClass::Ok,
                        Cause::Plain,
                        9,
                    ),
                ],
            ),
            entry(
                "good",
                &[(
                    Auth::V2(TokenValue::Present),
                    ResponseClass::Ok,
                    Cause::Plain,
                    9,
                )],
            ),
        ]);
        emf.count(&[entry(
            "curl",
            &[(Auth::V1, ResponseClass::Ok, Cause::Plain, 4)],
        )]);
        let lines = parsed(&emf);
        let expected = json!({
            "_aws": {
                "Timestamp": 1_700_000_000_123_i64,
                "CloudWatchMetrics": [{
                    "Namespace": "imdsmon",
                    "Dimensions": [["InstanceId", "Client"], ["InstanceId"], ["Client"]],
                    "Metrics": [{"Name": "TokenlessCalls", "Unit": "Count"}],
                }],
            },
            "InstanceId": "i-0abc",
            "Client": "app.service: curl (root)",
            "TokenlessCalls": 10,
            "Successful": 7,
            "Rejected": 2,
        });
        assert_eq!(lines, [expected]);
        is_valid(&lines[0]);
        emf.clear();
        assert!(emf.is_empty() && emf.lines(Timestamp::default()).is_empty());
    }

    #[test]
    fn what_is_only_seen_in_another_light_is_not_counted_again() {
        let mut emf = emf();
        emf.count(&[entry(
            "curl",
            &[
                (Auth::V1, ResponseClass::Ok, Cause::Plain, -3),
                (Auth::V1, ResponseClass::Ok, Cause::AfterNoResponse, 3),
            ],
        )]);
        assert!(emf.is_empty() && parsed(&emf).is_empty());
    }

    #[test]
    fn any_name_is_a_value_that_cloudwatch_takes() {
        let names = [
            "",
            " ",
            ":",
            "\u{1b}[31m\n\0\u{202e}é",
            &"x".repeat(100_000),
            "\"}],\"_aws\":{}",
        ];
        let mut emf = Emf::new(Namespace::default(), None);
        for name in names {
            let mut entry = entry(name, &[(Auth::V1, ResponseClass::Ok, Cause::Plain, 1)]);
            entry.client.workload.name = name.into();
            entry.client.user = name.into();
            emf.count(&[entry]);
            assert!(!dimension(name).is_empty());
        }
        let lines = parsed(&emf);
        assert!(lines.len() >= 5);
        lines.iter().for_each(is_valid);
    }

    #[test]
    fn very_many_clients_share_a_line() {
        let mut emf = emf();
        for number in 0..1000 {
            let calls = [(Auth::V1, ResponseClass::Ok, Cause::Plain, 1)];
            emf.count(&[entry(&format!("client-{number}"), &calls)]);
        }
        let lines = parsed(&emf);
        assert_eq!(lines.len(), MAX_CLIENTS + 1);
        let others = lines.iter().find(|line| line["Client"] == OTHERS);
        assert_eq!(others.unwrap()["TokenlessCalls"], 900);
    }
}
