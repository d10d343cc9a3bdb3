//! A call as one line for a person: aligned, colored where the stream shows colors.

use std::{
    io::{self, Write},
    time::Duration,
};

use anstyle::{AnsiColor, Style};

use crate::text::{escape::escaped, shell};
use crate::{
    event::bytes::ByteString,
    http::call::{Auth, Call, HttpEvent, Response, TokenValue},
    identity::{Caller, Process},
    pipeline::AttributedEvent,
};

/// Characters of a path, a program or a name that are shown at most.
const MAX_CHARS: usize = 256;
/// Characters of the arguments that are shown at most.
const MAX_ARGV_CHARS: usize = 120;

const ALARM: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const TOKEN: Style = AnsiColor::Cyan.on_default();
const ODD: Style = AnsiColor::Yellow.on_default();
const DIM: Style = Style::new().dimmed();

pub(crate) fn heading(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{DIM}{:<12} {:<5} {:<9} {:<22} {:<8} {:<7} REQUEST{DIM:#}",
        "TIME (UTC)", "KIND", "STATUS", "PROGRAM", "USER", "LATENCY"
    )
}

/// One event, with a second line if the process is known.
pub(crate) fn line(out: &mut impl Write, attributed: &AttributedEvent) -> io::Result<()> {
    match &attributed.event {
        HttpEvent::Call(call) => {
            let (kind, style) = kind(call);
            write!(
                out,
                "{DIM}{}{DIM:#} {style}{kind:<5}{style:#} ",
                call.time.to_time_of_day()
            )?;
            status(out, call)?;
            process(out, &attributed.caller)?;
            let takes = call.response.latency().map(takes).unwrap_or_default();
            write!(
                out,
                "{takes:<7} {} {}",
                escaped(&call.request.method, MAX_CHARS),
                escaped(&call.request.path, MAX_CHARS)
            )?;
            if let Some(query) = &call.request.query {
                write!(out, "?{}", escaped(query, MAX_CHARS))?;
            }
            if call.request.auth == Auth::V2(TokenValue::Empty) {
                write!(out, " {ODD}(the token header has no token in it){ODD:#}")?;
            }
        }
        HttpEvent::Unparsed(unparsed) => {
            write!(
                out,
                "{DIM}{}{DIM:#} {ODD}{:<5}{ODD:#} {:<9} ",
                unparsed.time.to_time_of_day(),
                "?",
                ""
            )?;
            process(out, &attributed.caller)?;
            write!(
                out,
                "{:<7} {} bytes that are no HTTP request",
                "", unparsed.bytes
            )?;
        }
    }
    writeln!(out)?;
    origin(out, &attributed.caller)
}

fn kind(call: &Call) -> (&'static str, Style) {
    let auth = call.request.auth;
    let style = match auth {
        Auth::V1 => ALARM,
        Auth::V2(TokenValue::Empty) => ODD,
        Auth::V2(TokenValue::Present) => GOOD,
        Auth::TokenRequest => TOKEN,
    };
    (auth.version().into(), style)
}

fn status(out: &mut impl Write, call: &Call) -> io::Result<()> {
    let (text, style) = match (&call.response, call.response.status()) {
        (Response::None, _) => ("none".into(), ODD),
        (_, None) => ("unknown".into(), Style::new()),
        (_, Some(status @ 200..=299)) => (status.to_string(), Style::new()),
        (_, Some(status)) => (status.to_string(), ODD),
    };
    write!(out, "{style}{text:<9}{style:#} ")
}

fn process(out: &mut impl Write, caller: &Caller) -> io::Result<()> {
    let Some(process) = &caller.process else {
        return write!(out, "{:<22} {:<8} ", "(unknown)", "");
    };
    let program = format!("{}[{}]", escaped(&process.name.to_text(), 32), process.pid);
    let user = process
        .user
        .clone()
        .unwrap_or_else(|| process.uid.to_string());
    write!(out, "{program:<22} {:<8} ", escaped(&user, 32))
}

/// The second line: arguments, cgroup, parent and the process that opened the connection.
fn origin(out: &mut impl Write, caller: &Caller) -> io::Result<()> {
    let Some(process) = caller.process.as_deref() else {
        return Ok(());
    };
    write!(out, "{DIM}{:13}└ {}", "", command(process))?;
    if let Some(cgroup) = process.cgroup.as_ref().filter(|path| &path[..] != b"/") {
        write!(out, "  in {}", escaped(&cgroup.to_text(), MAX_CHARS))?;
    }
    if let Some((pid, name)) = process.ancestors.first() {
        write!(out, "  from {}[{pid}]", escaped(&name.to_text(), 32))?;
    }
    if let Some(connector) = &caller.connector {
        let name = connector.name.to_text();
        write!(
            out,
            "  on a connection of {}[{}]",
            escaped(&name, 32),
            connector.pid
        )?;
    }
    writeln!(out, "{DIM:#}")
}

fn command(process: &Process) -> String {
    if process.args.is_empty() {
        let exe = process
            .exe
            .as_ref()
            .map(ByteString::to_text)
            .unwrap_or_default();
        return escaped(&exe, MAX_CHARS).to_string();
    }
    let args: Vec<String> = process.args.iter().map(ByteString::to_text).collect();
    escaped(&short_blanks(&shell::join(&args)), MAX_ARGV_CHARS).to_string()
}

