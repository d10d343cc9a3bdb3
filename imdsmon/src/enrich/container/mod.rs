//! A container's state on disk, found by the cgroup's path.
//!
//! The runtimes write these files before the container starts; reading them needs no socket and no
//! daemon. An ID from a path is hexadecimal, a name matches `[A-Za-z0-9_.-]+`: neither can escape
//! the directory.

mod docker;
mod oci;
mod podman;

use std::{
    num::NonZeroUsize,
    rc::Rc,
    time::{Duration, Instant},
};

use lru::LruCache;

use crate::event::{bytes::ByteString, facts::ContainerFacts};
use crate::{
    enrich::rootfs::HostRoot,
    identity::cgroup_path::{CgroupPath, ContainerId},
};

const MAX_KNOWN: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// A container may be renamed.
const FOUND_TTL: Duration = Duration::from_secs(300);
/// A runtime may write the state a moment later.
const MISSED_TTL: Duration = Duration::from_secs(5);
/// For one container; usual sizes are 3 to 20 KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The owner of a cgroup's user slice: rootless runtimes keep their state in the home directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'h> {
    pub(crate) uid: u32,
    pub(crate) home: &'h str,
}

/// Containers by cgroup path.
pub(crate) struct Containers {
    host: Rc<HostRoot>,
    docker_roots: Option<Vec<String>>,
    known: LruCache<ByteString, (Instant, Option<ContainerFacts>)>,
}

impl Containers {
    pub(crate) fn new(host: Rc<HostRoot>) -> Self {
        Self {
            host,
            docker_roots: None,
            known: LruCache::new(MAX_KNOWN),
        }
    }

    /// The innermost container of the cgroup path with state on disk.
    pub(crate) fn find(
        &mut self,
        path: &ByteString,
        owner: Option<Owner<'_>>,
    ) -> Option<ContainerFacts> {
        let now = Instant::now();
        if let Some((until, facts)) = self.known.get(path)
            && now < *until
        {
            return facts.clone();
        }
        let facts = self.look(path, owner);
        let valid = if facts.is_some() {
            FOUND_TTL
        } else {
            MISSED_TTL
        };
        self.known.put(path.clone(), (now + valid, facts.clone()));
        facts
    }

    fn look(&mut self, path: &[u8], owner: Option<Owner<'_>>) -> Option<ContainerFacts> {
        let placement = CgroupPath::of(path);
        if placement.containers.is_empty() {
            // `ctr run` puts a container with a chosen name at `/NAMESPACE/NAME`.
            let path = std::str::from_utf8(path).ok()?;
            let (namespace, name) = path.strip_prefix('/')?.split_once('/')?;
            return oci::containerd_bundle(&self.host, namespace, name);
        }
        let found = placement.containers.iter().rev();
        found
            .take(4)
            .find_map(|container| self.state(container, owner))
    }

    fn state(
        &mut self,
        container: &ContainerId,
        owner: Option<Owner<'_>>,
    ) -> Option<ContainerFacts> {
        let ContainerId { id, runtime } = container;
        let host = &self.host;
        let is = |name| runtime.is_none() || *runtime == Some(name);
        let mut facts = None;
        if is("docker") {
            let roots = self.docker_roots.get_or_insert_with(|| docker::roots(host));
            facts = docker::state(host, roots, id, owner);
        }
        if is("containerd") {
            facts = facts.or_else(|| oci::containerd(host, id));
        }
        if is("cri-o") {
            facts = facts.or_else(|| oci::crio(host, id));
        }
        if is("podman") {
            facts = facts.or_else(|| podman::state(host, id, owner));
        }
        facts
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
