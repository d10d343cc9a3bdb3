//! The workload of a process: the unit, session, cron job, container or pod, from the cgroup path
//! and the container runtime's files.

use serde::{Deserialize, Serialize};

use crate::event::facts::ContainerFacts;
use crate::{
    identity::{cgroup_path::CgroupPath, generated_names, normalize::normalize},
    text::clip::clip,
    words::with_words,
};

/// Hexadecimal digits of a short container ID.
const SHORT_ID_LEN: usize = 12;
/// Units that run cron jobs, on Debian, Red Hat and others.
const CRON_UNITS: [&str; 5] = [
    "cron.service",
    "crond.service",
    "cronie.service",
    "anacron.service",
    "fcron.service",
];

/// The workload that a process belongs to. Untrusted where a container's own state is its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Workload {
    pub kind: WorkloadKind,
    /// Name within the kind, without varying parts; at most 256 bytes, may be empty:
    /// `nginx.service`, the user of a session, the script or command of a cron job, a container's
    /// name (its image if docker or podman generated the name), `family/container`,
    /// `namespace/owner-*/container`, a path.
    pub name: String,
    pub container: Option<Container>,
    pub pod: Option<Pod>,
}

with_words! {
    /// The kinds of workload, by what starts and stops them.
    #[derive(Default)]
    pub enum WorkloadKind {
        /// A unit of the system's systemd.
        Unit,
        /// A unit of a user's systemd.
        UserUnit,
        /// A login session.
        Session,
        /// A cron job.
        Cron,
        /// A container that no orchestrator is known to have started.
        Container,
        /// A container of an Amazon ECS task.
        EcsTask,
        /// A container of a Kubernetes pod.
        Pod,
        /// A cgroup that is none of these.
        Cgroup,
        #[default]
        Unknown,
    }
}

/// A container, from its runtime's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Container {
    /// Its ID: 64 hexadecimal digits for most runtimes. Of nested containers, the innermost that a
    /// runtime of the host knows or that the path names.
    pub id: String,
    /// `docker`, `containerd`, `cri-o`, `podman`, if known.
    pub runtime: Option<String>,
    pub name: Option<String>,
    /// Name of its image, with tag or digest as the runtime has it.
    pub image: Option<String>,
}

/// A Kubernetes pod, and the container in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pod {
    pub namespace: String,
    /// Name, with its generated suffix.
    pub name: String,
    /// The container's name in the pod.
    pub container: Option<String>,
}

/// What a workload is derived from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WorkloadInputs<'s> {
    pub(crate) cgroup: Option<&'s [u8]>,
    pub(crate) container: Option<&'s ContainerFacts>,
    /// The user that owns the slice of the cgroup.
    pub(crate) slice_user: Option<&'s str>,
    pub(crate) cron_job: Option<&'s str>,
}

impl Workload {
    pub(crate) fn of(inputs: &WorkloadInputs<'_>) -> Self {
        let placement = inputs.cgroup.map(CgroupPath::of).unwrap_or_default();
        if let Some(container) = container(inputs.container, &placement) {
            return Self::of_container(container, inputs.container, &placement);
        }
        let path = inputs.cgroup.map(String::from_utf8_lossy);
        let is_cron = |unit: &&str| CRON_UNITS.contains(unit);
        let (kind, name) = if let Some(job) = inputs.cron_job {
            // If all processes that name the job have ended, its unit names it.
            let job = Some(job).filter(|job| !job.is_empty());
            let unit = placement.unit.as_deref().filter(is_cron);
            (WorkloadKind::Cron, job.or(unit).unwrap_or("unknown").into())
        } else if let Some(unit) = &placement.user_unit {
            (WorkloadKind::UserUnit, stable_unit(unit))
        } else if placement.is_session {
            let uid = || placement.slice_uid.map(|uid| uid.to_string());
            let user = inputs.slice_user.map(String::from).or_else(uid);
            (WorkloadKind::Session, user.unwrap_or_default())
        } else if let Some(unit) = placement.unit.as_deref().filter(is_cron) {
            (WorkloadKind::Cron, unit.into())
        } else if let Some(unit) = &placement.unit {
            (WorkloadKind::Unit, stable_unit(unit))
        } else if let Some(path) = path.filter(|path| path != "/") {
            (WorkloadKind::Cgroup, normalize(&path))
        } else {
            (WorkloadKind::Unknown, String::new())
        };
        Self {
            kind,
            name: clip(&name),
            container: None,
            pod: None,
        }
    }

