//! `imdsmon doctor` beside the service: what its self-test calls in a network of its own is no
//! client's.
//!
//! Nobody can hide behind it. The caller must be root's, must be the very file that the service
//! runs from, and must be outside of the host's network; the kernel says all of that. Where the
//! kernel does not say which file it is (no BTF), or a file system gives it another number, as an
//! overlay may, the self-test is counted as anybody else: one call too many misleads less than one
//! too few.

use std::{fs, os::unix::fs::MetadataExt as _};

use crate::{event::facts::FileId, identity::Process, pipeline::AttributedEvent};

/// The subcommand that makes the calls of the self-test.
const CLIENT: &[u8] = b"sandbox-client";

/// Knows the self-test by its file.
pub struct DoctorFilter {
    own: Option<FileId>,
}

impl Default for DoctorFilter {
    fn default() -> Self {
        let metadata = fs::metadata("/proc/self/exe").ok();
        Self {
            own: metadata.map(|metadata| FileId {
                device: metadata.dev(),
                inode: metadata.ino(),
            }),
        }
    }
}

impl DoctorFilter {
    /// Whether a finding is of a self-test.
    pub fn matches(&self, found: &AttributedEvent) -> bool {
        let caller = &found.caller;
        let process = caller.process.as_deref();
        caller.connector.is_none() && process.is_some_and(|process| self.is_client(process))
    }

    fn is_client(&self, process: &Process) -> bool {
        let subcommand = process.args.get(1);
        process.uid == 0
            && self.own.is_some()
            && process.exe_file == self.own
            && process.host_network == Some(false)
            && subcommand.is_some_and(|arg| arg[..] == *CLIENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::test_support;

    #[test]
    fn only_roots_own_self_test_outside_of_the_hosts_network_is_no_client() {
        let doctor = DoctorFilter::default();
        let own = doctor.own.unwrap();
        let mut client = Process::clone(&test_support::process(
            7,
            &["/proc/self/exe", "sandbox-client"],
        ));
        client.uid = 0;
        client.exe_file = Some(own);
        client.host_network = Some(false);
        assert!(doctor.is_client(&client));
        let changes: [fn(&mut Process); 7] = [
            |p| p.uid = 1000,
            |p| p.exe_file = None,
            |p| {
                p.exe_file = p.exe_file.map(|FileId { device, inode }| FileId {
                    device,
                    inode: inode + 1,
                });
            },
            |p| p.host_network = None,
            |p| p.host_network = Some(true),
            |p| p.args.truncate(1),
            |p| p.args.swap(0, 1),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut other = client.clone();
            change(&mut other);
            assert!(!doctor.is_client(&other), "{number}");
        }
        let nobody = DoctorFilter { own: None };
        client.exe_file = None;
        assert!(!nobody.is_client(&client));
    }
}