/// A blanked token value needs no more than three characters to be seen as one.
fn short_blanks(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("***") {
        let blank = rest[at..]
            .find(|c| !matches!(c, '*' | '!'))
            .unwrap_or(rest.len() - at);
        shown.push_str(&rest[..at]);
        shown.push_str("***");
        rest = &rest[at + blank..];
    }
    shown + rest
}

/// A latency in at most seven characters.
fn takes(latency: Duration) -> String {
    let us = latency.as_micros();
    match us {
        0..1000 => format!("{us} us"),
        1000..10_000 => format!("{}.{} ms", us / 1000, us / 100 % 10),
        10_000..10_000_000 => format!("{} ms", us / 1000),
        _ => format!("{} s", us / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use crate::output::text::*;
    use crate::{
        event::{ConnectionId, Endpoint, TaskId},
        http::call::{Request, Unparsed},
        output::json::tests::{anonymous, call, caller, response},
        time::Timestamp,
    };

    /// What a person reads, without colors.
    fn shown(attributed: &AttributedEvent) -> String {
        let mut out = anstream::StripStream::new(Vec::new());
        line(&mut out, attributed).unwrap();
        String::from_utf8(out.into_inner()).unwrap()
    }

    fn assert_has(text: &str, parts: &[&str]) {
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }

    #[test]
    fn call_is_shown_with_its_caller() {
        let text = shown(&AttributedEvent {
            caller: caller(),
            ..anonymous(call())
        });
        assert_has(
            &text,
            &[
                "22:13:20",
                "v2",
                "200",
                "curl",
                "70",
                "nobody",
                "512 us",
                "GET",
                "/latest/user-data",
                "a=b",
                "curl -s",
                "/system.slice/cron.service",
                "sh[7]",
                "socat[7]",
            ],
        );
        let alone = shown(&AttributedEvent {
            caller: Caller {
                connector: None,
                ..caller()
            },
            ..anonymous(call())
        });
        assert!(!alone.contains("socat"), "{alone}");
    }

    #[test]
    fn each_kind_and_each_answer_can_be_told_apart() {
        let text = |change: fn(&mut Call)| {
            let mut call = call();
            change(&mut call);
            shown(&anonymous(call))
        };
        assert_has(&text(|c| c.request.auth = Auth::V1), &[" v1 "]);
        assert_has(&text(|c| c.request.auth = Auth::TokenRequest), &[" token "]);
        assert_has(&text(|c| c.response = response(Some(401))), &[" 401 "]);
        assert_has(&text(|c| c.response = Response::None), &[" none "]);
        assert_has(&text(|c| c.response = response(None)), &[" unknown "]);
        assert_has(&text(|c| c.response = Response::Unseen), &[" unknown "]);
        let empty = text(|c| c.request.auth = Auth::V2(TokenValue::Empty));
        assert_ne!(empty, text(|_| ()), "a token header without a token");
        let unparsed = shown(&AttributedEvent {
            event: HttpEvent::Unparsed(Unparsed {
                time: Timestamp::default(),
                connection: ConnectionId(1),
                task: TaskId::new(1),
                server: Endpoint::V4,
                bytes: 1717,
            }),
            caller: Caller::default(),
            sdk: None,
        });
        assert_has(&unparsed, &[" 1717 "]);
    }

    #[test]
    fn arguments_with_blanks_are_quoted() {
        let mut caller = caller();
        if let Some(process) = caller.process.as_mut().and_then(std::rc::Rc::get_mut) {
            process.args = ["sh", "-c", "curl x; id"]
                .map(|arg| arg.as_bytes().into())
                .into();
        }
        let attributed = AttributedEvent {
            caller,
            ..anonymous(call())
        };
        let mut out = Vec::new();
        line(&mut out, &attributed).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("sh -c 'curl x; id'"), "{text:?}");
    }

    #[test]
    fn what_a_caller_says_of_itself_cannot_reach_the_terminal() {
        let mut caller = caller();
        let evil = "\x1b[2J\u{202e}";
        if let Some(process) = caller.process.as_mut().and_then(std::rc::Rc::get_mut) {
            process.name = evil.as_bytes().into();
            process.user = Some(evil.into());
            process.args = vec![evil.as_bytes().into()];
            process.cgroup = Some(evil.as_bytes().into());
            process.ancestors = vec![(1, evil.as_bytes().into())];
        }
        let attributed = AttributedEvent {
            caller,
            ..anonymous(Call {
                request: Request {
                    method: evil.into(),
                    path: evil.into(),
                    query: Some(evil.into()),
                    ..call().request
                },
                ..call()
            })
        };
        let mut out = Vec::new();
        line(&mut out, &attributed).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            !text.contains("\x1b[2J") && !text.contains('\u{202e}'),
            "{text:?}"
        );
    }

    #[test]
    fn blanked_values_are_short_and_the_rest_stays() {
        assert_eq!(
            short_blanks("-H token: ********** http://h/*"),
            "-H token: *** http://h/*"
        );
        assert_eq!(short_blanks("****!***"), "***");
        assert_eq!(short_blanks("a ** b!"), "a ** b!");
    }

    #[test]
    fn latencies_fit_their_column() {
        for (us, text) in [
            (7, "7 us"),
            (3318, "3.3 ms"),
            (9_999_999, "9999 ms"),
            (61_000_000, "61 s"),
        ] {
            assert_eq!(takes(Duration::from_micros(us)), text);
            assert!(text.len() <= 7);
        }
    }
}
