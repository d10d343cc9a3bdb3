//! Privileges that are needed to start, and not to run.

use std::io;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// `CAP_SYS_ADMIN` was for the canary's network namespace and for connections of others,
/// `CAP_NET_ADMIN` and `CAP_PERFMON` to load and attach. What stays: `CAP_BPF` reads the
/// counters, `CAP_SYS_PTRACE` and `CAP_DAC_READ_SEARCH` look callers up.
const SPENT: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::PERFMON);

/// Gives them up for the calling thread and those that it starts from now on (capset(2)).
pub fn drop_spent() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.effective.remove(SPENT);
    sets.permitted.remove(SPENT);
    sets.inheritable.remove(SPENT);
    Ok(set_capabilities(None, sets)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_gone_and_the_rest_stays() {
        // A thread of its own: the other tests keep what they have.
        let sets = std::thread::spawn(|| {
            let before = capabilities(None).unwrap();
            drop_spent().unwrap();
            (before, capabilities(None).unwrap())
        });
        let (before, after) = sets.join().unwrap();
        assert!(!after.permitted.intersects(SPENT) && !after.effective.intersects(SPENT));
        assert_eq!(before.permitted.difference(SPENT), after.permitted);
    }
}
