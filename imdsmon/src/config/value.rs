//! The types of values: what each accepts, and how it is shown.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    capture::{MAX_RING_BYTES, MIN_RING_BYTES, Options},
    export::{Destination, Listen, emf::Namespace},
};

/// A value of a file, a variable or a flag, before it is parsed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    /// Variables and flags are always text.
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Raw>),
    /// A TOML type that no key accepts, for the message.
    Other(&'static str),
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // `{:?}` escapes terminal control characters.
            Self::Text(text) if text.chars().count() <= 80 => write!(f, "{text:?}"),
            Self::Text(_) => f.write_str("a text of more than 80 characters"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(is) => write!(f, "{is}"),
            Self::List(_) => f.write_str("this list"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl Raw {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

pub(crate) trait Setting: Sized {
    /// `None` unless the value is valid.
    fn parse(raw: &Raw) -> Option<Self>;

    /// The accepted values; completes "must be ...".
    fn allowed() -> String;

    /// The value as JSON, which [`Self::parse`] accepts again.
    fn show(&self) -> Value;
}

/// `off`, or a value.
impl<T: Setting> Setting for Option<T> {
    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) if text == "off" => Some(None),
            raw => T::parse(raw).map(Some),
        }
    }

    fn allowed() -> String {
        format!("{}, or \"off\"", T::allowed())
    }

    fn show(&self) -> Value {
        self.as_ref().map_or(json!("off"), T::show)
    }
}

impl Setting for bool {
    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Boolean(is) => Some(*is),
            Raw::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn allowed() -> String {
        "true or false".into()
    }

    fn show(&self) -> Value {
        json!(self)
    }
}

/// A whole number within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounded<const MIN: u32, const MAX: u32>(pub(crate) u32);

impl<const MIN: u32, const MAX: u32> Setting for Bounded<MIN, MAX> {
    fn parse(raw: &Raw) -> Option<Self> {
        let number = match raw {
            Raw::Integer(number) => u32::try_from(*number).ok()?,
            Raw::Text(text) => text.parse().ok()?,
            _ => return None,
        };
        (MIN..=MAX).contains(&number).then_some(Self(number))
    }

    fn allowed() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn show(&self) -> Value {
        json!(self.0)
    }
}

/// An absolute path: the working directory of a service is not obvious.
impl Setting for PathBuf {
    fn parse(raw: &Raw) -> Option<Self> {
        let path = Path::new(raw.text()?);
        (path.is_absolute() && !raw.text()?.contains('\0')).then(|| path.to_owned())
    }

    fn allowed() -> String {
        "a path that begins with /".into()
    }

    fn show(&self) -> Value {
        json!(self.to_string_lossy())
    }
}

/// In a variable, paths are separated by colons.
impl Setting for Vec<PathBuf> {
    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::List(list) => list.iter().map(PathBuf::parse).collect(),
            Raw::Text(text) => text
                .split(':')
                .filter(|path| !path.is_empty())
                .map(|path| PathBuf::parse(&Raw::Text(path.to_owned())))
                .collect(),
            _ => None,
        }
    }

    fn allowed() -> String {
        "a list of paths that begin with /".into()
    }

    fn show(&self) -> Value {
        self.iter().map(PathBuf::show).collect()
    }
}

/// From a second to ten years.
impl Setting for Duration {
    fn parse(raw: &Raw) -> Option<Self> {
        let bounds = Duration::from_secs(1)..=Duration::from_secs(10 * 366 * 24 * 3600);
        duration(raw.text()?)
            .ok()
            .filter(|time| bounds.contains(time))
    }

    fn allowed() -> String {
        "a duration of at least a second such as \"90s\", \"10m\" or \"1h30m\"".into()
    }

    fn show(&self) -> Value {
        let time = jiff::SignedDuration::try_from(*self).unwrap_or(jiff::SignedDuration::MAX);
        json!(format!("{time:#}"))
    }
}

impl Setting for Listen {
    fn parse(raw: &Raw) -> Option<Self> {
        let text = raw.text()?;
        match text.strip_prefix("unix:") {
            // The kernel accepts 108 bytes with the final 0 (unix(7)).
            Some(path) if path.len() < 108 => {
                PathBuf::parse(&Raw::Text(path.to_owned())).map(Self::Unix)
            }
            Some(_) => None,
            None => text.parse().ok().map(Self::Tcp),
        }
    }

