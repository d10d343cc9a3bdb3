//! The report's formats: what a reader relies on, and that nothing a process says of itself
//! breaks out of them.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use imdsmon::{report::model::Report, text::escape::is_unsafe};
use proptest::prelude::*;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use serde_json::{Map, Value};
use tests::report::{
    FORMATS, FORMULAS, HOSTILE, busy, colored, hostile, overflowed, plain, quiet, unwatched,
};
use unicode_width::UnicodeWidthStr as _;

const SCHEMA: &str = include_str!("../../docs/report.schema.json");

fn format(extension: &str, report: &Report) -> String {
    let (_, format) = FORMATS.iter().find(|(name, _)| *name == extension).unwrap();
    format(report)
}

/// No schema of an object lets through what it does not name.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.contains_key("properties") {
                object.insert("additionalProperties".into(), false.into());
            }
            object.values_mut().for_each(close);
        }
        Value::Array(array) => array.iter_mut().for_each(close),
        _ => (),
    }
}

#[test]
fn the_json_is_as_its_schema_says_field_by_field() {
    let open: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut closed = open.clone();
    close(&mut closed);
    assert!(jsonschema::meta::is_valid(&open));
    let closed = jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(&closed)
        .unwrap();
    for report in [busy(), quiet(), unwatched(), hostile()] {
        let json: Value = serde_json::from_str(&format("json", &report)).unwrap();
        let errors: Vec<String> = closed
            .iter_errors(&json)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert_eq!(errors, Vec::<String>::new());
    }
    // And the schema would notice.
    let json: Value = serde_json::from_str(&format("json", &busy())).unwrap();
    let spoilt = |change: fn(&mut Map<String, Value>)| {
        let mut json = json.clone();
        change(json["clients"][0].as_object_mut().unwrap());
        json
    };
    for json in [
        spoilt(|client| drop(client.insert("undocumented".into(), 1.into()))),
        spoilt(|client| drop(client.remove("verdict"))),
        spoilt(|client| drop(client.insert("verdict".into(), "fine".into()))),
        spoilt(|client| drop(client.insert("first_seen".into(), "yesterday".into()))),
    ] {
        assert!(!closed.is_valid(&json));
    }
}

#[test]
fn json_of_hostile_strings_keeps_them_unchanged() {
    let json = format("json", &hostile());
    assert!(json.chars().all(|c| c == '\n' || !is_unsafe(c)));
    let value: Value = serde_json::from_str(&json).unwrap();
    for (client, text) in value["clients"].as_array().unwrap().iter().zip(HOSTILE) {
        assert_eq!(client["name"], *text);
        assert_eq!(client["client"]["workload"]["container"]["image"], *text);
    }
}

#[test]
fn the_first_line_of_the_text_is_the_answer() {
    for (report, begin) in [
        (busy(), "NOT READY: 5 clients would lose access"),
        (quiet(), "READY: "),
        (unwatched(), "INCONCLUSIVE: "),
    ] {
        let text = plain(&report, 100);
        assert!(text.starts_with(begin), "{text}");
    }
}

#[test]
fn text_fits_the_terminal_except_commands_and_links() {
    for report in [busy(), quiet(), unwatched(), hostile(), overflowed(50)] {
        let pasted: Vec<String> = report
            .clients
            .iter()
            .flat_map(|client| &client.judgement.remedy.commands)
            .chain(report.next_steps.iter().flat_map(|step| &step.commands))
            .cloned()
            .collect();
        for width in [80, 100, 160] {
            for line in plain(&report, width).lines() {
                let line = line.trim_start();
                let is_pasted = line.starts_with("See https://")
                    || line.starts_with("restart '")
                    || pasted.iter().any(|command| command == line);
                assert!(line.width() <= width || is_pasted, "{width}: {line}");
            }
        }
    }
}

#[test]
fn commands_are_whole_and_alone_on_their_line() {
    for text in [plain(&busy(), 80), format("md", &busy())] {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for step in busy().next_steps {
            for command in &step.commands {
                assert!(lines.contains(&&**command), "{command}");
            }
        }
    }
}

#[test]
fn a_line_end_in_a_name_does_not_make_a_command_two() {
    let report = named("x\nrm -rf /\r\nreboot");
    for extension in ["txt", "md", "html"] {
        let text = format(extension, &report);
        let is_own = |line: &str| line.starts_with("rm -rf") || line.starts_with("reboot");
        assert!(
            !text.lines().any(|line| is_own(line.trim_start())),
            "{extension}"
        );
    }
}

