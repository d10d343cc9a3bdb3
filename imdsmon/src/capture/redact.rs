//! Blanks token values before other code gets the bytes.
//!
//! The value after `X-aws-ec2-metadata-token`, in any case, and a colon or an equals sign is
//! overwritten and keeps its length. In a header or a program argument, the value ends with the
//! line; elsewhere, such as in a query, with the word. A byte that a token can contain (RFC 9110
//! token68) becomes `*` and any other `!`, which still distinguishes a token from an error text.
//! White space stays.
//!
//! A header may be split anywhere between two segments: [`Redactor`] is a state machine over the
//! stream. After missing bytes, its position is unknown and it blanks up to the next line.

const NAME: &[u8] = b"x-aws-ec2-metadata-token";
/// Prefix of IMDS tokens, as observed on the wire.
const TOKEN_PREFIX: &[u8] = b"AQAEA";
/// Minimum length of a token; real ones have 56 bytes.
const MIN_TOKEN_BYTES: usize = 40;

/// Position of the next byte in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum State {
    /// At the beginning of a line.
    Start,
    /// Within a line.
    Text,
    /// The last `matched` bytes are a prefix of the name.
    Name { matched: usize, begins_line: bool },
    /// After the whole name, and only white space since.
    Separator { begins_line: bool },
    /// In a header's value, which ends with the line; `empty` if only white space so far.
    Line { empty: bool },
    /// In a header's value, after a carriage return.
    LineEnd { empty: bool },
    /// A header's value ended with its line; the next line may continue it.
    Fold,
    /// In a value that is not a header's: it ends at white space or `&`. What follows may be
    /// the rest of a request line, which must stay readable.
    Word,
    /// Unknown: after missing bytes, or in a stream whose beginning was not captured.
    #[default]
    Unknown,
}

/// Blanks the token values in one direction of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Redactor {
    state: State,
    /// The next sequence number; `None` before the first segment.
    next: Option<u32>,
}

impl Redactor {
    /// At the beginning of a stream, whose first byte has the sequence number `seq`.
    pub(crate) fn at(seq: u32) -> Self {
        Self {
            state: State::Start,
            next: Some(seq),
        }
    }

    /// Blanks a segment of `len` bytes from `seq` on, of which `bytes` is the captured part.
    pub(crate) fn segment(&mut self, seq: u32, len: u32, bytes: &mut [u8]) {
        let ahead = seq.wrapping_sub(self.next.unwrap_or(seq)).cast_signed();
        if ahead < 0 {
            // A retransmission: its new bytes follow bytes that were processed.
            let seen = ahead.unsigned_abs();
            let (old, new) = bytes.split_at_mut((seen as usize).min(bytes.len()));
            let mut state = if begins_request(old) {
                State::Start
            } else {
                State::Unknown
            };
            blank(&mut state, old);
            if !new.is_empty() {
                self.segment(seq.wrapping_add(seen), len - seen, new);
            }
            return;
        }
        if ahead > 0 {
            self.state = State::Unknown;
        }
        if matches!(self.state, State::Line { .. } | State::Unknown) && begins_request(bytes) {
            // A request line is no token: it gives the position after missing bytes, and an
            // apparent header before it was a body without a final newline.
            self.state = State::Start;
        }
        blank(&mut self.state, bytes);
        blank_tokens(bytes);
        if (bytes.len() as u64) < u64::from(len) {
            self.state = State::Unknown;
        }
        self.next = Some(seq.wrapping_add(len));
    }
}