    fn of_container(
        container: Container,
        facts: Option<&ContainerFacts>,
        placement: &CgroupPath,
    ) -> Self {
        let pod = facts.and_then(|facts| facts.pod.as_ref()).map(|pod| Pod {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            container: pod.container.clone(),
        });
        let short: String = container.id.chars().take(SHORT_ID_LEN).collect();
        let (kind, name) = if let Some(pod) = &pod {
            let owner = generated_names::pod_owner(&pod.name);
            let name = [Some(&pod.namespace), Some(&owner), pod.container.as_ref()];
            let name: Vec<&str> = name.into_iter().flatten().map(String::as_str).collect();
            (WorkloadKind::Pod, name.join("/"))
        } else if let Some(uid) = &placement.pod_uid {
            (WorkloadKind::Pod, format!("{uid}/{short}"))
        } else if let Some(ecs) = facts.and_then(|facts| facts.ecs.clone()) {
            (WorkloadKind::EcsTask, ecs)
        } else {
            let kind = if placement.is_ecs {
                WorkloadKind::EcsTask
            } else {
                WorkloadKind::Container
            };
            let service = facts.and_then(|facts| facts.service.clone());
            (
                kind,
                service.unwrap_or_else(|| container_name(&container, short)),
            )
        };
        Self {
            kind,
            name: clip(&name),
            container: Some(container),
            pod,
        }
    }
}

/// The facts, if any, describe one of the containers in the path, and are more complete.
fn container(facts: Option<&ContainerFacts>, placement: &CgroupPath) -> Option<Container> {
    let named = placement.container();
    let of_path = |id: &str| {
        placement
            .containers
            .iter()
            .find(|container| container.id == id)
    };
    match facts {
        Some(facts) => Some(Container {
            id: facts.id.clone(),
            runtime: facts
                .runtime
                .clone()
                .or_else(|| of_path(&facts.id)?.runtime.map(String::from)),
            name: facts.name.clone(),
            image: facts.image.clone(),
        }),
        None => named.map(|named| Container {
            id: named.id.clone(),
            runtime: named.runtime.map(String::from),
            name: None,
            image: None,
        }),
    }
}

/// A generated name changes with each restart, so the image replaces it.
fn container_name(container: &Container, short: String) -> String {
    let Container { name, image, .. } = container;
    match (name, image) {
        (Some(name), Some(image)) if generated_names::is_container_name(name) => image.clone(),
        (Some(name), _) => normalize(name),
        (None, Some(image)) => image.clone(),
        (None, None) => short,
    }
}

/// A unit's name without varying parts: those of a service instance per connection
/// (`sshd@3-10.0.0.1:22-10.0.0.2:55.service`), of systemd-run's generated names
/// (`run-u123.service`), and of scopes, which are created at run time.
fn stable_unit(unit: &str) -> String {
    if let Some((template, rest)) = unit.split_once('@')
        && let Some((instance, suffix)) = rest.rsplit_once('.')
        && is_connection(instance)
    {
        return format!("{template}@*.{suffix}");
    }
    if let Some((run, suffix)) = unit.rsplit_once('.')
        && let Some(number) = run.strip_prefix("run-")
        && is_run(number)
    {
        return format!("run-*.{suffix}");
    }
    match unit.strip_suffix(".scope") {
        Some(scope) => {
            let parts = normalize(scope);
            let all_digits =
                |part: &str| part.len() > 1 && part.bytes().all(|b| b.is_ascii_digit());
            let parts = parts
                .split('-')
                .map(|part| if all_digits(part) { "*" } else { part });
            format!("{}.scope", parts.collect::<Vec<_>>().join("-"))
        }
        None => unit.into(),
    }
}

/// systemd.socket(5): a number, and the addresses, or pid and uid, of both ends.
fn is_connection(instance: &str) -> bool {
    let mut parts = instance.split('-');
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    parts.next().is_some_and(is_number)
        && parts.clone().count() >= 2
        && (instance.contains(':') || parts.all(is_number))
}

/// `u123`, `r0123456789abcdef…`, `p123-i456`: names by different versions of systemd-run(1).
fn is_run(number: &str) -> bool {
    let digits = number.trim_start_matches(['u', 'r', 'p', 'i']);
    digits.contains(|c: char| c.is_ascii_digit())
        && digits
            .chars()
            .all(|c| c.is_ascii_hexdigit() || c == '-' || c == 'i')
}

#[cfg(test)]
#[path = "workload_tests.rs"]
mod tests;