#[test]
fn text_of_a_process_never_controls_the_terminal() {
    for extension in ["txt", "md", "csv", "json"] {
        let text = format(extension, &hostile());
        let bad = text
            .chars()
            .find(|c| *c != '\n' && is_unsafe(*c) && *c != '\u{200b}');
        assert_eq!(bad, None, "{extension}");
    }
    // Colors are the only escapes: ESC [ digits ; m.
    let text = colored(&hostile(), 100);
    for escape in text.split('\x1b').skip(1) {
        let end = escape.find(|c: char| !matches!(c, '[' | ';' | '0'..='9'));
        assert_eq!(
            end.and_then(|at| escape[at..].chars().next()),
            Some('m'),
            "{escape:?}"
        );
    }
}

#[test]
fn markdown_of_hostile_strings_has_only_our_markup() {
    for report in [busy(), hostile()] {
        let text = format("md", &report);
        let mut cells = 0;
        let mut rows = 0;
        let mut in_code = false;
        for event in Parser::new_ext(&text, Options::all()) {
            match event {
                Event::Html(html) | Event::InlineHtml(html) => {
                    assert_eq!(html.as_ref(), "", "HTML");
                }
                Event::Start(Tag::Image { dest_url, .. }) => {
                    assert_eq!(dest_url.as_ref(), "", "image");
                }
                Event::Start(Tag::Link { dest_url, .. }) => {
                    assert!(
                        dest_url.starts_with("https://docs.aws.amazon.com/"),
                        "{dest_url}"
                    );
                }
                Event::Start(Tag::TableRow) => rows += 1,
                Event::Start(Tag::TableCell) => cells += 1,
                Event::Start(Tag::CodeBlock(_)) => in_code = true,
                Event::End(TagEnd::CodeBlock) => in_code = false,
                Event::Text(text) if !in_code => {
                    // What GitHub would find in plain text, it finds as it is shown.
                    for link in ["@octocat", "@everyone", "http://evil", "www.evil", "#1 "] {
                        assert!(!text.contains(link), "{link} in {text}");
                    }
                }
                Event::InlineMath(math) | Event::DisplayMath(math) => {
                    assert_eq!(math.as_ref(), "", "math");
                }
                _ => (),
            }
        }
        let metrics = report.cloudwatch.unwrap().metrics.len();
        assert_eq!(rows, report.clients.len() + metrics);
        assert_eq!(cells, (report.clients.len() + 1) * 7 + (metrics + 1) * 5);
    }
}

#[test]
fn markdown_shows_each_hostile_string_in_its_own_cell() {
    let text = format("md", &hostile());
    let mut codes = Vec::new();
    for event in Parser::new_ext(&text, Options::all()) {
        if let Event::Code(code) = event {
            codes.push(code.into_string());
        }
    }
    for hostile in HOSTILE
        .iter()
        .filter(|text| text.chars().all(|c| !is_unsafe(c)))
    {
        assert!(codes.iter().any(|code| code == hostile), "{hostile}");
    }
}

#[test]
fn csv_of_hostile_strings_has_one_row_a_client_no_formula() {
    let report = hostile();
    let text = format("csv", &report);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns = reader.headers().unwrap().len();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), report.clients.len());
    assert_eq!(text.lines().count(), rows.len() + 1, "a row is a line");
    for row in &rows {
        assert_eq!(row.len(), columns);
        for cell in row {
            assert!(
                !cell.trim_start().starts_with(['=', '+', '-', '@', '＝']),
                "{cell}"
            );
        }
    }
    let programs: Vec<&str> = rows.iter().map(|row| &row[4]).collect();
    assert!(
        FORMULAS
            .iter()
            .any(|text| programs.contains(&&*format!("'{text}")))
    );
}

/// The quiet report with one client that has a say in every string.
fn named(text: &str) -> Report {
    let mut report = hostile();
    report.clients.truncate(1);
    let client = &mut report.clients[0];
    text.clone_into(&mut client.client.program);
    text.clone_into(&mut client.client.workload.name);
    text.clone_into(&mut client.client.user);
    client.user_agents = vec![text.to_owned()];
    client.samples[0].args = vec![text.to_owned()];
    text.clone_into(&mut client.judgement.remedy.short);
    client.judgement.remedy.commands = vec![text.to_owned()];
    report
}

