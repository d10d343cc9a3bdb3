//! The name of a program: the script, not only its interpreter; for a bare tool also the script
//! that runs it; without parts that vary from run to run.

use super::{
    interpreter::{Script, interpreter, script},
    process::{Process, file_name},
};
use crate::event::bytes::ByteString;
use crate::{
    identity::normalize::normalize,
    text::clip::{clip, clip_to},
};

/// Characters kept of code on a command line: enough to recognize it.
const MAX_CODE_CHARS: usize = 48;
/// Bytes of an `aws` service or operation, or of a title's first token.
const MAX_TOKEN: usize = 64;

/// Tools that are named together with the script that runs them.
const TOOLS: [&str; 18] = [
    "curl", "wget", "aws", "http", "https", "xh", "aria2c", "lynx", "links", "w3m", "nc", "ncat",
    "netcat", "socat", "telnet", "openssl", "busybox", "GET",
];

/// Ancestors above which no script ran the tool. The kernel truncates names to 15 bytes.
const BOUNDARIES: [&[u8]; 9] = [
    b"containerd-shim",
    b"conmon",
    b"dockerd",
    b"systemd",
    b"init",
    b"sshd",
    b"cron",
    b"CRON",
    b"crond",
];

/// Options of `aws` before the service that take no value (`aws help`).
const AWS_FLAGS: [&str; 10] = [
    "--debug",
    "--no-verify-ssl",
    "--no-paginate",
    "--no-sign-request",
    "--no-cli-pager",
    "--cli-auto-prompt",
    "--no-cli-auto-prompt",
    "--no-color",
    "--version",
    "--v2-debug",
];

/// The program of a process: `nginx`, `python3 /opt/app/worker.py`, `java -jar app.jar`,
/// `aws s3 ls`, `curl from /etc/cron.daily/backup`, `bash -c …`.
pub(crate) fn program(process: &Process) -> String {
    let name = process.name.to_text();
    let (what, is_tool) = what(&name, &process.args);
    if is_tool && let Some(origin) = origin(process) {
        return clip(&format!("{what} from {origin}"));
    }
    clip(&what)
}

/// The script that a command line runs: its path, or the interpreter with its argument. `None` if
/// there is no script.
pub(crate) fn script_of(args: &[ByteString]) -> Option<String> {
    let name = file_name(args.first()?);
    let name = String::from_utf8_lossy(name.strip_prefix(b"-").unwrap_or(name));
    let interpreter = interpreter(&name)?;
    match script(interpreter, args)? {
        // A descriptor does not name its content.
        Script::File(path) if path.starts_with("/dev/") || path.starts_with("/proc/") => None,
        Script::File(path) => Some(normalize(&path)),
        Script::Named(name) => Some(format!("{interpreter} {}", normalize(&name))),
        Script::Code(..) => None,
    }
}

/// The code that a command line passes to a shell, truncated.
pub(crate) fn shell_code(args: &[ByteString]) -> Option<String> {
    let name = String::from_utf8_lossy(file_name(args.first()?)).into_owned();
    match script(
        interpreter(&name).filter(|name| name.ends_with("sh"))?,
        args,
    )? {
        Script::Code(_, code) => Some(cut(&code)),
        _ => None,
    }
}

/// The name, and whether it is a bare tool.
fn what(name: &str, args: &[ByteString]) -> (String, bool) {
    let Some(interpreter) = interpreter(name) else {
        return bare(name, args);
    };
    match script(interpreter, args) {
        Some(Script::File(path)) if file_name(path.as_bytes()) == b"aws" => {
            let at = args.iter().position(|arg| arg[..] == *path.as_bytes());
            (aws(args, at.unwrap_or(0)), true)
        }
        Some(Script::File(path)) => (format!("{interpreter} {}", normalize(&path)), false),
        Some(Script::Named(name)) => (format!("{interpreter} {}", normalize(&name)), false),
        Some(Script::Code(option, code)) => {
            (format!("{interpreter} {option} {}", cut(&code)), true)
        }
        None => (title(interpreter, args), false),
    }
}

fn bare(name: &str, args: &[ByteString]) -> (String, bool) {
    let name = match name {
        "busybox" => {
            let first = args.first().map(|arg| file_name(arg));
            let applet = match first {
                Some(b"busybox") => args.get(1).map(|arg| &arg[..]),
                first => first,
            };
            applet.map_or_else(
                || name.into(),
                |applet| format!("busybox {}", first_token(applet)),
            )
        }
        "aws" => return (aws(args, 0), true),
        _ => name.into(),
    };
    let is_tool = TOOLS.contains(&&*name) || name.starts_with("busybox");
    (name, is_tool)
}

/// `aws` with service and operation, which determine its behavior.
fn aws(args: &[ByteString], at: usize) -> String {
    let mut words = args.iter().skip(at + 1).map(ByteString::to_text);
    let mut program = String::from("aws");
    let mut found = 0;
    while let Some(word) = words.next() {
        if word.starts_with('-') {
            if !word.contains('=') && !AWS_FLAGS.contains(&&*word) {
                words.next();
            }
            continue;
        }
        let is_name = word
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !is_name || word.len() > MAX_TOKEN {
            break;
        }
        program = format!("{program} {word}");
        found += 1;
        if found == 2 {
            break;
        }
    }
    program
}

/// An interpreter without a script may have set a title, whose first token is stable:
/// `gunicorn: worker [app]`, `puma 5.6.5 (tcp://0.0.0.0:9292)`.
fn title(interpreter: &str, args: &[ByteString]) -> String {
    let Some(title) = args
        .first()
        .filter(|_| args.iter().skip(1).all(|arg| arg.is_empty()))
    else {
        return interpreter.into();
    };
    let title = first_token(title);
    let plain = title.trim_start_matches('-');
    // Its own path, or a login shell's name, adds nothing.
    let is_itself = super::interpreter::interpreter(plain).is_some() || title.starts_with('-');
    if plain.is_empty()
        || is_itself
        || title.contains('/')
        || !args[0].contains(&b' ') && !args[0].contains(&b':')
    {
        return interpreter.into();
    }
    format!("{interpreter} {title}")
}

/// The text up to the first character that names do not contain.
fn first_token(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let end =
        text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | '/')));
    clip_to(&text[..end.unwrap_or(text.len())], MAX_TOKEN)
}

/// The nearest script above a process, within its container, session or job.
fn origin(process: &Process) -> Option<String> {
    let ancestors = process.ancestors.iter().zip(&process.ancestor_args);
    ancestors
        .take_while(|((_, name), _)| !BOUNDARIES.contains(&&name[..]))
        .find_map(|(_, args)| script_of(args))
}

fn cut(code: &str) -> String {
    let code = normalize(&clip(code));
    if code.chars().count() <= MAX_CODE_CHARS {
        return code;
    }
    let short: String = code.chars().take(MAX_CODE_CHARS - 1).collect();
    format!("{short}…")
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
