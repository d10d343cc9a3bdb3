//! Untrusted bytes from the wire or from a process.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes, in JSON as Latin-1 text (byte `b` is U+00`b`): readable and lossless.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteString(pub(crate) Vec<u8>);

impl ByteString {
    /// The bytes as text; invalid UTF-8 becomes U+FFFD.
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl<T: Into<Vec<u8>>> From<T> for ByteString {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl std::ops::Deref for ByteString {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ByteString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

impl Serialize for ByteString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.iter().map(|&b| char::from(b)).collect::<String>())
    }
}

impl<'de> Deserialize<'de> for ByteString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.chars()
            .map(|c| {
                u8::try_from(u32::from(c)).map_err(|wide| {
                    serde::de::Error::custom(format!("{c:?} is not one byte: {wide}"))
                })
            })
            .collect::<Result<Vec<u8>, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use crate::event::bytes::*;

    #[test]
    fn every_byte_survives_json() {
        let all = ByteString((0..=255).collect());
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<ByteString>(&json).unwrap(), all);
    }

    #[test]
    fn a_character_beyond_one_byte_is_refused() {
        assert!(serde_json::from_str::<ByteString>("\"\u{20ac}\"").is_err());
    }
}