/// Strings of what markup is made of, and any.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[-`|\\\\<>&\"'@#*_~:/!\\[\\](){}=+ a\n\r\t\x1b]{0,40}",
        "\\PC{0,40}",
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_string_leaves_each_format_as_it_is(text in any_text()) {
        let report = named(&text);
        let markdown = format("md", &report);
        let mut rows = Vec::new();
        for event in Parser::new_ext(&markdown, Options::all()) {
            match event {
                Event::Start(Tag::TableHead | Tag::TableRow) => rows.push(0),
                Event::Start(Tag::TableCell) => *rows.last_mut().unwrap() += 1,
                Event::Html(_) | Event::InlineHtml(_) | Event::Start(Tag::Image { .. }) => {
                    prop_assert!(false, "{markdown}");
                }
                _ => (),
            }
        }
        prop_assert_eq!(rows, [7, 7, 5, 5, 5]);
        let csv = format("csv", &report);
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        prop_assert_eq!(reader.records().map(Result::unwrap).count(), 1);
        prop_assert_eq!(csv.lines().count(), 2);
        let json: Value = serde_json::from_str(&format("json", &report)).unwrap();
        prop_assert_eq!(&json["clients"][0]["client"]["program"], &text);
        // Whatever it is, it makes no tag and ends no attribute.
        let tags = |html: &str| html.matches('<').count();
        let plain = format("html", &named("x"));
        let html = format("html", &report);
        prop_assert!(tags(&html) <= tags(&plain), "{html}");
        prop_assert!(html.chars().all(|c| c == '\n' || !is_unsafe(c)));
    }
}

#[test]
fn without_javascript_all_rows_are_there_and_no_filter() {
    let html = format("html", &busy());
    assert!(html.contains(r#"<div class="filter" id="filter" hidden>"#));
    assert_eq!(html.matches("<tr data-number=").count(), 11);
    assert!(!html.contains("<button"));
}

#[test]
fn documented_sample_matches_the_schema() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let sample = include_str!("../../docs/samples/report.json");
    let sample: Value = serde_json::from_str(sample).unwrap();
    assert!(jsonschema::is_valid(&schema, &sample));
}

#[test]
fn report_without_clients_says_so_in_every_format() {
    for report in [quiet(), unwatched()] {
        for (extension, format) in FORMATS {
            let text = format(&report);
            assert!(!text.is_empty(), "{extension}");
            if !matches!(extension, "json" | "csv") {
                assert!(
                    text.contains("No calls to the metadata service were observed."),
                    "{extension}"
                );
            }
        }
    }
}

#[test]
fn a_thousand_clients_are_written_in_no_time() {
    let report = overflowed(1000);
    for (extension, format) in FORMATS {
        let begin = Instant::now();
        let text = format(&report);
        let took = begin.elapsed();
        // Unoptimized, on a busy machine; what is quadratic takes minutes.
        assert!(took < Duration::from_secs(10), "{extension} took {took:?}");
        assert!(text.len() < 30_000_000, "{extension}: {} bytes", text.len());
        let names = report.clients.iter().map(|client| &client.client.program);
        let names = names.step_by(111);
        let missing = names.filter(|name| !text.contains(name.as_str())).count();
        assert_eq!(missing, 0, "{extension}");
    }
}

#[test]
fn samples_are_what_the_program_prints() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/samples");
    for (extension, format) in FORMATS {
        let sample = samples.join("report").with_extension(extension);
        assert!(
            std::fs::read_to_string(&sample).unwrap() == format(&busy()),
            "{extension} differs: run `cargo run -p tests --bin report-samples`"
        );
    }
}

/// Regression: `report | head` ended with 0, which says READY.
#[test]
fn a_reader_that_goes_away_does_not_change_the_answer() {
    let directory = tempfile::tempdir().unwrap();
    let recording = directory.path().join("calls.imdsmon");
    std::fs::write(
        &recording,
        "{\"imdsmon.recording\":1,\"imdsmon.version\":\"0\",\"started\":1}\n\
         {\"event\":\"start\",\"time\":1}\n",
    )
    .unwrap();
    for format in ["text", "json", "markdown", "html", "csv"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = std::process::Command::new(tests::program("imdsmon"))
            .args(["report", "--format", format, "--from"])
            .arg(&recording)
            .stdout(writer)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(3), "{format}");
    }
}
