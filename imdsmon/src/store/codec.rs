//! Values in the database: words for a [`BucketKey`], JSON for lists.

use serde::{Deserialize, Serialize};

use crate::{
    http::call::{Auth, ImdsVersion},
    ledger::{
        BucketKey,
        coverage::{Doubt, DoubtKind},
    },
    time::Hour,
};

/// The five words of a bucket, in the order of the table's columns; empty if absent.
pub(crate) fn words(bucket: &BucketKey) -> [&'static str; 5] {
    let BucketKey {
        hour: _,
        auth,
        response,
        path,
        cause,
    } = bucket;
    [
        auth.version().into(),
        auth.token().map_or("", Into::into),
        response.into(),
        path.into(),
        cause.into(),
    ]
}

/// The bucket of these words and this hour; `None` if a word is unknown.
pub(crate) fn bucket(
    hour: Hour,
    [version, token, response, path, cause]: [&str; 5],
) -> Option<BucketKey> {
    Some(BucketKey {
        hour,
        auth: match (version.parse().ok()?, token) {
            (ImdsVersion::V1, "") => Auth::V1,
            (ImdsVersion::V2, token) => Auth::V2(token.parse().ok()?),
            (ImdsVersion::Token, "") => Auth::TokenRequest,
            _ => return None,
        },
        response: response.parse().ok()?,
        path: path.parse().ok()?,
        cause: cause.parse().ok()?,
    })
}

/// A doubt in the `doubts` column: `[{"count":7,"what":"missing-bytes"}]`.
#[derive(Serialize, Deserialize)]
struct StoredDoubt<K> {
    count: u64,
    what: K,
}

pub(crate) fn doubts_json(doubts: &[Doubt]) -> rusqlite::Result<String> {
    let stored = doubts.iter().map(|doubt| StoredDoubt {
        count: doubt.count,
        what: &doubt.kind,
    });
    json(&stored.collect::<Vec<_>>())
}

/// Parses stored doubts; none if the text is invalid.
pub(crate) fn doubts(text: &str) -> Vec<Doubt> {
    let stored: Vec<StoredDoubt<DoubtKind>> = serde_json::from_str(text).unwrap_or_default();
    let doubt = |StoredDoubt { count, what }| Doubt { count, kind: what };
    stored.into_iter().map(doubt).collect()
}

pub(crate) fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
