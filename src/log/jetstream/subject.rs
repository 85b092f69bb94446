//! The subject of a record: `<prefix>.<source>.<type>`, which an operator can read and a server
//! can filter by.
//!
//! ```text
//!   "eu"       "user.created"   ►  clerk.eu.user.created
//!   "default"  ""               ►  clerk.default.%
//!   "default"  "a..b c"         ►  clerk.default.a.%.b%20c
//! ```
//!
//! The type's dots stay, as separators of tokens. Every other byte that is unsafe in a subject
//! is percent-encoded, and an empty token is `%`. Two records have the same subject only if they
//! have the same source and type.

use std::fmt::Write as _;

use aws_lc_rs::digest;

use super::config::is_safe;
use crate::log::record::Tally;

/// Maximum size of an encoded type. A server accepts lines of 4 KiB by default, of which the
/// subject is a part. A longer type is replaced by its hash, because no body is refused for its
/// content.
const TYPE_BYTES_MAX: usize = 512;
/// Size of a hash; enough that no two types share one.
const HASH_BYTES: usize = 16;
/// Prefix of a hashed type. No encoded type begins with it.
const HASHED: &str = "%~";

/// Every subject of the stream.
pub(super) fn all(prefix: &str) -> String {
    format!("{prefix}.>")
}

/// The subject of a record.
pub(super) fn of(prefix: &str, source: &str, event_type: &str) -> String {
    let mut subject = format!("{prefix}.");
    push_token(&mut subject, source);
    subject.push('.');
    push_type(&mut subject, event_type);
    subject
}

/// The subjects of all records of a type, whatever their source.
pub(super) fn of_type(prefix: &str, event_type: &str) -> String {
    let mut subject = format!("{prefix}.*.");
    push_type(&mut subject, event_type);
    subject
}

/// The source and the type of a subject. None if [`of`] never made it, or if the type is hashed.
pub(super) fn parse(prefix: &str, subject: &str) -> Option<(String, String)> {
    let rest = subject.strip_prefix(prefix)?.strip_prefix('.')?;
    let (source, event_type) = rest.split_once('.')?;
    let tokens: Vec<String> = event_type
        .split('.')
        .map(decode_token)
        .collect::<Option<_>>()?;
    Some((decode_token(source)?, tokens.join(".")))
}

/// The source of a subject whose type is hashed.
pub(super) fn source_of_hashed(prefix: &str, subject: &str) -> Option<String> {
    let rest = subject.strip_prefix(prefix)?.strip_prefix('.')?;
    let (source, event_type) = rest.split_once('.')?;
    event_type
        .starts_with(HASHED)
        .then(|| decode_token(source))
        .flatten()
}

/// The name that the stream's own counts have for a type.
pub(super) fn counted_as(event_type: &str) -> &str {
    if is_hashed(event_type) {
        Tally::LONG
    } else {
        event_type
    }
}

/// Whether the subjects of the type hold only its hash.
fn is_hashed(event_type: &str) -> bool {
    let mut encoded = String::new();
    // Most types are short, even if every byte were encoded.
    let is_long = (3 * event_type.len()) > TYPE_BYTES_MAX;
    is_long && {
        push_type(&mut encoded, event_type);
        encoded.starts_with(HASHED)
    }
}

fn push_type(subject: &mut String, event_type: &str) {
    let start = subject.len();
    for (index, token) in event_type.split('.').enumerate() {
        if index > 0 {
            subject.push('.');
        }
        push_token(subject, token);
        if subject.len() - start > TYPE_BYTES_MAX {
            subject.truncate(start);
            push_hash(subject, event_type);
            return;
        }
    }
}

fn push_token(subject: &mut String, token: &str) {
    if token.is_empty() {
        subject.push('%');
    }
    for byte in token.bytes() {
        if is_safe(byte) {
            subject.push(char::from(byte));
        } else {
            push_hex(subject, "%", byte);
        }
    }
}

fn push_hash(subject: &mut String, event_type: &str) {
    let hash = digest::digest(&digest::SHA256, event_type.as_bytes());
    subject.push_str(HASHED);
    for byte in hash.as_ref().iter().take(HASH_BYTES) {
        push_hex(subject, "", *byte);
    }
}

fn push_hex(subject: &mut String, before: &str, byte: u8) {
    // Writing to a string does not fail.
    let _written = write!(subject, "{before}{byte:02X}");
}

fn decode_token(token: &str) -> Option<String> {
    if token == "%" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token;
    while let Some(first) = rest.bytes().next() {
        let taken = if first == b'%' {
            bytes.push(u8::from_str_radix(rest.get(1..3)?, 16).ok()?);
            3
        } else {
            bytes.push(first);
            1
        };
        rest = rest.get(taken..)?;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_subject_shows_its_source_and_type() {
        for (source, event_type, subject) in [
            ("default", "user.created", "clerk.default.user.created"),
            (
                "eu",
                "organizationDomain.updated",
                "clerk.eu.organizationDomain.updated",
            ),
            ("default", "", "clerk.default.%"),
            ("default", ".a..b.", "clerk.default.%.a.%.b.%"),
            ("default", "*.> \u{e9}", "clerk.default.%2A.%3E%20%C3%A9"),
            ("a.b", "x", "clerk.a%2Eb.x"),
        ] {
            assert_eq!(of("clerk", source, event_type), subject);
            let parsed = parse("clerk", subject);
            assert_eq!(parsed, Some((source.to_owned(), event_type.to_owned())));
        }
        assert_eq!(of_type("clerk", "user.created"), "clerk.*.user.created");
    }

    #[test]
    fn a_type_of_any_length_has_a_short_subject_of_its_own() {
        let long = "x.".repeat(100_000);
        let subject = of("clerk", "default", &long);
        assert!(subject.len() < 100, "{subject}");
        assert_ne!(subject, of("clerk", "default", &"x.".repeat(100_001)));
        assert_eq!(parse("clerk", &subject), None);
        let source = source_of_hashed("clerk", &subject);
        assert_eq!(source.as_deref(), Some("default"));
        assert!(is_hashed(&long) && is_hashed(&"é".repeat(90)));
        assert!(!is_hashed(&"é".repeat(50)) && !is_hashed(&"x".repeat(512)));
        assert_eq!(
            source_of_hashed("clerk", "clerk.default.user.created"),
            None
        );
    }

    proptest! {
        #[test]
        fn every_source_and_type_round_trips_through_its_subject(
            source in "\\PC{0,12}",
            event_type in "(\\PC|[.%*>~ ]){0,40}",
        ) {
            let subject = of("clerk", &source, &event_type);
            let is_plain = |token: &str| {
                !token.is_empty() && token.bytes().all(|byte| is_safe(byte) || byte == b'%')
            };
            prop_assert!(subject.split('.').all(is_plain), "{}", subject);
            prop_assert_eq!(parse("clerk", &subject), Some((source, event_type)));
        }
    }
}
