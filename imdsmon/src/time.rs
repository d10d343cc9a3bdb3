//! Times as text: RFC 3339 in UTC, with microseconds.

use jiff::Timestamp;

use crate::event::UnixNanos;

/// RFC 3339 in UTC, with microseconds.
pub fn rfc3339(time: UnixNanos) -> String {
    let timestamp = Timestamp::from_nanosecond(time.into()).unwrap_or_default();
    format!("{timestamp:.6}")
}

/// For `#[serde(with = "crate::time::as_rfc3339")]`; what is below a microsecond is lost.
pub mod as_rfc3339 {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::event::UnixNanos;

    /// Writes a time.
    pub fn serialize<S: Serializer>(time: &UnixNanos, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::rfc3339(*time))
    }

    /// Reads one.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixNanos, D::Error> {
        let text = String::deserialize(deserializer)?;
        let timestamp: Timestamp = text.parse().map_err(D::Error::custom)?;
        UnixNanos::try_from(timestamp.as_nanosecond()).map_err(D::Error::custom)
    }
}
