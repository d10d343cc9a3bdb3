//! The metadata that the simulated IMDS serves: plausible, and recognizably not real.
//!
//! Paths follow the EC2 User Guide, "Instance metadata categories". No value is usable: IDs are
//! `0123456789abcdef0`, and keys contain "not a key".

use jiff::{SignedDuration, Timestamp};

/// Dated versions of the API, one per line; `latest` exists, too.
const VERSIONS: &str = include_str!("../../data/simulator/versions.txt");

const INSTANCE: &str = "i-0123456789abcdef0";
const ROLE: &str = "imdsmon-demo-role";

/// Paths below a version, and their values, separated by a tab.
const VALUES: &str = include_str!("../../data/simulator/values.tsv");
const USER_DATA: (&str, &str) = ("user-data", "#!/bin/sh\necho this is a simulation\n");

/// Paths whose values contain times.
const DOCUMENT: &str = "dynamic/instance-identity/document";
const IAM_INFO: &str = "meta-data/iam/info";
const CREDENTIALS: &str = "meta-data/iam/security-credentials/imdsmon-demo-role";
const IDENTITY_INFO: &str = "meta-data/identity-credentials/ec2/info";
const IDENTITY: &str = "meta-data/identity-credentials/ec2/security-credentials/ec2-instance";
const TIMED: &[&str] = &[DOCUMENT, IAM_INFO, CREDENTIALS, IDENTITY_INFO, IDENTITY];

/// The value or the listing at `path`. Ignores double and trailing slashes, like real IMDS.
pub(super) fn look_up(path: &str, now: Timestamp) -> Option<String> {
    let mut components = path.split('/').filter(|component| !component.is_empty());
    let Some(version) = components.next() else {
        return Some(format!("{VERSIONS}latest"));
    };
    if version != "latest" && !is_dated_version(version) {
        return None;
    }
    let below = components.collect::<Vec<_>>().join("/");
    if let Some((_, value)) = leaves().find(|(leaf, _)| *leaf == below) {
        return Some(value.to_owned());
    }
    timed(&below, now).or_else(|| listing(&below))
}

pub(super) fn is_dated_version(version: &str) -> bool {
    VERSIONS.lines().any(|known| known == version)
}

fn leaves() -> impl Iterator<Item = (&'static str, &'static str)> {
    let values = VALUES.lines().filter_map(|line| line.split_once('\t'));
    values.chain([USER_DATA])
}

/// Names directly below `directory`; those of directories end in `/`, as IMDS lists them.
fn listing(directory: &str) -> Option<String> {
    if directory == "meta-data/public-keys" {
        return Some("0=imdsmon-demo".to_owned());
    }
    let mut names: Vec<String> = leaves()
        .map(|(leaf, _)| leaf)
        .chain(TIMED.iter().copied())
        .filter_map(|leaf| {
            let below = match directory {
                "" => leaf,
                _ => leaf.strip_prefix(directory)?.strip_prefix('/')?,
            };
            Some(match below.split_once('/') {
                // At the top, IMDS lists `dynamic` and `meta-data` without the slash.
                Some((name, _)) if directory.is_empty() => name.to_owned(),
                Some((name, _)) => format!("{name}/"),
                None => below.to_owned(),
            })
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| names.join("\n"))
}

fn timed(leaf: &str, now: Timestamp) -> Option<String> {
    let stamp = |time: Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let hours = |n| {
        stamp(
            now.saturating_add(SignedDuration::from_hours(n))
                .unwrap_or(now),
        )
    };
    Some(match leaf {
        DOCUMENT => format!(
            r#"{{
  "accountId" : "123456789012",
  "architecture" : "x86_64",
  "availabilityZone" : "us-east-1a",
  "imageId" : "ami-0123456789abcdef0",
  "instanceId" : "{INSTANCE}",
  "instanceType" : "m7i.large",
  "pendingTime" : "{}",
  "privateIp" : "10.0.0.10",
  "region" : "us-east-1",
  "version" : "2017-09-30"
}}"#,
            hours(-1)
        ),
        IAM_INFO => format!(
            r#"{{
  "Code" : "Success",
  "LastUpdated" : "{}",
  "InstanceProfileArn" : "arn:aws:iam::123456789012:instance-profile/{ROLE}",
  "InstanceProfileId" : "AIPANOTAREALPROFILE00"
}}"#,
            hours(-1)
        ),
        IDENTITY_INFO => format!(
            r#"{{
  "Code" : "Success",
  "LastUpdated" : "{}",
  "AccountId" : "123456789012"
}}"#,
            hours(-1)
        ),
        CREDENTIALS | IDENTITY => format!(
            r#"{{
  "Code" : "Success",
  "LastUpdated" : "{}",
  "Type" : "AWS-HMAC",
  "AccessKeyId" : "ASIANOTAREALKEY00000",
  "SecretAccessKey" : "this/is/a/simulation/not/a/secret/key000",
  "Token" : "this-is-a-simulation-not-a-session-token",
  "Expiration" : "{}"
}}"#,
            hours(-1),
            hours(6)
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_has_a_value_or_listing() {
        let now = Timestamp::now();
        let mut open = vec!["/latest".to_owned()];
        let mut found = 0;
        while let Some(directory) = open.pop() {
            let text = look_up(&directory, now).expect("listed");
            if leaves().any(|(leaf, _)| directory.ends_with(leaf)) || text.starts_with('{') {
                found += 1;
                continue;
            }
            for name in text.lines() {
                // `0=name` in the list of keys stands for the directory `0`.
                let name = name.split_once('=').map_or(name, |(index, _)| index);
                open.push(format!("{directory}/{}", name.trim_end_matches('/')));
            }
        }
        // `0` and its `openssh-key` are both reached through the list.
        assert_eq!(found, leaves().count() + TIMED.len());
    }

    #[test]
    fn paths_tolerate_slashes_and_need_a_known_version() {
        let now = Timestamp::now();
        for path in [
            "/latest/meta-data/instance-id",
            "/latest//meta-data/instance-id/",
            "//2009-04-04/meta-data/instance-id",
        ] {
            assert_eq!(look_up(path, now).as_deref(), Some(INSTANCE), "{path}");
        }
        for path in [
            "/newest/meta-data/",
            "/latest/meta-data/nothing",
            "/1999-01-01/",
            "/latest/meta-data/iam/security-credentials/other",
        ] {
            assert_eq!(look_up(path, now), None, "{path}");
        }
        assert!(look_up("/", now).expect("versions").ends_with("\nlatest"));
        assert_eq!(
            look_up("/latest", now).as_deref(),
            Some("dynamic\nmeta-data\nuser-data")
        );
        assert_eq!(
            look_up("/latest/meta-data/iam/security-credentials/", now).as_deref(),
            Some(ROLE)
        );
    }
}
