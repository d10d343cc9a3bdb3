//! The values of a [`BucketKey`] as the words that stand in the database.

use crate::{
    ledger::BucketKey,
    word::{value, word},
};

/// The five words of a cell, in the order of the table's columns; empty for what is not there.
pub fn words(cell: &BucketKey) -> [String; 5] {
    let BucketKey {
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
pub fn cell(hour: i64, [version, token, answer, path, how]: [String; 5]) -> Option<BucketKey> {
    Some(BucketKey {
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
