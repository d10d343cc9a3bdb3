//! What a run ends with: per program, how it spoke to IMDS; and how much of it was seen.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use anstyle::{AnsiColor, Style};

use super::escape::escaped;
use crate::{
    capture::{
        bytes::Bytes,
        event::{Totals, UnixNanos},
    },
    http::call::{Call, Finding, Outcome, TokenValue, Version},
    identity::Caller,
    pipeline::{Attributed, Pipeline},
    time::rfc3339,
};

/// Programs that are told apart; a hostile user could make up any number.
const PROGRAMS: usize = 1000;
/// Characters of a program's or a path's name that are shown.
const MAX: usize = 60;

const HEADING: Style = Style::new().bold();
const ALARM: Style = AnsiColor::Red.on_default().bold();
const WARN: Style = AnsiColor::Yellow.on_default();

/// Counts calls by program.
#[derive(Default)]
pub struct Summary {
    programs: BTreeMap<Program, Counts>,
    calls: u64,
    unparsed_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Program {
    name: String,
    user: String,
}

#[derive(Default)]
struct Counts {
    tokenless: u64,
    with_token: u64,
    empty_token: u64,
    token_requests: u64,
    unanswered: u64,
    last: UnixNanos,
    last_path: String,
}

impl Summary {
    /// Counts a finding.
    pub fn add(&mut self, found: &Attributed) {
        let mut program = program(&found.caller);
        if self.programs.len() >= PROGRAMS && !self.programs.contains_key(&program) {
            program = Program {
                name: "(others)".into(),
                user: String::new(),
            };
        }
        match &found.finding {
            Finding::Unparsed(unparsed) => {
                self.unparsed_bytes = self.unparsed_bytes.saturating_add(unparsed.bytes);
            }
            Finding::Call(call) => {
                self.calls += 1;
                self.programs.entry(program).or_default().add(call);
            }
        }
    }

    /// Writes the table, most tokenless calls first, and what is known of the run.
    pub fn write(&self, out: &mut impl Write, pipeline: &Pipeline) -> io::Result<()> {
        writeln!(out)?;
        if self.programs.is_empty() {
            writeln!(out, "No call to the metadata service was seen.")?;
        } else {
            self.table(out)?;
        }
        self.run(out, pipeline)
    }

    fn table(&self, out: &mut impl Write) -> io::Result<()> {
        let mut rows: Vec<_> = self.programs.iter().collect();
        rows.sort_by(|(a, x), (b, y)| y.tokenless.cmp(&x.tokenless).then_with(|| a.cmp(b)));
        let width = |get: fn(&Program) -> &str, title: &str| {
            let widths = rows
                .iter()
                .map(|(p, _)| escaped(get(p), MAX).to_string().chars().count());
            widths.max().unwrap_or(0).max(title.len())
        };
        let names = width(|p| &p.name, "PROGRAM");
        let users = width(|p| &p.user, "USER");
        writeln!(
            out,
            "{HEADING}{:names$}  {:users$}  TOKENLESS  WITH TOKEN  TOKEN REQUESTS  NO ANSWER  LAST PATH{HEADING:#}",
            "PROGRAM", "USER"
        )?;
        for (program, counts) in rows {
            let style = if counts.tokenless > 0 {
                ALARM
            } else {
                Style::new()
            };
            writeln!(
                out,
                "{:names$}  {:users$}  {style}{:>9}{style:#}  {:>10}  {:>14}  {:>9}  {}",
                escaped(&program.name, MAX),
                escaped(&program.user, MAX),
                counts.tokenless,
                counts.with_token,
                counts.token_requests,
                counts.unanswered,
                escaped(&counts.last_path, MAX),
            )?;
        }
        self.conclude(out)
    }

