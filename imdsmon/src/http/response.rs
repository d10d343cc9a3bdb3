//! Parses the head of a response: status, `Server` header and length.
//!
//! Capture hands over the beginning of a segment that starts a response, up to a bound; the bytes
//! after the head are blanked with zeros.

use super::request::{content_length, text, trim, trim_end};

/// Bytes of the `Server` header.
const MAX_SERVER_BYTES: usize = 256;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ResponseHead {
    /// `None` if the bytes end before it or are not a status line.
    pub(crate) status: Option<u16>,
    pub(crate) server: Option<String>,
    pub(crate) content_length: Option<u64>,
    /// Bytes of the head with its blank line; `None` if the end was not captured.
    pub(crate) head: Option<usize>,
}

impl ResponseHead {
    /// Parses as much of a head as was captured. A header counts only if its line is complete.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut response = Self {
            status: status(bytes),
            ..Self::default()
        };
        let mut end = 0;
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            if line.last() != Some(&b'\n') {
                break;
            }
            end += line.len();
            let line = trim_end(line);
            if line.is_empty() {
                response.head = Some(end);
                break;
            }
            if let Some(colon) = line.iter().position(|&b| b == b':') {
                response.header(trim(&line[..colon]), trim(&line[colon + 1..]));
            }
        }
        response
    }

    /// 1xx: another response to the same request follows. 101 is final: it ends HTTP/1.
    pub(super) fn is_interim(&self) -> bool {
        self.status
            .is_some_and(|s| (100..200).contains(&s) && s != 101)
    }

    /// Bytes of the whole response, if known.
    pub(super) fn length(&self, to_head: bool) -> Option<u64> {
        let head = u64::try_from(self.head?).ok()?;
        if to_head || self.is_interim() || matches!(self.status, Some(204 | 304)) {
            return Some(head);
        }
        head.checked_add(self.content_length?)
    }

    fn header(&mut self, name: &[u8], value: &[u8]) {
        if name.eq_ignore_ascii_case(b"server") && self.server.is_none() && !value.is_empty() {
            self.server = Some(text(value, MAX_SERVER_BYTES));
        } else if name.eq_ignore_ascii_case(b"content-length") && self.content_length.is_none() {
            self.content_length = content_length(value);
        }
    }
}

/// The code in `HTTP/1.1 200`.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/")?;
    let rest = &rest[rest.iter().position(|&b| b == b' ')?..];
    let rest = &rest[rest.iter().position(|&b| b != b' ')?..];
    let (code, behind) = rest.split_at_checked(3)?;
    if !code.iter().all(u8::is_ascii_digit) || behind.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    Some(code.iter().fold(0, |n, &b| n * 10 + u16::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_may_be_cut_anywhere_without_a_wrong_word() {
        let head = b"HTTP/1.1 200 OK\r\nServer: EC2ws\r\nContent-Length: 19\r\n\r\n";
        let whole = ResponseHead::parse(head);
        assert_eq!(whole.length(false), Some(19 + 54));
        for end in 0..head.len() {
            let cut = ResponseHead::parse(&head[..end]);
            assert!(cut.status.is_none() || cut.status == whole.status, "{end}");
            assert!(cut.server.is_none() || cut.server == whole.server, "{end}");
            assert!(
                cut.content_length.is_none() || cut.content_length == Some(19),
                "{end}"
            );
            assert_eq!(cut.length(false), None, "{end}");
        }
    }

    #[test]
    fn bodyless_status_ignores_content_length() {
        let of = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 9\r\n\r\n");
        for (status, to_head, body) in [
            ("200 OK", false, 9),
            ("200 OK", true, 0),
            ("204 No Content", false, 0),
            ("304 Not Modified", false, 0),
            ("100 Continue", false, 0),
        ] {
            let head = of(status);
            let length = ResponseHead::parse(head.as_bytes()).length(to_head);
            assert_eq!(length, Some(head.len() as u64 + body), "{status}");
        }
    }

    #[test]
    fn nonsense_has_no_status() {
        for head in [
            "",
            "HTTP/1.1",
            "HTTP/1.1 ",
            "HTTP/1.1 20",
            "HTTP/1.1 2x0",
            "HTTP/1.1 2000",
            "ICY 200 OK",
        ] {
            assert_eq!(ResponseHead::parse(head.as_bytes()).status, None, "{head}");
        }
        assert_eq!(ResponseHead::parse(b"HTTP/1.0  404\n\n").status, Some(404));
    }
}
