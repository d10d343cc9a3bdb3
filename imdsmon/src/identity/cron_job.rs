//! The cron job that a process is part of, from its ancestors.
//!
//! All jobs share cron's unit, or a session that PAM makes for each run (Red Hat, Amazon Linux), so
//! the name is the crontab line or the script below `/etc/cron.*`.

use crate::identity::{
    process::{Process, file_name},
    program::{script_of, shell_code},
};

/// Names of daemons that start jobs, and of their children (in capitals).
const DAEMONS: [&[u8]; 6] = [b"cron", b"crond", b"CRON", b"CROND", b"anacron", b"fcron"];

/// The job: its script, or the command passed to its shell. `None` if no ancestor is cron; empty if
/// the job is not known.
pub(super) fn cron_job(process: &Process) -> Option<String> {
    let cron = process
        .ancestors
        .iter()
        .position(|(_, name)| DAEMONS.contains(&&name[..]))?;
    let known = &process.ancestor_args[..cron.min(process.ancestor_args.len())];
    // From the job's first process on. `run-parts` runs all jobs of a directory.
    let mut lines: Vec<_> = known.iter().rev().map(Vec::as_slice).collect();
    lines.push(&process.args);
    let script = lines
        .iter()
        .filter_map(|args| script_of(args))
        .find(|script| !matches!(file_name(script.as_bytes()), b"run-parts" | b"anacron"));
    script
        .or_else(|| lines.iter().find_map(|args| shell_code(args)))
        .or_else(|| Some(String::new()))
}

#[cfg(test)]
mod tests {
    use crate::event::{
        Task,
        bytes::ByteString,
        facts::{Ancestor, ProcFacts},
    };
    use crate::identity::cron_job::*;

    /// A process with these ancestors, nearest first: their names, and their command lines.
    fn below(args: &str, ancestors: &[(&str, &str)]) -> Process {
        let words = |line: &str| {
            line.split('|')
                .map(ByteString::from)
                .collect::<Vec<ByteString>>()
        };
        let ancestors = ancestors.iter().map(|(name, line)| Ancestor {
            pid: 1,
            name: (*name).into(),
            argv: if line.is_empty() {
                Vec::new()
            } else {
                words(line)
            },
        });
        Process::new(&Task {
            argv: Some(words(args)),
            proc: Some(ProcFacts {
                ancestors: ancestors.collect(),
                ..ProcFacts::default()
            }),
            ..Task::default()
        })
    }

    #[test]
    fn a_job_is_its_script_or_its_command() {
        let debian = ("cron", "/usr/sbin/CRON|-f");
        for (args, ancestors, job) in [
            (
                "curl|http://h/",
                vec![
                    ("bash", "bash|/opt/backup.sh"),
                    ("sh", "/bin/sh|-c|/opt/backup.sh >/dev/null"),
                    debian,
                ],
                Some("/opt/backup.sh"),
            ),
            (
                "curl|http://h/",
                vec![("sh", "/bin/sh|-c|curl -s http://h/ > /x"), debian],
                Some("curl -s http://h/ > /x"),
            ),
            (
                "curl|x",
                vec![
                    ("certs", "/bin/sh|/etc/cron.daily/certs"),
                    ("run-parts", "run-parts|--report|/etc/cron.daily"),
                    (
                        "sh",
                        "/bin/sh|-c|cd / && run-parts --report /etc/cron.daily",
                    ),
                    debian,
                ],
                Some("/etc/cron.daily/certs"),
            ),
            (
                "curl|x",
                vec![
                    ("certs", "/bin/sh|/etc/cron.daily/certs"),
                    ("run-parts", "/bin/bash|/usr/bin/run-parts|/etc/cron.daily"),
                    ("crond", "/usr/sbin/crond|-n"),
                ],
                Some("/etc/cron.daily/certs"),
            ),
            (
                "python3|/opt/sync.py",
                vec![("CROND", "")],
                Some("/opt/sync.py"),
            ),
            ("curl|x", vec![("sh", ""), ("crond", "")], Some("")),
            (
                "curl|x",
                vec![("bash", "bash|x.sh"), ("sshd", "sshd")],
                None,
            ),
            ("curl|x", vec![], None),
        ] {
            assert_eq!(
                cron_job(&below(args, &ancestors)).as_deref(),
                job,
                "{args} {ancestors:?}"
            );
        }
    }
}