/// Blanks the token values in a program's arguments. The value may be a separate argument, as in
/// `curl -H X-aws-ec2-metadata-token: TOKEN`.
pub(crate) fn arguments(args: &mut [Vec<u8>]) {
    let mut state = State::Start;
    for arg in args {
        if arg.windows(3).any(|w| w == b"://") {
            // `-H "X-aws-ec2-metadata-token: " http://...`: a URL is not the missing token.
            state = State::Start;
        }
        for byte in arg.iter_mut() {
            state = match (state, *byte) {
                // Scripts write `{'X-aws-ec2-metadata-token': 'TOKEN'}`, and in an argument the
                // name need not come first.
                (State::Separator { .. }, b'\'' | b'"' | b'\\') => state,
                _ => match state.step(byte) {
                    State::Separator { .. } => State::Separator { begins_line: true },
                    next => next,
                },
            };
        }
        state = match state {
            State::Separator { .. } | State::Line { empty: true } => state,
            _ => State::Start,
        };
        blank_tokens(arg);
    }
}

/// Blanks text that looks like an IMDS token, anywhere: all have the same prefix.
pub(crate) fn blank_tokens(bytes: &mut [u8]) {
    if !bytes.windows(2).any(|pair| pair == &TOKEN_PREFIX[..2]) {
        return; // nearly always
    }
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"-_+/=".contains(b);
    for word in bytes.split_mut(|b| !is_token(b)) {
        // In a query or a path, other characters may precede the token without a space.
        if let Some(at) = word
            .windows(TOKEN_PREFIX.len())
            .position(|w| w == TOKEN_PREFIX)
            && word.len() - at >= MIN_TOKEN_BYTES
        {
            word[at..].fill(b'*');
        }
    }
}

fn blank(state: &mut State, bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
        if *state == State::Text {
            // Within a line, only the first letter of the name and the end of the line matter.
            let next = rest.iter().position(|b| matches!(b, b'x' | b'X' | b'\n'));
            let Some(next) = next else { return };
            at += next;
        }
        if let Some(byte) = bytes.get_mut(at) {
            *state = state.step(byte);
        }
        at += 1;
    }
}

impl State {
    fn step(self, byte: &mut u8) -> Self {
        match (self, *byte) {
            (Self::Separator { begins_line: true }, b':') => Self::Line { empty: true },
            (Self::Separator { .. }, b':' | b'=') => Self::Word,
            (Self::Line { .. } | Self::LineEnd { .. }, b'\n') => Self::Fold,
            (Self::Line { empty } | Self::LineEnd { empty }, b'\r') => Self::LineEnd { empty },
            (Self::Fold | Self::Unknown, b'\r')
            | (Self::Separator { .. } | Self::Line { .. } | Self::Unknown, b' ' | b'\t') => self,
            (Self::Fold, b' ' | b'\t') => Self::Line { empty: false },
            (Self::Word, b' ' | b'\t' | b'\r' | b'&') => Self::Text,
            // White space before a name: some clients send it, some servers accept it.
            (Self::Word | Self::Unknown, b'\n') | (Self::Start, b' ' | b'\t') => Self::Start,
            (Self::Line { .. }, _) => {
                cover(byte);
                Self::Line { empty: false }
            }
            (Self::Word | Self::Unknown, _) => {
                cover(byte);
                self
            }
            (
                Self::Name {
                    matched,
                    begins_line,
                },
                b,
            ) => Self::text(matched, begins_line, b),
            // The previous line was a body without a final newline; the next request follows.
            (Self::Start | Self::Fold | Self::LineEnd { .. }, b) => Self::text(0, true, b),
            (Self::Text | Self::Separator { .. }, b) => Self::text(0, false, b),
        }
    }

    /// The name has one `x` only, its first byte: a mismatch restarts the match.
    fn text(matched: usize, begins_line: bool, byte: u8) -> Self {
        let lower = byte.to_ascii_lowercase();
        match (NAME.get(matched) == Some(&lower), byte) {
            (true, _) if matched + 1 == NAME.len() => Self::Separator { begins_line },
            (true, _) => Self::Name {
                matched: matched + 1,
                begins_line,
            },
            (false, b'\n') => Self::Start,
            (false, b'x' | b'X') => Self::Name {
                matched: 1,
                begins_line: false,
            },
            (false, _) => Self::Text,
        }
    }
}

/// Whether a segment begins with a method and a path, which no token does.
fn begins_request(bytes: &[u8]) -> bool {
    let method = bytes.iter().take_while(|b| b.is_ascii_uppercase()).count();
    (3..=16).contains(&method) && bytes[method..].starts_with(b" /")
}

