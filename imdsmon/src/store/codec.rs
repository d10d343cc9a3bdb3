//! Values as they stand in the database: words for a [`BucketKey`], JSON for lists.

use serde::{Deserialize, Serialize};

use crate::{
    ledger::{
        BucketKey,
        coverage::{Doubt, DoubtKind},
    },
    time::Hour,
    word::{value, word},
};

/// The five words of a bucket key in the order of the table's columns; empty for no token.
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

/// The bucket key with these words; `None` if a word is unknown.
pub fn cell(hour: Hour, [version, token, answer, path, how]: [String; 5]) -> Option<BucketKey> {
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

/// A doubt in the `doubts` column: `[{"count":7,"what":"missing-bytes"}]`.
#[derive(Serialize, Deserialize)]
struct StoredDoubt<K> {
    count: u64,
    what: K,
}

/// The doubts of a span as they are stored.
pub fn doubts_json(doubts: &[Doubt]) -> rusqlite::Result<String> {
    let stored = doubts.iter().map(|doubt| StoredDoubt {
        count: doubt.count,
        what: &doubt.kind,
    });
    json(&stored.collect::<Vec<_>>())
}

/// Stored doubts; none if the text cannot be read.
pub fn doubts(text: &str) -> Vec<Doubt> {
    let stored: Vec<StoredDoubt<DoubtKind>> = serde_json::from_str(text).unwrap_or_default();
    let doubt = |StoredDoubt { count, what }| Doubt { count, kind: what };
    stored.into_iter().map(doubt).collect()
}

/// A value as JSON text.
pub fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
