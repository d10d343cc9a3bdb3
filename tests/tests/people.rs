//! The caller: the process that sent, its user, its cgroup, its ancestors, and who connected.

use std::{fs, os::unix::process::CommandExt as _, process::Command};

use serde_json::Value;
use tests::{
    Call, Cgroup, Scene, optional, own_client, play, program, repetitions, send, skipped,
    watch::is_installed,
};

#[test]
fn a_client_that_ends_at_once_is_known_by_its_arguments() {
    let args = ["send", "--request", "v1", "--exit-at-once"];
    if skipped() {
        return;
    }
    let mut scene = Scene::new(optional());
    let ran: Vec<_> = (0..repetitions()).map(|_| scene.wire(&args)).collect();
    let seen = scene.finish();
    assert_eq!(seen.len(), ran.len(), "{seen:#?}");
    for (who, call) in ran.iter().zip(&seen) {
        assert_eq!(call["process.pid"], who.pid);
        assert_eq!(call["imds.version"], "v1");
        let path = call["process.executable.path"].as_str().unwrap();
        assert_eq!(
            path,
            program("wire-client").to_str().unwrap(),
            "also if it is gone"
        );
        let seen_args: Vec<_> = call["process.command_args"]
            .as_array()
            .unwrap()
            .iter()
            .skip(1)
            .collect();
        assert_eq!(seen_args, args, "{call}");
    }
}

#[test]
fn forked_child_that_sends_is_the_caller() {
    for (who, calls) in play(
        optional(),
        &["send", "--request", "v1", "--by", "fork"],
        &[Call::v1()],
    ) {
        assert_ne!(who.sender, who.pid);
        assert_eq!(calls[0]["process.pid"], who.sender);
        assert_eq!(calls[0]["process.parent_pid"], who.pid);
        assert_eq!(calls[0]["imds.connector.pid"], who.pid);
    }
}

#[test]
fn over_ipv6_the_connector_is_known_too() {
    for socket in ["ipv6", "mapped"] {
        let args = [
            "send",
            "--request",
            "v1",
            "--by",
            "fork",
            "--socket",
            socket,
        ];
        for (who, calls) in play(optional(), &args, &[Call::v1()]) {
            assert_eq!(calls[0]["process.pid"], who.sender);
            assert_eq!(calls[0]["imds.connector.pid"], who.pid, "{socket}");
            assert_eq!(calls[0]["imds.connector.executable.name"], "wire-client");
            assert_eq!(calls[0]["imds.connector.command_args"][1], "send");
        }
    }
}

#[test]
fn a_program_that_replaced_the_connector_is_the_caller() {
    for (who, calls) in play(
        optional(),
        &["send", "--request", "v1", "--by", "exec"],
        &[Call::v1()],
    ) {
        assert_eq!(calls[0]["process.pid"], who.pid);
        assert_eq!(
            calls[0]["imds.connector.pid"], who.pid,
            "the same process before its exec"
        );
        assert_ne!(
            calls[0]["process.command_args"],
            calls[0]["imds.connector.command_args"]
        );
    }
}

#[test]
fn a_process_that_was_handed_the_socket_is_the_caller() {
    let args = ["send", "--request", "v1", "--by", "pass-fd"];
    for (who, calls) in play(optional(), &args, &[Call::v1()]) {
        assert_ne!(who.sender, who.pid);
        assert_eq!(calls[0]["process.pid"], who.sender);
        assert_eq!(calls[0]["imds.connector.pid"], who.pid);
    }
}

#[test]
fn another_thread_is_the_same_process() {
    for (who, calls) in play(
        optional(),
        &["send", "--request", "v1,v1", "--by", "thread"],
        &[Call::v1(), Call::v1()],
    ) {
        assert_eq!(calls[0]["process.pid"], who.pid);
        assert_eq!(calls[0]["imds.connector.pid"], Value::Null);
    }
}

#[test]
fn names_and_arguments_that_are_not_utf8() {
    send("v1", &["--comm", "\\xff\\xfe)\\n x"], &[Call::v1()]);
    for (_, calls) in play(
        optional(),
        &["send", "--request", "v1", "--argv-junk"],
        &[Call::v1()],
    ) {
        let args = calls[0]["process.command_args"].to_string();
        assert!(args.contains('\u{fffd}'), "{args}");
    }
}

/// The name that this host gives a user.
fn name_of(uid: u32) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Lets the child that `command` will spawn be another user: once it is on the stage, which
/// only root may enter.
fn become_user(command: &mut Command, uid: u32) -> &mut Command {
    let change = move || {
        // SAFETY: system calls without memory, but for an empty list.
        let refused =
            unsafe { libc::setgroups(0, std::ptr::null()) | libc::setgid(uid) | libc::setuid(uid) };
        if refused == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    };
    // SAFETY: between fork and exec the closure makes three system calls and no allocation.
    unsafe { command.pre_exec(change) }
}

