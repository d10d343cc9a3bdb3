//! The configuration file: TOML, with the line of each value.

use std::{
    fs::File,
    io::{self, Read as _},
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{Config, KEYS, Problem, ValueOrigin, value::Raw};
use crate::text::io_error::reason;

/// Limits memory; a larger file is not a configuration.
const MAX_BYTES: u64 = 1 << 20;

/// `None` if the file does not exist and `must_exist` is false.
pub(crate) fn read(path: &Path, must_exist: bool) -> Result<Option<(PathBuf, String)>, Problem> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => return Ok(None),
        file => file.map_err(|error| Problem::unreadable(path, reason(&error)))?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Problem::unreadable(path, reason(&error)))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Problem::unreadable(
            path,
            "larger than 1 MiB; name a configuration file",
        ));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(error) => Err(Problem::unreadable(path, error)),
    }
}

pub(crate) fn apply(config: &mut Config, path: &Path, text: &str, problems: &mut Vec<Problem>) {
    let mut file = FileReader {
        path,
        text,
        config,
        problems,
    };
    match DeTable::parse(text) {
        Ok(table) => file.table("", table.get_ref()),
        Err(error) => {
            let origin = file.origin(error.span().unwrap_or_default());
            file.problems.push(Problem::new(&origin, error.message()));
        }
    }
}

struct FileReader<'a> {
    path: &'a Path,
    text: &'a str,
    config: &'a mut Config,
    problems: &'a mut Vec<Problem>,
}

impl FileReader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let origin = self.origin(name.span());
            match value.get_ref() {
                // Also an unknown table: the errors about its keys name the likely key.
                DeValue::Table(inner) if !KEYS.contains(&key.as_str()) => {
                    self.table(&format!("{key}."), inner);
                }
                value => {
                    let set = self.config.set(&key, &raw(value), origin);
                    self.problems.extend(set.err());
                }
            }
        }
    }

    fn origin(&self, span: Range<usize>) -> ValueOrigin {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        ValueOrigin::File {
            path: self.path.to_owned(),
            line: before.split(|byte| *byte == b'\n').count(),
        }
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Raw::Other("a number that is too large"), Raw::Integer),
        DeValue::Boolean(is) => Raw::Boolean(*is),
        DeValue::Array(values) => Raw::List(values.iter().map(|v| raw(v.get_ref())).collect()),
        DeValue::Float(_) => Raw::Other("a fraction"),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}
