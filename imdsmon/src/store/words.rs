//! The values of a [`Cell`] as the words that stand in the database: those of their JSON form.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::ledger::Cell;

/// The five words of a cell, in the order of the table's columns; empty for what is not there.
pub fn words(cell: &Cell) -> [String; 5] {
    let Cell {
        hour: _,
        version,
        token,
        answer,
        path,
        how,
    } = cell;
    [
        word(version),
        word(token),
        word(answer),
        word(path),
        word(how),
    ]
}

/// The cell that has these words in this hour; `None` if a word is not known.
pub fn cell(hour: i64, [version, token, answer, path, how]: [String; 5]) -> Option<Cell> {
    Some(Cell {
        hour,
        version: value(version)?,
        token: if token.is_empty() {
            None
        } else {
            Some(value(token)?)
        },
        answer: value(answer)?,
        path: value(path)?,
        how: value(how)?,
    })
}

fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

fn value<T: DeserializeOwned>(word: String) -> Option<T> {
    serde_json::from_value(Value::String(word)).ok()
}
