//! The report as JSON: the model as it is, by `docs/report.schema.json`.

use std::io::{self, Write};

use serde::Serialize as _;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::model::Report;
use crate::text::escape::is_unsafe;

/// Writes the report, indented, with a newline at the end.
///
/// What a terminal would obey is written as `\u....`: it is the same JSON, and can be looked at.
pub fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let mut serializer = Serializer::with_formatter(&mut *out, Visible::default());
    report.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// Indented, and without characters that hide or reorder text.
#[derive(Default)]
struct Visible(PrettyFormatter<'static>);

impl Formatter for Visible {
    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_unsafe(*c)) {
            out.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }

    fn begin_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
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
