//! What `docs/reference/json.md` promises, read from its own text.

use std::collections::BTreeMap;

use serde_json::Value;

const TEXT: &str = include_str!("../../docs/reference/json.md");

/// Fields with their types, as documented.
pub type Fields = BTreeMap<&'static str, &'static str>;

/// The fields of a call.
///
/// # Panics
///
/// If the document has another form than it had.
#[must_use]
pub fn call() -> Fields {
    let section = section("imds.call");
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((cells.next()?.strip_suffix('`')?, cells.next()?))
    });
    let fields: Fields = rows.collect();
    assert!(fields.len() > 20, "the table is not read: {fields:?}");
    fields
}

/// The fields of bytes that are no request: named in prose, `*` for all that begin so.
///
/// # Panics
///
/// If the document has another form than it had.
#[must_use]
pub fn unparsed() -> Fields {
    let known = call();
    let mut fields = Fields::from([("event.name", "string")]);
    for name in section("imds.unparsed").split('`').skip(1).step_by(2) {
        if let Some(begin) = name.strip_suffix('*') {
            fields.extend(known.iter().filter(|(field, _)| field.starts_with(begin)));
        } else {
            fields.insert(name, known.get(name).unwrap_or(&"number"));
        }
    }
    assert!(fields.len() > 15, "the prose is not read: {fields:?}");
    fields
}

/// The text below a heading that names an event.
fn section(event: &str) -> &'static str {
    let heading = format!("## `event.name` = `{event}`");
    let (_, text) = TEXT.split_once(&heading).expect("the heading");
    text.split("\n## ").next().unwrap_or(text)
}

/// Fails unless a line has exactly the fields that are documented, each of its type.
///
/// # Panics
///
/// If it has not.
pub fn check(line: &Value) {
    let fields = match line["event.name"].as_str() {
        Some("imds.call") => call(),
        Some("imds.unparsed") => unparsed(),
        other => panic!("the event {other:?} is not documented"),
    };
    let seen: Vec<&str> = line
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut documented: Vec<&str> = fields.keys().copied().collect();
    documented.sort_unstable();
    let mut sorted = seen;
    sorted.sort_unstable();
    assert_eq!(sorted, documented, "{line}");
    for (field, kind) in fields {
        let value = &line[field];
        let right = match kind.strip_suffix(" or null") {
            Some(kind) => value.is_null() || is(value, kind),
            None => is(value, kind),
        };
        assert!(right, "{field} is documented as {kind}: {line}");
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "number" => value.is_u64(),
        "array of strings" => value
            .as_array()
            .is_some_and(|all| all.iter().all(Value::is_string)),
        "array of `{pid, name}`" => value.as_array().is_some_and(|all| {
            all.iter().all(|one| {
                one["pid"].is_u64()
                    && one["name"].is_string()
                    && one.as_object().is_some_and(|o| o.len() == 2)
            })
        }),
        other => panic!("{other} is no type that this test knows"),
    }
}
