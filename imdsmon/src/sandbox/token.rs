//! Session tokens of the simulated IMDS: signed instead of stored, so they use no memory and do
//! not expire early.
//!
//! A token is 40 bytes in URL-safe base64: `01 00 04`, 21 random bytes, the masked expiry time
//! and a keyed checksum. Its 56 characters begin with `AQAE` and end with `==`, like real tokens.
//! The checksum is the standard library's `SipHash` with a key of this process, which is enough
//! for a simulator: it detects wrong tokens, not forgers.

use std::{
    hash::{BuildHasher as _, RandomState},
    io,
    time::{Duration, Instant},
};

use data_encoding::BASE64URL;
use rustix::rand::{GetRandomFlags, getrandom};

/// The largest TTL of a token, in seconds; the smallest is 1 (EC2 User Guide).
pub(super) const MAX_TTL: u32 = 21_600;

const PREFIX: [u8; 3] = [1, 0, 4];
const NONCE_LEN: usize = 21;
const LEN: usize = PREFIX.len() + NONCE_LEN + 8 + 8;

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
        let mut nonce = [0; NONCE_LEN];
        // Never cut short up to 256 bytes (getrandom(2)).
        getrandom(&mut nonce[..], GetRandomFlags::empty())?;
        let end = self.start.elapsed() + Duration::from_secs(ttl.into());
        let end = u64::try_from(end.as_millis()).unwrap_or(u64::MAX);
        let mut token = [0; LEN];
        token[..3].copy_from_slice(&PREFIX);
        token[3..24].copy_from_slice(&nonce);
        token[24..32].copy_from_slice(&(end ^ self.mask(&nonce)).to_be_bytes());
        token[32..].copy_from_slice(&self.checksum(&nonce, end).to_be_bytes());
        Ok(BASE64URL.encode(&token))
    }

    /// Whether this issuer issued the token and its TTL has not passed.
    pub(super) fn is_valid(&self, token: &[u8]) -> bool {
        let Ok(token) = BASE64URL.decode(token) else {
            return false;
        };
        let Ok(token) = <[u8; LEN]>::try_from(token) else {
            return false;
        };
        let (Ok(nonce), Ok(end), Ok(sum)) = (
            <[u8; NONCE_LEN]>::try_from(&token[3..24]),
            <[u8; 8]>::try_from(&token[24..32]),
            <[u8; 8]>::try_from(&token[32..]),
        ) else {
            return false;
        };
        let end = u64::from_be_bytes(end) ^ self.mask(&nonce);
        token[..3] == PREFIX
            && u64::from_be_bytes(sum) == self.checksum(&nonce, end)
            && self.start.elapsed() < Duration::from_millis(end)
    }

    fn mask(&self, nonce: &[u8; NONCE_LEN]) -> u64 {
        self.key.hash_one(nonce)
    }

    fn checksum(&self, nonce: &[u8; NONCE_LEN], end: u64) -> u64 {
        self.key.hash_one((nonce, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_has_the_shape_of_real_ones() {
        let token = TokenIssuer::new().issue(60).expect("randomness");
        assert_eq!(token.len(), 56);
        assert!(
            token.starts_with("AQAE") && token.ends_with("=="),
            "{token}"
        );
    }

    #[test]
    fn only_unchanged_tokens_of_this_issuer_are_valid() {
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
    fn token_expires() {
        let tokens = TokenIssuer::new();
        assert!(!tokens.is_valid(tokens.issue(0).expect("randomness").as_bytes()));
    }
}
