//! Parses the path of a cgroup; no I/O.
//!
//! The shapes are those of systemd (systemd.unit(5), `user@.service`), of runc and crun with
//! their systemd and cgroupfs drivers (`docker-ID.scope`, `docker/ID`), of the kubelet
//! (`kubepods.slice/kubepods-burstable-podUID.slice`, `kubepods/burstable/podUID`), and of the
//! ECS agent (`ecs/TASK/ID`, `ecstasks.slice/ecstasks-TASK.slice`); the same on cgroup v1.

/// Longest path that is parsed, in bytes: the kernel's `PATH_MAX`.
const PATH: usize = 4096;
/// Digits of a container ID, with every runtime but LXC.
const ID: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CgroupPath {
    /// Containers, outermost first.
    pub(crate) containers: Vec<ContainerId>,
    /// The Kubernetes pod's UID, or a static pod's hash.
    pub(crate) pod_uid: Option<String>,
    /// Whether it is below the ECS agent's cgroup.
    pub(crate) is_ecs: bool,
    /// The unit of the system's systemd.
    pub(crate) unit: Option<String>,
    /// The unit of a user's systemd.
    pub(crate) user_unit: Option<String>,
    /// Whether it belongs to a login session.
    pub(crate) is_session: bool,
    /// The user whose slice it is in.
    pub(crate) slice_uid: Option<u32>,
}

/// A container, as a path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerId {
    pub(crate) id: String,
    /// `None` if the path does not name the runtime.
    pub(crate) runtime: Option<&'static str>,
}

impl CgroupPath {
    pub(crate) fn of(path: &[u8]) -> Self {
        let path = String::from_utf8_lossy(&path[..path.len().min(PATH)]);
        let mut found = Self::default();
        let mut above = "";
        for part in path.split('/').flat_map(pieces) {
            found.take(part, above);
            above = part;
        }
        found
    }

    /// The container that the process is in, if the path names one.
    pub(crate) fn container(&self) -> Option<&ContainerId> {
        self.containers.last()
    }

    fn take(&mut self, part: &str, above: &str) {
        let is_ecs_root = matches!(part, "ecs" | "ecstasks.slice" | "ecstasks");
        self.is_ecs |= is_ecs_root;
        if let Some(uid) = pod_uid(part, above) {
            self.pod_uid = Some(uid);
        } else if let Some(container) = container(part, above) {
            let guess = if self.is_ecs { Some("docker") } else { None };
            let runtime = container.runtime.or(guess);
            self.containers.push(ContainerId {
                runtime,
                ..container
            });
        } else if let Some(uid) = between(part, "user-", ".slice") {
            self.slice_uid = uid.parse().ok().or(self.slice_uid);
        } else if is_unit(part) && self.containers.is_empty() && !is_monitor(part) {
            self.take_unit(part);
        }
    }

    fn take_unit(&mut self, unit: &str) {
        let is_users = self.unit.as_deref().is_some_and(|u| u.starts_with("user@"));
        if self.unit.is_none() {
            self.is_session = unit.starts_with("session-") && self.slice_uid.is_some();
            self.unit = Some(unit.into());
        } else if is_users && self.user_unit.is_none() {
            self.user_unit = Some(unit.into());
        }
    }
}

/// Splits `slice:runtime:ID`, the form of systemd passed to the cgroupfs driver.
fn pieces(component: &str) -> impl Iterator<Item = &str> {
    let is_form = component
        .rsplit_once(':')
        .is_some_and(|(_, id)| id.len() == ID && is_hex(id));
    let separator = if is_form { ':' } else { '/' };
    component.split(separator).filter(|piece| !piece.is_empty())
}

/// Suffixes of units that have processes (systemd.unit(5)); slices have none.
fn is_unit(part: &str) -> bool {
    let suffix = part.rsplit_once('.').filter(|(name, _)| !name.is_empty());
    suffix.is_some_and(|(_, s)| matches!(s, "service" | "scope" | "socket" | "mount" | "swap"))
}

/// conmon runs outside the container that it monitors: `libpod-conmon-ID.scope`,
/// `crio-conmon-ID.scope`.
fn is_monitor(part: &str) -> bool {
    part.contains("conmon-")
}

fn container(part: &str, above: &str) -> Option<ContainerId> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    if is_monitor(name) {
        return None;
    }
    if let Some(name) = name.strip_prefix("lxc.payload.") {
        return Some(ContainerId::new(name, Some("lxc")));
    }
    if matches!(above, "lxc" | "lxc.payload") {
        return Some(ContainerId::new(part, Some("lxc")));
    }
    let at = name.len().checked_sub(ID)?;
    if !name.is_char_boundary(at) {
        return None;
    }
    let (prefix, id) = name.split_at(at);
    if !is_hex(id) || !(prefix.is_empty() || prefix.ends_with('-')) {
        return None;
    }
    let runtime = match prefix {
        "docker-" => Some("docker"),
        "cri-containerd-" | "nerdctl-" => Some("containerd"),
        "crio-" => Some("cri-o"),
        "libpod-" | "libpod-payload-" => Some("podman"),
        _ => match above {
            "docker" => Some("docker"),
            "cri-containerd" | "nerdctl" => Some("containerd"),
            "crio" => Some("cri-o"),
            "libpod" | "libpod_parent" => Some("podman"),
            _ => None,
        },
    };
    Some(ContainerId::new(id, runtime))
}

impl ContainerId {
    fn new(id: &str, runtime: Option<&'static str>) -> Self {
        Self {
            id: crate::text::clip::clip(id),
            runtime,
        }
    }
}

/// `podUID`, or `kubepods-burstable-podUID.slice` with `_` for `-`: `-` is systemd's separator.
fn pod_uid(part: &str, above: &str) -> Option<String> {
    let slice = part.strip_suffix(".slice");
    let uid = match slice {
        Some(slice) if slice.contains("kubepods") => slice.rsplit_once("-pod")?.1.replace('_', "-"),
        None if matches!(above, "kubepods" | "burstable" | "besteffort") => {
            part.strip_prefix("pod")?.into()
        }
        _ => return None,
    };
    let is_uid = uid.len() == 36 && uid.split('-').all(is_hex) || uid.len() == 32 && is_hex(&uid);
    is_uid.then_some(uid)
}

fn is_hex(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

fn between<'t>(text: &'t str, begin: &str, end: &str) -> Option<&'t str> {
    text.strip_prefix(begin)?.strip_suffix(end)
}

#[cfg(test)]
#[path = "cgroup_path_tests.rs"]
mod tests;