/// Overwrites a byte, but keeps whether a token can contain it.
fn cover(byte: &mut u8) {
    *byte = match *byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => b'*',
        b if b"-._~+/=*".contains(&b) => b'*',
        _ => b'!',
    };
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "short test data")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        Redactor::at(0).segment(0, bytes.len() as u32, &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn a_value_is_blanked_and_the_rest_stays() {
        for (raw, blanked) in [
            (
                "A: b\r\nX-aws-ec2-metadata-token: AQ_-==\r\nC: d\r\n",
                "A: b\r\nX-aws-ec2-metadata-token: ******\r\nC: d\r\n",
            ),
            (
                "x-AWS-ec2-metadata-TOKEN:AQ==\nHost: h\n\n",
                "x-AWS-ec2-metadata-TOKEN:****\nHost: h\n\n",
            ),
            (
                "X-aws-ec2-metadata-token \t: AQ\r\n",
                "X-aws-ec2-metadata-token \t: **\r\n",
            ),
            (
                "X-aws-ec2-metadata-token: <h1>no</h1>\r\n",
                "X-aws-ec2-metadata-token: !**!**!***!\r\n",
            ),
            (
                "X-aws-ec2-metadata-token:\r\n AQ\r\nHost: h",
                "X-aws-ec2-metadata-token:\r\n **\r\nHost: h",
            ),
            (
                "X-aws-ec2-metadata-token:\r\n\r\n",
                "X-aws-ec2-metadata-token:\r\n\r\n",
            ),
            (
                "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n",
                "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n",
            ),
            (
                "GET /?X-aws-ec2-metadata-token=AQ&a=b HTTP/1.1\r\n",
                "GET /?X-aws-ec2-metadata-token=**&a=b HTTP/1.1\r\n",
            ),
            (
                "GET /?X-aws-ec2-metadata-token:AQ HTTP/1.1\r\n",
                "GET /?X-aws-ec2-metadata-token:** HTTP/1.1\r\n",
            ),
            (
                "GET /?X-aws-ec2-metadata-token: HTTP/1.1\r\n",
                "GET /?X-aws-ec2-metadata-token: HTTP/1.1\r\n",
            ),
        ] {
            assert_eq!(whole(raw), blanked);
        }
    }

    #[test]
    fn a_body_like_the_header_does_not_hide_the_next_request() {
        let body = "X-aws-ec2-metadata-token: body";
        let request = "GET / HTTP/1.1\r\n";
        assert!(whole(&format!("{body}\r{request}")).ends_with(request));
        let mut redactor = Redactor::at(0);
        let (mut first, mut second) = (body.as_bytes().to_vec(), request.as_bytes().to_vec());
        redactor.segment(0, 30, &mut first);
        redactor.segment(30, 16, &mut second);
        assert_eq!(second, request.as_bytes());
    }

    #[test]
    fn a_stream_that_is_joined_in_a_header_shows_no_token() {
        let mut redactor = Redactor::default();
        let mut rest = *b"SECRETSECRET==\r\nHost: h\r\n";
        redactor.segment(9, 25, &mut rest);
        assert_eq!(&rest, b"**************\r\nHost: h\r\n");
    }

    #[test]
    fn after_a_hole_the_next_request_is_read() {
        let mut redactor = Redactor::at(0);
        redactor.segment(0, 4, &mut b"GET ".to_vec());
        let mut next = *b"GET /three HTTP/1.1\r\n";
        redactor.segment(100, 21, &mut next);
        assert_eq!(&next, b"GET /three HTTP/1.1\r\n");
    }

    #[test]
    fn tokens_are_blanked_wherever_they_stand() {
        let token = "AQAEAFSJIB_2jDiPWWacrUzTrnZR0rWThGji0Wbf-NrITYhsbwZvMQ==";
        for text in [
            format!("User-Agent: X-aws-ec2-metadata-token: {token}\r\n"),
            format!(" X-aws-ec2-metadata-token: {token}\r\n"),
            format!("GET /latest?t%3A%20{token} HTTP/1.1\r\n"),
        ] {
            let shown = whole(&text);
            assert!(!shown.contains("AQAE"), "{shown}");
            assert!(shown.ends_with("\r\n"), "{shown:?}");
        }
        for arg in [
            format!("import u; u.get(h, {{'X-aws-ec2-metadata-token': '{token}'}})"),
            format!("$h = @{{\"X-aws-ec2-metadata-token\" = \"{token}\"}}"),
            "{\"X-aws-ec2-metadata-token\": \"short\"}".to_owned(),
            format!("TOKEN={token}"),
        ] {
            let mut args = vec![arg.into_bytes()];
            arguments(&mut args);
            let shown = String::from_utf8_lossy(&args[0]).into_owned();
            assert!(
                !shown.contains("AQAE") && !shown.contains("short"),
                "{shown}"
            );
        }
    }

    #[test]
    fn after_a_hole_the_line_is_blanked() {
        let mut redactor = Redactor::at(0);
        let mut first = *b"X-aws-ec2-metad";
        redactor.segment(0, 15, &mut first);
        let mut rest = *b"Q==\r\nHost: h\r\n";
        redactor.segment(30, 14, &mut rest);
        assert_eq!(&rest, b"***\r\nHost: h\r\n");
    }

    #[test]
    fn a_retransmission_shows_no_more_than_the_first_time() {
        let text = b"X-aws-ec2-metadata-token: AQAEAQ==\r\nHost: h\r\n";
        let mut redactor = Redactor::at(7);
        redactor.segment(7, text.len() as u32, &mut text.to_vec());
        let mut again = text[30..].to_vec();
        redactor.segment(37, again.len() as u32, &mut again);
        assert_eq!(&again, b"****\r\nHost: h\r\n");
    }

    #[test]
    fn arguments_are_blanked_joined_or_apart() {
        let mut args: Vec<Vec<u8>> = [
            "curl",
            "-HX-aws-ec2-metadata-token: AQ==",
            "-H",
            "X-aws-ec2-metadata-token:",
            "AQ==",
            "http://h/",
        ]
        .map(|a| a.as_bytes().to_vec())
        .to_vec();
        arguments(&mut args);
        let shown: Vec<_> = args.iter().map(|a| String::from_utf8_lossy(a)).collect();
        assert_eq!(shown[1], "-HX-aws-ec2-metadata-token: ****");
        assert_eq!(shown[4], "****");
        assert_eq!(shown[5], "http://h/");
        let mut empty: Vec<Vec<u8>> = vec![
            b"X-aws-ec2-metadata-token: ".to_vec(),
            b"http://h/".to_vec(),
        ];
        arguments(&mut empty);
        assert_eq!(empty[1], b"http://h/", "the URL is not the missing token");
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(cuts in proptest::collection::vec(0usize..120, 0..6), start: u32) {
            let text = "GET / HTTP/1.1\r\nX-Aws-Ec2-Metadata-Token: AQAEAFSJIB_2jDiPWWacrUz==\r\nHost: 169.254.169.254\r\n\r\n";
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut redactor = Redactor::at(start);
            let mut all = Vec::new();
            for pair in cuts.windows(2) {
                let mut part = text.as_bytes()[pair[0]..pair[1]].to_vec();
                redactor.segment(start.wrapping_add(pair[0] as u32), part.len() as u32, &mut part);
                all.extend(part);
            }
            prop_assert_eq!(String::from_utf8_lossy(&all).into_owned(), whole(text));
        }

        #[test]
        fn nothing_panics(segments in proptest::collection::vec((any::<u32>(), any::<u32>(), any::<Vec<u8>>()), 0..8)) {
            let mut redactor = Redactor::default();
            for (seq, len, mut bytes) in segments {
                redactor.segment(seq, len.max(bytes.len() as u32), &mut bytes);
            }
        }
    }
}
