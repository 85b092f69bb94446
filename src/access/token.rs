//! Bearer tokens, of which only the hash is kept.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// So that a scanner for leaked secrets, or a person, knows one when it sees it.
pub(super) const TOKEN_PREFIX: &str = "cct_";
const TOKEN_BYTES: usize = 32;
const HASH_PREFIX: &str = "sha256:";
const HASH_BYTES: usize = 32;

/// A new token. It is shown once, and is not in any log line.
pub struct Token(String);

impl Token {
    /// A token of 256 random bits.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!(
            "{TOKEN_PREFIX}{}",
            URL_SAFE_NO_PAD.encode(bytes)
        )))
    }

    /// What its owner sends.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// What the configuration holds.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Token").finish_non_exhaustive()
    }
}

/// What a token hashes to: `sha256:` and 64 hexadecimal digits. Tokens are random, so
/// there is nothing that a slow hash would make harder to guess.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHash([u8; HASH_BYTES]);

/// Why a text is not the hash of a token. The message does not repeat the text, which may be the
/// token itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHash {
    /// It is a token.
    #[error(
        "this is a token, not its hash: a reader of the file could use it. Make a new one with `clerkcast token new NAME`, which prints the hash"
    )]
    IsToken,
    /// It is something else.
    #[error(
        "not `sha256:` and 64 hexadecimal digits; `clerkcast token new NAME` prints a token and its hash"
    )]
    Malformed,
}

impl TokenHash {
    /// The hash of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl std::str::FromStr for TokenHash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        if text.starts_with(TOKEN_PREFIX) {
            return Err(InvalidHash::IsToken);
        }
        let digits = text
            .strip_prefix(HASH_PREFIX)
            .ok_or(InvalidHash::Malformed)?;
        if digits.len() != 2 * HASH_BYTES || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidHash::Malformed);
        }
        let mut hash = [0; HASH_BYTES];
        for (index, byte) in hash.iter_mut().enumerate() {
            let pair = digits.get(2 * index..2 * index + 2);
            let value = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
            *byte = value.ok_or(InvalidHash::Malformed)?;
        }
        Ok(Self(hash))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(HASH_PREFIX)?;
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TokenHash").finish_non_exhaustive()
    }
}