    /// What the table means for the one question. A run is too short to promise that nobody
    /// else calls without a token, so nothing here says "safe".
    fn conclude(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out)?;
        let empty: u64 = self
            .programs
            .values()
            .map(|counts| counts.empty_token)
            .sum();
        if empty > 0 {
            writeln!(
                out,
                "{WARN}{empty} calls had a token header without a token in it{WARN:#}: fetching the token failed."
            )?;
        }
        match self
            .programs
            .values()
            .filter(|counts| counts.tokenless > 0)
            .count()
        {
            0 => writeln!(out, "Nobody called without a token while this ran."),
            1 => writeln!(
                out,
                "{ALARM}One program calls without a token{ALARM:#}: HttpTokens=required refuses such calls."
            ),
            n => writeln!(
                out,
                "{ALARM}{n} programs call without a token{ALARM:#}: HttpTokens=required refuses such calls."
            ),
        }
    }

    fn run(&self, out: &mut impl Write, pipeline: &Pipeline) -> io::Result<()> {
        let (start, end) = pipeline.window().unwrap_or_default();
        let counters = pipeline.counters();
        let plural = if self.calls == 1 { "" } else { "s" };
        writeln!(out)?;
        write!(
            out,
            "Watched {} ({} to {}): {} call{plural}",
            length(end.saturating_sub(start)),
            second(start),
            second(end),
            self.calls
        )?;
        if self.unparsed_bytes > 0 {
            write!(out, ", {} bytes that are no request", self.unparsed_bytes)?;
        }
        writeln!(out, ".")?;
        let Some(Totals {
            segments,
            captured,
            lost,
            cut,
            unknown,
        }) = pipeline.totals()
        else {
            writeln!(
                out,
                "{WARN}The recording breaks off: what came after is not known.{WARN:#}"
            )?;
            return Ok(());
        };
        write!(
            out,
            "On the whole host: segments with data {segments}, records captured {captured}, "
        )?;
        let style = if lost.max(cut).max(unknown) > 0 {
            ALARM
        } else {
            Style::new()
        };
        writeln!(out, "{style}records lost {lost}{style:#}.")?;
        let doubts = [
            (
                lost,
                "records were lost: calls may be missing above; a larger --buffer loses less",
            ),
            (cut, "bytes of very long segments were not captured"),
            (unknown, "records were not understood"),
            (counters.gap_bytes, "bytes are missing from connections"),
            (
                counters.doubtful_answers,
                "calls were answered by something that was not seen",
            ),
            (
                counters.unmatched_responses,
                "answers came that belong to no request that was read",
            ),
            (
                counters.evicted_flows,
                "connections were given up because too many were open",
            ),
        ];
        for (count, what) in doubts.iter().filter(|(count, _)| *count > 0) {
            writeln!(out, "{WARN}In doubt: {count} {what}.{WARN:#}")?;
        }
        Ok(())
    }
}

impl Counts {
    fn add(&mut self, call: &Call) {
        match call.version {
            Version::V1 => self.tokenless += 1,
            Version::V2 => self.with_token += 1,
            Version::Token => self.token_requests += 1,
        }
        self.empty_token += u64::from(call.token == Some(TokenValue::Empty));
        self.unanswered += u64::from(call.outcome == Outcome::NoAnswer);
        if call.time >= self.last {
            self.last = call.time;
            self.last_path.clone_from(&call.path);
        }
    }
}

