//! Caches the arguments of parent processes.
//!
//! A script may end right after its last tool, before `/proc` is read. The kernel's snapshot still
//! names the parent, and an earlier call of the same script often had its arguments.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use lru::LruCache;

use crate::event::{Task, bytes::ByteString, facts::Ancestor};

const MAX_PARENTS: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// How long a PID with the same name is the same parent: the kernel reuses a PID only after all
/// others (`pid_max`), which takes longer.
const PARENT_TTL: Duration = Duration::from_secs(60);

/// Parents by PID and name.
pub(crate) struct ParentCache {
    known: LruCache<(u32, ByteString), (Vec<ByteString>, Instant)>,
}

impl Default for ParentCache {
    fn default() -> Self {
        Self {
            known: LruCache::new(MAX_PARENTS),
        }
    }
}

impl ParentCache {
    /// Stores arguments that were read and fills in missing ones.
    pub(crate) fn complete(&mut self, task: &mut Task, now: Instant) {
        let read = task.proc.iter().flat_map(|proc| &proc.ancestors);
        for Ancestor { pid, name, argv } in read.chain(&task.ancestors) {
            if !argv.is_empty() {
                let key = (*pid, name.clone());
                self.known.put(key, (argv.clone(), now));
            }
        }
        for ancestor in task.ancestors.iter_mut().filter(|a| a.argv.is_empty()) {
            let key = (ancestor.pid, ancestor.name.clone());
            if let Some((argv, seen)) = self.known.get(&key)
                && now.duration_since(*seen) < PARENT_TTL
            {
                ancestor.argv.clone_from(argv);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::enrich::parent_cache::*;

    fn task(argv: &[&str]) -> Task {
        Task {
            ancestors: vec![Ancestor {
                pid: 7,
                name: "sh".into(),
                argv: argv.iter().map(|&arg| arg.into()).collect(),
            }],
            ..Task::default()
        }
    }

    #[test]
    fn arguments_of_an_ended_parent_come_from_an_earlier_call() {
        let mut parents = ParentCache::default();
        let now = Instant::now();
        let mut first = task(&["sh", "/opt/backup.sh"]);
        parents.complete(&mut first, now);
        let mut second = task(&[]);
        parents.complete(&mut second, now + PARENT_TTL / 2);
        assert_eq!(second.ancestors, first.ancestors);
        let mut late = task(&[]);
        parents.complete(&mut late, now + 2 * PARENT_TTL);
        assert!(
            late.ancestors[0].argv.is_empty(),
            "it may be another by now"
        );
        let mut other = task(&[]);
        other.ancestors[0].name = "bash".into();
        parents.complete(&mut other, now);
        assert!(other.ancestors[0].argv.is_empty());
    }
}