#[test]
fn a_client_of_another_user_is_that_users() {
    if skipped() {
        return;
    }
    let client = own_client("wire-client");
    for uid in [65534, 54_321] {
        for more in [&[][..], &["--exit-at-once"], &["--by", "fork"]] {
            let mut scene = Scene::new(optional());
            for _ in 0..repetitions() {
                let mut command = scene.command(&client.path);
                become_user(command.args(["send", "--request", "v1"]).args(more), uid);
                let _ = scene.client(&mut command);
                let _ = scene.unseen(|| scene.client(&mut command));
            }
            let seen = scene.finish();
            assert_eq!(seen.len(), 2 * repetitions(), "{seen:#?}");
            for call in &seen {
                assert_eq!(call["process.user.id"], uid, "{call}");
                assert_eq!(
                    call["process.user.name"],
                    Value::from(name_of(uid)),
                    "{call}"
                );
                let path = call["process.executable.path"].as_str();
                assert_eq!(path, client.path.to_str(), "{call}");
            }
        }
    }
}

#[test]
fn root_is_root() {
    for (_, calls) in play(optional(), &["send", "--request", "v1"], &[Call::v1()]) {
        assert_eq!(calls[0]["process.user.name"], Value::from(name_of(0)));
    }
}

#[test]
fn a_client_in_a_cgroup_is_found_there_even_if_it_is_gone() {
    if skipped() {
        return;
    }
    for more in [
        &[][..],
        &["--exit-at-once"],
        &["--by", "fork"],
        &["--by", "pass-fd"],
    ] {
        let Some(cgroup) = Cgroup::new() else { return };
        let mut scene = Scene::new(optional());
        for _ in 0..repetitions() {
            let mut command = scene.command(program("wire-client"));
            cgroup.enter(command.args(["send", "--request", "v1"]).args(more));
            let _ = scene.client(&mut command);
            // Only the kernel can tell where this one was.
            let _ = scene.unseen(|| scene.client(&mut command));
        }
        let elsewhere = scene.wire(&["send", "--request", "v1"]);
        let seen = scene.finish();
        assert_eq!(seen.len(), 2 * repetitions() + 1, "{seen:#?}");
        for call in &seen {
            let is_here = call["process.linux.cgroup"] == cgroup.path;
            assert_eq!(
                is_here,
                call["process.pid"] != elsewhere.pid,
                "{more:?}: {call}"
            );
        }
    }
}

#[test]
fn ancestors_are_the_chain_of_parents() {
    if skipped() {
        return;
    }
    if !is_installed("sh") {
        eprintln!("SKIPPED: sh is not installed");
        return;
    }
    let script = r#"echo $$; sh -c 'echo $$; "$0" "$@"; true' "$0" "$@"; true"#;
    for more in [&[][..], &["--exit-at-once"], &["--by", "fork"]] {
        let mut scene = Scene::new(optional());
        let mut chains = Vec::new();
        for number in 0..2 * repetitions() {
            let mut command = scene.command("sh");
            command.args(["-c", script]).arg(program("wire-client"));
            command.args(["send", "--request", "v1"]).args(more);
            let who = if number % 2 == 0 {
                scene.client(&mut command)
            } else {
                scene.unseen(|| scene.client(&mut command))
            };
            let mut chain: Vec<u32> = who.printed[..2]
                .iter()
                .map(|pid| pid.parse().unwrap())
                .collect();
            if who.sender != who.pid {
                chain.push(who.pid);
            }
            chain.reverse();
            chain.push(std::process::id());
            chains.push(chain);
        }
        let seen = scene.finish();
        assert_eq!(seen.len(), chains.len(), "{seen:#?}");
        for (chain, call) in chains.iter().zip(&seen) {
            let ancestors = call["process.ancestors"].as_array().unwrap();
            let pids: Vec<_> = ancestors
                .iter()
                .map(|a| a["pid"].as_u64().unwrap())
                .collect();
            let known = pids.len().min(chain.len());
            assert!(known >= 3, "{call}");
            let expected: Vec<_> = chain.iter().map(|&pid| u64::from(pid)).collect();
            assert_eq!(pids[..known], expected[..known], "{more:?}: {call}");
            assert_eq!(call["process.parent_pid"], chain[0]);
            let first = if more.contains(&"fork") {
                "wire-client"
            } else {
                "sh"
            };
            assert_eq!(ancestors[0]["name"], first, "{call}");
            assert_eq!(ancestors[1]["name"], "sh", "{call}");
        }
    }
}
