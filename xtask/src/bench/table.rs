//! Measurements as Markdown tables.

use super::figures::{Calls, Figures, InstructionCounts, Quartiles, Summary};
use std::fmt::Write as _;

/// Goal: at most this many times the cost of the empty program ("floor").
const MAX_RATIO: f64 = 1.15;
/// Goal: processors used at the paced rate.
const MAX_CORES: f64 = 0.5;
/// Goal: RSS in MiB at the end of each row.
const MAX_RSS_MIB: f64 = 12.0;

/// The cost for traffic other than IMDS, in instructions.
pub fn instructions(figures: &Figures) -> String {
    let mut text = "| one operation, instructions | off | floor adds | imdsmon adds | imdsmon / floor | imdsmon / off | rounds that agree |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for summary in figures.instruction_counts() {
        let InstructionCounts {
            workload,
            least: [off, floor, imdsmon],
            agree,
            rounds,
        } = summary;
        let (floor, imdsmon) = (floor - off, imdsmon - off);
        let ratio = if floor < 1.0 {
            "-".to_owned()
        } else {
            format!(
                "{:.2}{}",
                imdsmon / floor,
                above(imdsmon / floor, MAX_RATIO)
            )
        };
        let share = imdsmon / off * 100.0;
        line(
            &mut text,
            format_args!(
                "{} | {off:.0} | {floor:.0} | {imdsmon:.0} | {ratio} | {share:+.2} % | {agree} of {rounds}",
                described(&workload),
            ),
        );
    }
    text.push_str(
        "\nEach round is the median of single operations. The table shows the minimum of the rounds \
         and how many rounds are within 0.1 % of it.\n",
    );
    text
}

/// The cost for traffic other than IMDS, in nanoseconds.
pub fn packets(figures: &Figures) -> String {
    let mut text = "| one operation, ns | off | floor adds | imdsmon adds | imdsmon / floor | imdsmon / off | rounds |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for summary in figures.summaries() {
        let Summary {
            ref workload,
            rounds,
            off,
            floor,
            imdsmon,
        } = summary;
        let ratio = match summary.ratio() {
            Some(ratio) => format!("{ratio:.2}{}", above(ratio, MAX_RATIO)),
            None if floor.median.abs() <= floor.error => "no cost".to_owned(),
            None => "not resolved".to_owned(),
        };
        let share = imdsmon.median / off.median * 100.0;
        line(
            &mut text,
            format_args!(
                "{} | {} | {} | {} | {ratio} | {share:+.2} % | {rounds}",
                described(workload),
                spread(off),
                spread(floor),
                spread(imdsmon),
            ),
        );
    }
    text.push_str(
        "\nMedians over the rounds ± their uncertainty (95 %), with quartiles in brackets. The cost \
         of a variant is the difference within a round, in which the variants alternate.",
    );
    if figures.disturbed > 0 {
        let count = figures.disturbed;
        append(
            &mut text,
            format_args!(" {count} measurements were discarded: other programs were attached."),
        );
    }
    text.push('\n');
    text
}

/// The cost of monitoring many calls.
pub fn calls(rows: &[Calls]) -> String {
    let mut text = "| requests | sent = recorded | missing, wrong, duplicate | per second | without a monitor | cores (user + system) | RSS, MiB | peak | heap / file / shared |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    for row in rows {
        let value = |key| row.value(key);
        let cores = value("cores");
        let mebibytes = |key| value(key) / 1024.0;
        let resident = mebibytes("rss_kib");
        let busy = if row.name == "paced" {
            above(cores, MAX_CORES)
        } else {
            ""
        };
        line(
            &mut text,
            format_args!(
                "{} | {} (v1 {}, v2 {}, token {}) | {}, {}, {} | {} | {} | {cores:.2} ({:.2} s + {:.2} s){busy} | {resident:.1}{} | {:.1} | {:.1} / {:.1} / {:.1}",
                described(&row.name),
                value("count"),
                value("v1"),
                value("v2"),
                value("token"),
                value("lost"),
                value("wrong"),
                value("duplicate"),
                value("rate"),
                value("unwatched"),
                value("user"),
                value("system"),
                above(resident, MAX_RSS_MIB),
                mebibytes("peak_kib"),
                mebibytes("anon_kib"),
                mebibytes("file_kib"),
                mebibytes("shmem_kib"),
            ),
        );
    }
    text
}

fn described(name: &str) -> &str {
    match name {
        "round-trip" => "1-byte TCP round trip, two threads",
        "packets" => "1-byte TCP round trip, one thread",
        "stream" => "64 KiB of a TCP stream",
        "unix" => "1 byte over a Unix socket",
        "paced" => "paced, 16 keep-alive connections",
        "burst" => "flat out, 16 keep-alive connections",
        "new-connections" => "flat out, each on a new connection",
        other => other,
    }
}

fn above(value: f64, goal: f64) -> &'static str {
    if value > goal {
        " (above the goal)"
    } else {
        ""
    }
}

fn spread(quartiles: Quartiles) -> String {
    let Quartiles {
        lower,
        median,
        upper,
        error,
    } = quartiles;
    format!("{median:.0} ± {error:.0} [{lower:.0} to {upper:.0}]")
}

fn line(text: &mut String, cells: std::fmt::Arguments<'_>) {
    append(text, format_args!("| {cells} |\n"));
}

fn append(text: &mut String, end: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(end);
}
