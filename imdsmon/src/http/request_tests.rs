//! The tolerant reader against the strict one, and details that no conversation shows.

use proptest::prelude::*;

use super::*;

/// Heads that are mostly right, so that the strict reader takes many of them.
fn head() -> impl Strategy<Value = String> {
    let method = prop_oneof!["GET|PUT|HEAD|POST", "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}"];
    let target = prop_oneof![
        "/latest/api/token/?",
        "(http://[a-z.]{1,9})?/[!-~]{0,30}(\\?[!-~]{0,9})?",
        "[!-~\u{e9}]{1,40}",
        "/a b",
    ];
    let protocol = prop_oneof![9 => "HTTP/1\\.[01]", 1 => "(?i)HTTP/[0-9]\\.[0-9]|"];
    let name = prop_oneof![
        "(?i)x-aws-ec2-metadata-token",
        "(?i)user-agent|content-length|transfer-encoding",
        "[A-Za-z-]{1,12}[ :]?",
    ];
    let value = prop_oneof![
        "[*]{0,9}",
        "[0-9]{0,22}(, ?[0-9]{1,3})?",
        "(gzip, ?)?[Cc]hunked",
        "[ -~\t\u{e9}]{0,40}",
        "a\r\n b",
    ];
    let space = "[ \t]{0,2}";
    let end = prop_oneof![9 => Just("\r\n"), 1 => Just("\n")];
    let header =
        (name, space, value, space, end.clone()).prop_map(|(name, before, value, behind, end)| {
            format!("{name}:{before}{value}{behind}{end}")
        });
    let headers = prop::collection::vec(header, 0..8);
    (method, target, protocol, end.clone(), headers, end).prop_map(
        |(method, target, protocol, line_end, headers, end)| {
            format!(
                "{method} {target} {protocol}{line_end}{}{end}",
                headers.concat()
            )
        },
    )
}

#[test]
fn empty_lines_before_a_request_do_not_count() {
    let head = b"\n\r\nGET /latest/ HTTP/1.0\r\n\r\n";
    assert!(strict(head).is_some());
    assert_eq!(tolerant(head), strict(head));
}

proptest! {
    #[test]
    fn tolerant_reader_agrees_with_httparse(head in head()) {
        if let Some(strict) = strict(head.as_bytes()) {
            prop_assert_eq!(tolerant(head.as_bytes()), Some(strict));
        }
    }

    #[test]
    fn no_bytes_are_too_strange(bytes: Vec<u8>, head in head(), at: prop::sample::Index, byte: u8) {
        parse(&bytes);
        is_certain(&bytes);
        let mut head = head.into_bytes();
        let at = at.index(head.len());
        head[at] = byte;
        parse(&head);
        if let Some(strict) = strict(&head) {
            prop_assert_eq!(tolerant(&head), Some(strict));
        }
    }

    #[test]
    fn every_beginning_of_a_certain_line_may_become_one(
        line in "[A-Z]{1,17} (/|http://|HTTP://)?[!-~]{0,9} (HTTP|http|Http)/1[.][0-9]\r?\n",
    ) {
        if is_certain(line.as_bytes()) {
            prop_assert!(request_line(line.as_bytes()).is_some());
            for end in 0..line.len() {
                prop_assert!(may_be_certain(&line.as_bytes()[..end]));
            }
        }
    }

    #[test]
    fn text_stays_within_its_bound(bytes: Vec<u8>, limit in 0..20_usize) {
        let whole = String::from_utf8_lossy(&bytes).into_owned();
        let cut = text(&bytes, limit);
        prop_assert!(cut.len() <= limit && whole.starts_with(&cut));
        prop_assert!(cut.len() == whole.len() || cut.len() + 3 >= limit);
    }
}

#[test]
fn the_strict_reader_takes_what_is_right() {
    let head = b"GET /a?b=c HTTP/1.1\r\nUser-Agent: curl/8\r\nContent-Length: 5\r\n\r\n";
    let parsed = strict(head).unwrap();
    assert_eq!(parsed.user_agent, Some(&b"curl/8"[..]));
    assert_eq!(Some(parsed), tolerant(head));
}

#[test]
fn a_content_length_is_read_as_servers_read_it() {
    for (value, length) in [
        ("5", Some(5)),
        ("5, 5", Some(5)),
        ("", None),
        ("-5", None),
        ("5x", None),
        ("99999999999999999999999", Some(u64::MAX)),
    ] {
        assert_eq!(content_length(value.as_bytes()), length, "{value}");
    }
}

#[test]
fn of_two_token_headers_the_better_counts() {
    for head in [
        "GET / HTTP/1.1\r\nX-aws-ec2-metadata-token:\r\nX-aws-ec2-metadata-token: a\r\n\r\n",
        "GET / HTTP/1.1\r\nX-aws-ec2-metadata-token: a\r\nX-aws-ec2-metadata-token:\r\n\r\n",
    ] {
        assert_eq!(
            parse(head.as_bytes()).unwrap().0.auth,
            Auth::V2(TokenValue::Present)
        );
    }
}
