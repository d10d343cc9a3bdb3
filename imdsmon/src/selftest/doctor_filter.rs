//! Keeps the self-test of `imdsmon doctor` out of the counts of a service on the same host.
//!
//! No client can abuse this. The process must be root, run the same file as the service, and be
//! outside of the host's network namespace; the kernel reports all three. If it does not report the
//! file (no BTF), or an overlay file system gives it another inode number, the self-test is
//! counted: one call too many misleads less than one too few.

use std::{fs, os::unix::fs::MetadataExt as _};

use crate::{event::facts::FileId, identity::Process, pipeline::AttributedEvent};

/// The subcommand that makes the self-test's calls.
const CLIENT: &[u8] = b"sandbox-client";

pub(crate) struct DoctorFilter {
    /// The file that this process runs.
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
    /// Whether a call belongs to the self-test.
    pub(crate) fn matches(&self, attributed: &AttributedEvent) -> bool {
        let caller = &attributed.caller;
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
    fn only_the_self_test_of_root_in_its_namespace_is_ignored() {
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
        let unknown = DoctorFilter { own: None };
        client.exe_file = None;
        assert!(!unknown.is_client(&client));
    }
}
