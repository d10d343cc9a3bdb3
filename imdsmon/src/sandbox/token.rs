//! Tokens of the simulated IMDS: signed instead of stored, so that any number of them costs
//! no memory and none is forgotten.
//!
//! A token is 40 bytes, `01 00 04`, 21 random ones, the masked time of its end and a keyed
//! check sum, in URL-safe base64: 56 characters from `AQAE` to `==`, the shape of real ones.
//! The check sum is `SipHash` from the standard library, with a key of this process. It keeps
//! honest clients honest, which is all that a simulation needs.

use std::{
    hash::{BuildHasher as _, RandomState},
    io,
    time::{Duration, Instant},
};

/// The longest life of a token, in seconds; the shortest is 1.
pub(super) const MAX_TTL: u32 = 21_600;

const PREFIX: [u8; 3] = [1, 0, 4];
const NONCE: usize = 21;
const LEN: usize = PREFIX.len() + NONCE + 8 + 8;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Makes tokens and knows its own again.
pub(super) struct TokenIssuer {
    key: RandomState,
    start: Instant,
}

impl TokenIssuer {
    pub(super) fn new() -> Self {
        Self {
            key: RandomState::new(),
            start: Instant::now(),
        }
    }

    /// A new token that is valid for `ttl` seconds.
    pub(super) fn issue(&self, ttl: u32) -> io::Result<String> {
        let mut nonce = [0; NONCE];
        fill_random(&mut nonce)?;
        let end = self.start.elapsed() + Duration::from_secs(ttl.into());
        let end = u64::try_from(end.as_millis()).unwrap_or(u64::MAX);
        let mut token = [0; LEN];
        token[..3].copy_from_slice(&PREFIX);
        token[3..24].copy_from_slice(&nonce);
        token[24..32].copy_from_slice(&(end ^ self.mask(&nonce)).to_be_bytes());
        token[32..].copy_from_slice(&self.check_sum(&nonce, end).to_be_bytes());
        Ok(base64(&token))
    }

    /// Was this token issued here, and is it still alive?
    pub(super) fn is_valid(&self, token: &[u8]) -> bool {
        let Some(token) = parse_base64(token) else {
            return false;
        };
        let (Ok(nonce), Ok(end), Ok(sum)) = (
            <[u8; NONCE]>::try_from(&token[3..24]),
            <[u8; 8]>::try_from(&token[24..32]),
            <[u8; 8]>::try_from(&token[32..]),
        ) else {
            return false;
        };
        let end = u64::from_be_bytes(end) ^ self.mask(&nonce);
        token[..3] == PREFIX
            && u64::from_be_bytes(sum) == self.check_sum(&nonce, end)
            && self.start.elapsed() < Duration::from_millis(end)
    }

    fn mask(&self, nonce: &[u8; NONCE]) -> u64 {
        self.key.hash_one(nonce)
    }

    fn check_sum(&self, nonce: &[u8; NONCE], end: u64) -> u64 {
        self.key.hash_one((nonce, end))
    }
}

fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of a live slice.
    let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    // Up to 256 bytes are never cut short (getrandom(2)).
    if usize::try_from(filled).is_ok_and(|n| n == bytes.len()) {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn base64(bytes: &[u8; LEN]) -> String {
    let mut text = String::with_capacity(56);
    for group in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|i| group.get(i).copied().map_or(0, u32::from));
        let word = a << 16 | b << 8 | c;
        for i in 0..4 {
            if i <= group.len() {
                text.push(char::from(ALPHABET[(word >> (18 - 6 * i) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

fn parse_base64(text: &[u8]) -> Option<[u8; LEN]> {
    let text = text.strip_suffix(b"==")?;
    if text.len() != 54 {
        return None;
    }
    let mut bytes = [0; LEN];
    let (mut word, mut bits, mut at) = (0_u32, 0, 0);
    for c in text {
        let digit = ALPHABET.iter().position(|known| known == c)?;
        word = word << 6 | u32::try_from(digit).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            *bytes.get_mut(at)? = u8::try_from(word >> bits & 0xff).ok()?;
            at += 1;
        }
    }
    // The last digit has four bits more than the last byte; real encoders leave them 0.
    (word.trailing_zeros() >= 4).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_the_real_shape() {
        let token = TokenIssuer::new().issue(60).expect("randomness");
        assert_eq!(token.len(), 56);
        assert!(
            token.starts_with("AQAE") && token.ends_with("=="),
            "{token}"
        );
        assert!(
            token[..54].bytes().all(|c| ALPHABET.contains(&c)),
            "{token}"
        );
    }

    #[test]
    fn a_token_is_known_again_and_a_changed_one_is_not() {
        let tokens = TokenIssuer::new();
        let token = tokens.issue(60).expect("randomness").into_bytes();
        assert!(tokens.is_valid(&token));
        for at in 0..token.len() {
            let mut changed = token.clone();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(!tokens.is_valid(&changed), "changed at {at}");
        }
        assert!(!tokens.is_valid(&token[..55]));
        assert!(!tokens.is_valid(b""));
        assert!(
            !TokenIssuer::new().is_valid(&token),
            "another server's token"
        );
    }

    #[test]
    fn a_token_expires() {
        let tokens = TokenIssuer::new();
        assert!(!tokens.is_valid(tokens.issue(0).expect("randomness").as_bytes()));
    }
}
