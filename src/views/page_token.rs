//! Page tokens: where a list goes on, sealed so that nobody can read it, alter it, or use it with another request. A token never tells
//! its holder anything: a place of the log in the clear would show how many events lie between those that she may see.

use std::sync::atomic::{AtomicU64, Ordering};

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest, hmac,
};

use crate::clock::Clock;

/// The longest token in characters that is looked at; the longest that this program gives out, for a timeline that goes on after an event
/// of a publisher with a name of 255 characters, has 668.
pub const TOKEN_CHARS_MAX: usize = 1_024;

/// The first byte of a sealed token's content; another version is refused, and the caller begins again.
const VERSION: u8 = 1;
/// What a token tells of the process that sealed it: a number of its own.
const PROCESS_BYTES: usize = 16;
/// How many tokens that process had sealed before.
const COUNTER_BYTES: usize = 8;

/// The key of all a node's page tokens: kept as long as the node's data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PageKey(pub [u8; 32]);

/// Seals and opens page tokens. Tokens of one [`PageKey`] outlive the process that sealed them.
pub struct PageTokens {
    secret: hmac::Key,
    process: [u8; PROCESS_BYTES],
    sealing: LessSafeKey,
    next_nonce: AtomicU64,
}

/// The token is not one that this process gave out for this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the next_page_token of the answer before, with the rest of the request as it was then")]
pub struct TokenInvalid;

/// What a token is bound to: everything of a request but its token, digested. Two requests with the same binding may share tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBinding([u8; 32]);

impl TokenBinding {
    /// Digests the parts (the call, the caller, the log's epoch, the encoded request without its token), told apart by their lengths.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }
}

impl PageKey {
    /// A fresh key.
    #[must_use]
    pub fn fresh(clock: &dyn Clock) -> Self {
        // Each id of version 7 holds 74 random bits (RFC 9562, section 5.7), so four of them hold more than the 256 of the key.
        let mut seed = Vec::with_capacity(64);
        for _ in 0..4 {
            seed.extend_from_slice(clock.fresh_uuid().as_bytes());
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest::digest(&digest::SHA256, &seed).as_ref());
        Self(key)
    }
}

impl PageTokens {
    /// Tokens under a key, sealed as this process.
    #[must_use]
    pub fn new(key: &PageKey, clock: &dyn Clock) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &key.0);
        let process = *clock.fresh_uuid().as_bytes();
        Self { sealing: key_of(&secret, &process), secret, process, next_nonce: AtomicU64::new(0) }
    }

    /// The token for some content.
    #[must_use]
    pub fn seal(&self, binding: &TokenBinding, content: &[u8]) -> String {
        // Counted, and each process has a key of its own, so that no nonce is ever used twice with one key.
        let counter = self.next_nonce.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let mut sealed = Vec::with_capacity(1 + content.len() + CHACHA20_POLY1305.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(content);
        self.sealing
            .seal_in_place_append_tag(nonce(counter), Aad::from(binding.0), &mut sealed)
            .expect("a token is far shorter than the cipher's limit");
        hexadecimal(&[&self.process[..], &counter, &sealed].concat())
    }

    /// The content of a token.
    ///
    /// # Errors
    /// It was altered, belongs to another request or caller, or was sealed under another key.
    pub fn open(&self, binding: &TokenBinding, token: &str) -> Result<Vec<u8>, TokenInvalid> {
        let bytes = from_hexadecimal(token).ok_or(TokenInvalid)?;
        let (process, rest) = bytes.split_first_chunk::<PROCESS_BYTES>().ok_or(TokenInvalid)?;
        let (counter, sealed) = rest.split_first_chunk::<COUNTER_BYTES>().ok_or(TokenInvalid)?;
        let mut sealed = sealed.to_vec();
        let content = key_of(&self.secret, process)
            .open_in_place(nonce(*counter), Aad::from(binding.0), &mut sealed)
            .map_err(|_| TokenInvalid)?;
        match content.split_first() {
            Some((&VERSION, rest)) => Ok(rest.to_vec()),
            _ => Err(TokenInvalid),
        }
    }
}

/// The key of one process: HMAC as the one step of a key derivation, since the secret is uniform already (RFC 5869, section 3.3).
fn key_of(secret: &hmac::Key, process: &[u8; PROCESS_BYTES]) -> LessSafeKey {
    let derived = hmac::sign(secret, process);
    let key = UnboundKey::new(&CHACHA20_POLY1305, derived.as_ref()).expect("HMAC-SHA-256 gives the key's length");
    LessSafeKey::new(key)
}

fn nonce(counter: [u8; COUNTER_BYTES]) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..COUNTER_BYTES].copy_from_slice(&counter);
    Nonce::assume_unique_for_key(nonce)
}

impl std::fmt::Debug for PageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageKey")
    }
}

impl std::fmt::Debug for PageTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageTokens")
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    if text.len() > TOKEN_CHARS_MAX || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn tokens() -> PageTokens {
        PageTokens::new(&PageKey::fresh(&SystemClock), &SystemClock)
    }

    #[test]
    fn a_token_opens_only_unaltered_and_for_its_own_request() {
        let ours = tokens();
        let binding = TokenBinding::of(&[b"ListEvents", b"caller"]);
        let token = ours.seal(&binding, b"content");
        assert_eq!(ours.open(&binding, &token).as_deref(), Ok(&b"content"[..]));
        assert_eq!(ours.open(&TokenBinding::of(&[b"ListEventsc", b"aller"]), &token), Err(TokenInvalid));
        assert_eq!(tokens().open(&binding, &token), Err(TokenInvalid));
        for at in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
            let altered = String::from_utf8(altered).expect("still digits");
            assert_eq!(ours.open(&binding, &altered), Err(TokenInvalid), "character {at} altered");
        }
        for wrong in ["", "zz", "0", "00", &token[..token.len() - 2], &"0".repeat(TOKEN_CHARS_MAX + 2)] {
            assert_eq!(ours.open(&binding, wrong), Err(TokenInvalid), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_outlives_its_process_whose_successor_repeats_no_nonce() {
        let key = PageKey::fresh(&SystemClock);
        let [before, after] = [(); 2].map(|()| PageTokens::new(&key, &SystemClock));
        let binding = TokenBinding::of(&[b"ListEvents"]);
        let token = before.seal(&binding, b"content");
        assert_eq!(after.open(&binding, &token).as_deref(), Ok(&b"content"[..]));
        // Both count from zero: with one key for both, the same content would give the same bytes.
        let sealed = |token: &str| token[2 * (PROCESS_BYTES + COUNTER_BYTES)..].to_owned();
        assert_ne!(sealed(&token), sealed(&after.seal(&binding, b"content")));
    }

    #[test]
    fn equal_contents_make_different_tokens_that_hide_them() {
        let tokens = tokens();
        let binding = TokenBinding::of(&[]);
        let (first, second) = (tokens.seal(&binding, b"content"), tokens.seal(&binding, b"content"));
        assert_ne!(first, second);
        assert!(!first.contains(&hexadecimal(b"content")));
    }
}