/// A time in the largest units that matter: `9.5 s`, `12 min 3 s`, `26 h 4 min`.
fn length(nanos: i64) -> String {
    let tenths = nanos / 100_000_000;
    let seconds = tenths / 10;
    match seconds {
        ..60 => format!("{seconds}.{} s", tenths % 10),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A point in time to the second.
fn second(time: UnixNanos) -> String {
    let text = rfc3339(time);
    text.split('.')
        .next()
        .map_or_else(|| text.clone(), |head| format!("{head}Z"))
}

fn program(caller: &Caller) -> Program {
    let Some(process) = caller.process.as_deref() else {
        return Program {
            name: "(unknown)".into(),
            user: String::new(),
        };
    };
    Program {
        name: process
            .exe
            .as_ref()
            .map_or_else(|| process.name.to_text(), Bytes::to_text),
        user: process
            .user
            .clone()
            .unwrap_or_else(|| process.uid.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::export::json::tests::{anonymous, call, caller};

    /// A finding of the program at `exe`.
    fn by(exe: &str, call: Call) -> Attributed {
        let mut caller = caller();
        if let Some(process) = caller.process.as_mut().and_then(Rc::get_mut) {
            process.exe = Some(exe.as_bytes().into());
        }
        Attributed {
            caller,
            ..anonymous(call)
        }
    }

    /// What a person reads, without colours.
    fn text(summary: &Summary) -> String {
        let mut out = anstream::StripStream::new(Vec::new());
        summary.write(&mut out, &Pipeline::default()).unwrap();
        String::from_utf8(out.into_inner()).unwrap()
    }

    #[test]
    fn calls_are_counted_by_program_the_most_tokenless_first() {
        let mut summary = Summary::default();
        let v1 = Call {
            version: Version::V1,
            token: None,
            ..call()
        };
        let unanswered = Call {
            version: Version::Token,
            token: None,
            outcome: Outcome::NoAnswer,
            status: None,
            ..call()
        };
        for _ in 0..3 {
            summary.add(&by("/few", call()));
        }
        summary.add(&by("/few", v1.clone()));
        summary.add(&by("/many", v1.clone()));
        summary.add(&by("/many", v1));
        summary.add(&by("/none", unanswered));
        let text = text(&summary);
        let numbers = |program: &str| -> Vec<u64> {
            let mut rows = text.lines().filter(|line| line.starts_with(program));
            let row = rows.next().unwrap();
            assert_eq!(rows.next(), None, "{text}");
            let words = row.split_whitespace().skip(2);
            words.map_while(|word| word.parse().ok()).collect()
        };
        assert_eq!(numbers("/many")[..4], [2, 0, 0, 0], "{text}");
        assert_eq!(numbers("/few")[..4], [1, 3, 0, 0], "{text}");
        assert_eq!(numbers("/none")[..4], [0, 0, 1, 1], "{text}");
        let at = |program: &str| text.find(program).unwrap();
        assert!(
            at("/many") < at("/few") && at("/few") < at("/none"),
            "{text}"
        );
        assert_eq!(summary.calls, 7);
    }

    #[test]
    fn users_of_one_program_are_told_apart_and_the_unknown_are_counted() {
        let mut summary = Summary::default();
        summary.add(&by("/agent", call()));
        let mut other = by("/agent", call());
        if let Some(process) = other.caller.process.as_mut().and_then(Rc::get_mut) {
            process.user = None;
        }
        summary.add(&other);
        summary.add(&anonymous(call()));
        let text = text(&summary);
        let mut rows = text.lines().filter(|line| line.starts_with("/agent"));
        assert!(
            rows.next().is_some_and(|row| row.contains("65534")),
            "{text}"
        );
        assert!(
            rows.next().is_some_and(|row| row.contains("nobody")),
            "{text}"
        );
        assert_eq!(summary.programs.len(), 3);
    }

    #[test]
    fn made_up_programs_cannot_fill_the_memory() {
        let mut summary = Summary::default();
        for number in 0..PROGRAMS + 500 {
            summary.add(&by(&format!("/{number}"), call()));
        }
        assert_eq!(summary.programs.len(), PROGRAMS + 1);
        assert_eq!(summary.calls, PROGRAMS as u64 + 500);
        let others = summary.programs.values().map(|counts| counts.with_token);
        assert_eq!(others.sum::<u64>(), summary.calls, "none is forgotten");
    }

    #[test]
    fn without_a_call_there_is_no_table() {
        assert!(text(&Summary::default()).contains("No call"));
    }

    #[test]
    fn a_length_has_the_units_that_matter() {
        for (seconds, text) in [
            (0, "0.0 s"),
            (59, "59.0 s"),
            (75, "1 min 15 s"),
            (93_600, "26 h 0 min"),
        ] {
            assert_eq!(length(seconds * 1_000_000_000), text);
        }
        assert_eq!(second(0), "1970-01-01T00:00:00Z");
    }
}
