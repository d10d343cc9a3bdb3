//! The Linux capabilities that imdsmon uses: their purpose, and how long each is needed.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

pub(crate) struct Capability {
    set: CapabilitySet,
    /// What fails without it.
    pub(crate) purpose: &'static str,
    /// Required for capture. The kernel accepts `CAP_SYS_ADMIN` in place of each of these
    /// (`bpf_prog_load` and `perfmon_capable`, Linux 5.8 and later).
    pub(crate) is_required: bool,
    /// Required to attach the hooks and to enter network namespaces, not to continue capture.
    startup_only: bool,
}

const SYS_ADMIN: CapabilitySet = CapabilitySet::SYS_ADMIN;

const CAPABILITIES: [Capability; 6] = [
    Capability {
        set: CapabilitySet::BPF,
        purpose: "load BPF programs, read their counters",
        is_required: true,
        startup_only: false,
    },
    Capability {
        set: CapabilitySet::NET_ADMIN,
        purpose: "attach to network hooks",
        is_required: true,
        startup_only: true,
    },
    Capability {
        set: CapabilitySet::PERFMON,
        purpose: "identify the calling process in the kernel",
        is_required: true,
        startup_only: true,
    },
    Capability {
        set: SYS_ADMIN,
        purpose: "self-test, demo, connections opened before imdsmon started",
        is_required: false,
        startup_only: true,
    },
    Capability {
        set: CapabilitySet::SYS_PTRACE,
        purpose: "executables of other users' processes",
        is_required: false,
        startup_only: false,
    },
    Capability {
        set: CapabilitySet::DAC_READ_SEARCH,
        purpose: "cgroup names",
        is_required: false,
        startup_only: false,
    },
];

impl Capability {
    /// For example `CAP_BPF`.
    pub(crate) fn name(&self) -> String {
        let names = self.set.iter_names().map(|(name, _)| format!("CAP_{name}"));
        names.collect()
    }

    fn is_in(&self, held: CapabilitySet) -> bool {
        held.contains(self.set) || (self.is_required && held.contains(SYS_ADMIN))
    }
}

/// Capabilities of the table that are not effective in the calling thread.
pub(crate) fn missing() -> io::Result<impl Iterator<Item = &'static Capability>> {
    let held = capabilities(None)?.effective;
    Ok(missing_from(held))
}

fn missing_from(held: CapabilitySet) -> impl Iterator<Item = &'static Capability> {
    CAPABILITIES
        .iter()
        .filter(move |capability| !capability.is_in(held))
}

/// Drops the startup-only capabilities of the calling thread and those that it starts later.
pub(crate) fn drop_startup_only() -> io::Result<()> {
    let startup_only = CAPABILITIES.iter().filter(|c| c.startup_only);
    let dropped: CapabilitySet = startup_only.map(|c| c.set).collect();
    let mut sets = capabilities(None)?;
    sets.effective.remove(dropped);
    sets.permitted.remove(dropped);
    sets.inheritable.remove(dropped);
    Ok(set_capabilities(None, sets)?)
}

/// Drops all capabilities of the calling thread and those that it starts later.
pub(crate) fn drop_all() -> io::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    Ok(set_capabilities(None, sets)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_one_named_capability() {
        let names: Vec<_> = CAPABILITIES.iter().map(Capability::name).collect();
        assert_eq!(
            names,
            [
                "CAP_BPF",
                "CAP_NET_ADMIN",
                "CAP_PERFMON",
                "CAP_SYS_ADMIN",
                "CAP_SYS_PTRACE",
                "CAP_DAC_READ_SEARCH"
            ]
        );
    }

    #[test]
    fn sys_admin_stands_in_for_required_capabilities_only() {
        let missing = |held| missing_from(held).map(Capability::name).collect::<Vec<_>>();
        assert_eq!(
            missing(SYS_ADMIN),
            ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]
        );
        let two = CapabilitySet::BPF | CapabilitySet::NET_ADMIN;
        assert_eq!(missing(two)[..2], ["CAP_PERFMON", "CAP_SYS_ADMIN"]);
        assert!(missing(CapabilitySet::all()).is_empty());
    }

    /// Capabilities belong to threads: the other tests keep theirs.
    fn in_new_thread(drop: fn() -> io::Result<()>) -> (CapabilitySets, CapabilitySets) {
        let sets = std::thread::spawn(move || {
            let before = capabilities(None).unwrap();
            drop().unwrap();
            (before, capabilities(None).unwrap())
        });
        sets.join().unwrap()
    }

    #[test]
    fn drop_startup_only_removes_them_and_keeps_the_rest() {
        let dropped = SYS_ADMIN | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON;
        let (before, after) = in_new_thread(drop_startup_only);
        assert_eq!(before.permitted - dropped, after.permitted);
        assert_eq!(before.effective - dropped, after.effective);
    }

    #[test]
    fn drop_all_leaves_nothing() {
        let (_, after) = in_new_thread(drop_all);
        assert!((after.effective | after.permitted | after.inheritable).is_empty());
    }
}
