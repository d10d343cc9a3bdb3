//! The report as JSON: the model, by `docs/report.schema.json`.

use std::io::{self, Write};

use super::model::Report;
use crate::text::escape::is_unsafe;

/// Writes the report, indented, with a newline at the end.
///
/// Characters that a terminal acts on, or that hide or reorder text, become `\u....`: the same
/// JSON value, safe to display.
pub fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    let mut rest = &*text;
    // serde_json escapes line ends in strings: raw ones are layout.
    while let Some(at) = rest.find(|c| is_unsafe(c) && c != '\n') {
        let (before, from) = rest.split_at(at);
        out.write_all(before.as_bytes())?;
        let mut chars = from.chars();
        for unit in chars.next().into_iter().flat_map(utf16) {
            write!(out, "\\u{unit:04x}")?;
        }
        rest = chars.as_str();
    }
    writeln!(out, "{rest}")
}

fn utf16(c: char) -> impl Iterator<Item = u16> {
    let mut units = [0; 2];
    let len = c.encode_utf16(&mut units).len();
    units.into_iter().take(len)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use strum::VariantArray as _;

    use crate::verdict::Rule;

    #[test]
    fn schema_lists_every_rule() {
        let schema = include_str!("../../../docs/report.schema.json");
        let schema: Value = serde_json::from_str(schema).unwrap();
        let listed = &schema["$defs"]["client-report"]["properties"]["rule"]["enum"];
        let names: Vec<_> = Rule::VARIANTS.iter().map(<&str>::from).collect();
        assert_eq!(listed, &Value::from(names));
    }
}