    fn allowed() -> String {
        "an address and a port such as \"127.0.0.1:9464\", or a Unix socket such as \
         \"unix:/run/imdsmon/metrics.sock\""
            .into()
    }

    fn show(&self) -> Value {
        json!(self.to_string())
    }
}

impl Setting for Destination {
    fn parse(raw: &Raw) -> Option<Self> {
        match raw.text()? {
            "stdout" => Some(Self::Stdout),
            _ => PathBuf::parse(raw).map(Self::File),
        }
    }

    fn allowed() -> String {
        "a path that begins with /, or \"stdout\"".into()
    }

    fn show(&self) -> Value {
        match self {
            Self::Stdout => json!("stdout"),
            Self::File(path) => path.show(),
        }
    }
}

impl Setting for Namespace {
    fn parse(raw: &Raw) -> Option<Self> {
        Self::new(raw.text()?)
    }

    fn allowed() -> String {
        "1 to 255 letters, digits and any of . - _ / # :, not beginning with \"AWS/\" or \":\""
            .into()
    }

    fn show(&self) -> Value {
        json!(self.as_str())
    }
}

/// Size of the ring buffer, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BufferSize(pub(crate) u32);

impl Default for BufferSize {
    fn default() -> Self {
        Self(Options::default().ring_bytes)
    }
}

impl Setting for BufferSize {
    fn parse(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Text(text) => buffer(text).ok().map(Self),
            Raw::Integer(number) => buffer(&number.to_string()).ok().map(Self),
            _ => None,
        }
    }

    fn allowed() -> String {
        "a power of two from \"64K\" to \"256M\"".into()
    }

    fn show(&self) -> Value {
        let Self(bytes) = self;
        if bytes % (1 << 20) == 0 {
            json!(format!("{}M", bytes >> 20))
        } else {
            json!(format!("{}K", bytes >> 10))
        }
    }
}

/// A positive duration with units; days come first.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const DAY: u64 = 24 * 3600;
    let wrong = || format!("`{text}` is not a duration; use for example 30s, 10m, 1h30m or 14d");
    let (days, rest) = text.split_once('d').unwrap_or(("0", text));
    let days: u64 = days.trim().parse().ok().ok_or_else(wrong)?;
    let rest = if rest.is_empty() && days > 0 {
        "0s"
    } else {
        rest
    };
    let rest: jiff::SignedDuration = rest.parse().ok().ok_or_else(wrong)?;
    days.checked_mul(DAY)
        .and_then(|days| {
            let rest = Duration::try_from(rest).ok()?;
            Duration::from_secs(days).checked_add(rest)
        })
        .filter(|d| !d.is_zero())
        .ok_or_else(wrong)
}

/// A power of two from 64 KiB to 256 MiB, in bytes or with the suffix K or M.
pub(crate) fn buffer(text: &str) -> Result<u32, String> {
    let (number, unit) = match text.strip_suffix(['K', 'k']) {
        Some(number) => (number, 1 << 10),
        None => text
            .strip_suffix(['M', 'm'])
            .map_or((text, 1), |number| (number, 1 << 20)),
    };
    let bytes = number.parse::<u32>().ok().and_then(|n| n.checked_mul(unit));
    bytes
        .filter(|b| b.is_power_of_two() && (MIN_RING_BYTES..=MAX_RING_BYTES).contains(b))
        .ok_or_else(|| format!("`{text}` is not a power of two from 64K to 256M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_sizes_are_powers_of_two_within_bounds() {
        assert_eq!(buffer("2M"), Ok(Options::default().ring_bytes));
        assert_eq!(buffer("65536"), Ok(MIN_RING_BYTES));
        for wrong in ["", "3M", "32K", "512M", "-1", "5000M", "M"] {
            assert!(buffer(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_units_and_are_positive() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("14d"), Ok(Duration::from_secs(14 * 86_400)));
        assert_eq!(duration("1d12h"), Ok(Duration::from_secs(36 * 3600)));
        for wrong in [
            "",
            "5",
            "d",
            "0d",
            "-1d",
            "999999999999999999d",
            "-5s",
            "0s",
            "soon",
            "99999999999999999999h",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
