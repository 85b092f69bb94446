//! Signing secrets: parsed once at start-up, where a bad secret can still be distinguished from a
//! bad delivery.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const PREFIX: &str = "whsec_";
/// Svix generates 24 bytes and accepts 24 to 75; its documentation signs with 18.
const KEY_BYTES_MIN: usize = 16;

/// A key that Svix signs with. Neither `Debug` nor any error shows it.
#[derive(Clone)]
pub struct SigningSecret {
    key: Box<[u8]>,
}

/// Why a text cannot be a signing secret. The text is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// Nothing there.
    #[error("the secret is empty")]
    Empty,
    /// One of Clerk's other keys.
    #[error(
        "this is a Clerk {kind} key ({prefix}…), not a webhook signing secret; copy the Signing Secret (whsec_…) from the endpoint's page under Webhooks in the Clerk dashboard"
    )]
    OtherKey {
        kind: &'static str,
        /// How it begins.
        prefix: &'static str,
    },
    /// `ep_…`
    #[error(
        "this is the id of an endpoint (ep_…), not its signing secret; copy the Signing Secret (whsec_…) from the endpoint's page under Webhooks in the Clerk dashboard"
    )]
    EndpointId,
    /// `whsec_whsec_…`
    #[error("the secret begins with whsec_ twice; leave one of them out")]
    DoubledPrefix,
    /// `whpk_…`
    #[error(
        "this is a public key (whpk_…) for asymmetric signatures; Clerk signs with a whsec_… secret"
    )]
    PublicKey,
    /// Copied from documentation.
    #[error(
        "this is a placeholder; copy the Signing Secret (whsec_…) from the endpoint's page under Webhooks in the Clerk dashboard"
    )]
    Placeholder,
    /// `\n`, `\r`, spaces, quotes.
    #[error("the secret contains {0}; remove it (`printf %s` instead of `echo` writes no newline)")]
    StrayCharacter(&'static str),
    /// `-` or `_`.
    #[error(
        "the secret uses the URL-safe base64 alphabet (`-`, `_`); Svix secrets use `+` and `/`; copy it again"
    )]
    UrlSafe,
    /// Cut, most often.
    #[error(
        "the secret is not base64 ({0} characters, whsec_ not counted); was it cut when it was copied?"
    )]
    NotBase64(usize),
    /// Far too short for a key.
    #[error("the secret has only {0} bytes; was it cut when it was copied?")]
    TooShort(usize),
}

impl SigningSecret {
    /// Parses one secret, `whsec_` and base64.
    ///
    /// # Errors
    /// With what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        reject_stray_characters(text)?;
        reject_other_keys(text)?;
        let encoded = text.strip_prefix(PREFIX).unwrap_or(text);
        if encoded.is_empty() {
            return Err(InvalidSecret::Empty);
        }
        let Ok(key) = STANDARD.decode(encoded) else {
            return Err(why_not_base64(encoded));
        };
        if is_one_character_repeated(encoded) {
            return Err(InvalidSecret::Placeholder);
        }
        if key.len() < KEY_BYTES_MIN {
            return Err(InvalidSecret::TooShort(key.len()));
        }
        Ok(Self { key: key.into() })
    }

    /// Parses secrets that are separated by white space or commas, such as one a line. A newline
    /// at either end separates nothing, and is refused as a stray one.
    ///
    /// # Errors
    /// With what is wrong with the first bad one.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, InvalidSecret> {
        let list = text.trim_matches([' ', '\t', ',']);
        for (end, name) in [('\n', "a newline"), ('\r', "a carriage return")] {
            if list.starts_with(end) || list.ends_with(end) {
                return Err(InvalidSecret::StrayCharacter(name));
            }
        }
        let parts = text.split(is_separator).filter(|part| !part.is_empty());
        let secrets: Vec<Self> = parts.map(Self::parse).collect::<Result<_, _>>()?;
        if secrets.is_empty() {
            return Err(InvalidSecret::Empty);
        }
        Ok(secrets)
    }

    /// A new secret, as Svix would generate it.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<(Self, String), getrandom::Error> {
        let mut key = [0; 24];
        getrandom::fill(&mut key)?;
        let text = format!("{PREFIX}{}", STANDARD.encode(key));
        Ok((Self { key: Box::new(key) }, text))
    }

    /// A short name for this secret that is safe to show: the first 32 bits of the
    /// SHA-256 of its key.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let hash = digest::digest(&digest::SHA256, &self.key);
        hash.as_ref()
            .iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The key as Svix's library takes it.
    ///
    /// # Panics
    /// Never: a parsed key is not empty.
    #[must_use]
    pub fn webhook(&self) -> svix::webhooks::Webhook {
        svix::webhooks::Webhook::from_bytes(self.key.to_vec()).expect("a parsed key is not empty")
    }
}

impl PartialEq for SigningSecret {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.key, &other.key).is_ok()
    }
}

impl Eq for SigningSecret {}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningSecret({})", self.fingerprint())
    }
}

fn is_separator(character: char) -> bool {
    character.is_ascii_whitespace() || character == ','
}

fn reject_stray_characters(text: &str) -> Result<(), InvalidSecret> {
    let named = text.chars().find_map(|character| match character {
        '\n' => Some("a newline"),
        '\r' => Some("a carriage return"),
        ' ' | '\t' => Some("white space"),
        '"' | '\'' | '`' => Some("a quotation mark"),
        other if !other.is_ascii_graphic() => Some("a character that is not plain ASCII"),
        _ => None,
    });
    named.map_or(Ok(()), |name| Err(InvalidSecret::StrayCharacter(name)))
}

fn reject_other_keys(text: &str) -> Result<(), InvalidSecret> {
    for (prefix, kind) in [
        ("sk_", "secret"),
        ("pk_", "publishable"),
        ("ak_", "machine"),
        ("ins_", "instance"),
    ] {
        if text.starts_with(prefix) {
            return Err(InvalidSecret::OtherKey { kind, prefix });
        }
    }
    if text.starts_with("whpk_") {
        return Err(InvalidSecret::PublicKey);
    }
    if text.strip_prefix(PREFIX).unwrap_or(text).starts_with("ep_") {
        return Err(InvalidSecret::EndpointId);
    }
    if text
        .strip_prefix(PREFIX)
        .is_some_and(|rest| rest.starts_with(PREFIX))
    {
        return Err(InvalidSecret::DoubledPrefix);
    }
    Ok(())
}

/// Only for a text that is not a key anyway, because a random key may well spell a word.
fn why_not_base64(encoded: &str) -> InvalidSecret {
    let plain = encoded.to_lowercase();
    let words = [
        "your",
        "secret",
        "placeholder",
        "example",
        "changeme",
        "xxx",
        "...",
        "<",
        "123",
    ];
    if words.iter().any(|word| plain.contains(word)) {
        InvalidSecret::Placeholder
    } else if encoded.contains(['-', '_']) {
        InvalidSecret::UrlSafe
    } else {
        InvalidSecret::NotBase64(encoded.len())
    }
}

fn is_one_character_repeated(encoded: &str) -> bool {
    let mut characters = encoded.trim_end_matches('=').chars();
    let first = characters.next();
    characters.all(|character| Some(character) == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_with_or_without_its_prefix_is_accepted() {
        for text in [
            "whsec_plJ3nmyCDGBKInavdOK15jsl",
            "plJ3nmyCDGBKInavdOK15jsl",
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            // A word by chance.
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspobXxX",
            "whsec_yourBQIhrscChlQIMV+secretSYspobX",
        ] {
            assert!(SigningSecret::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_bad_secret_is_named_and_never_repeated() {
        use InvalidSecret as E;
        for (text, expected) in [
            ("", E::Empty),
            ("whsec_", E::Empty),
            (
                "sk_test_abc",
                E::OtherKey {
                    kind: "secret",
                    prefix: "sk_",
                },
            ),
            (
                "pk_live_abc",
                E::OtherKey {
                    kind: "publishable",
                    prefix: "pk_",
                },
            ),
            ("ep_2xJkPlJ3nmyCDGBK", E::EndpointId),
            ("whsec_ep_2xJkPlJ3nmyCDGBK", E::EndpointId),
            ("whsec_whsec_plJ3nmyCDGBKInavdOK15jsl", E::DoubledPrefix),
            ("whsec_123", E::Placeholder),
            ("whsec_your_secret_here", E::Placeholder),
            ("whsec_xxxxxxxxxxxxxxxx", E::Placeholder),
            (
                "whsec_plJ3nmyCDGBKInavdOK15jsl\n",
                E::StrayCharacter("a newline"),
            ),
            (
                "whsec_plJ3nmyCDGBKInavdOK15jsl\r\n",
                E::StrayCharacter("a carriage return"),
            ),
            (
                "\"whsec_plJ3nmyCDGBKInavdOK15jsl\"",
                E::StrayCharacter("a quotation mark"),
            ),
            ("whsec_plJ3nmyCDGBKInavdOK15js-", E::UrlSafe),
            ("whsec_plJ3nmyCDGBKInavdOK15js", E::NotBase64(23)),
            ("whsec_AbCd", E::TooShort(3)),
        ] {
            let error = SigningSecret::parse(text).expect_err(text);
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("plJ3nmyCDGBK"));
        }
    }

    #[test]
    fn several_secrets_are_separated_by_white_space_or_commas() {
        let texts = [
            "whsec_plJ3nmyCDGBKInavdOK15jsl",
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        ];
        let expected = texts.map(|text| SigningSecret::parse(text).expect("valid"));
        for separator in [" ", ",", ", ", "\t", "\n", "\r\n", "\n\n", " ,\n"] {
            let text = texts.join(separator);
            let list = SigningSecret::parse_list(&text);
            assert_eq!(list.as_deref(), Ok(&expected[..]), "{separator:?}");
            let has_newline = separator.contains('\n');
            for text in [format!("{text}{separator}"), format!("{separator}{text}")] {
                let list = SigningSecret::parse_list(&text);
                let is_stray = matches!(list, Err(InvalidSecret::StrayCharacter(_)));
                assert_eq!(is_stray, has_newline, "{text:?}");
            }
            assert!(SigningSecret::parse_list(separator).is_err());
        }
        for nothing in ["", " ", " , "] {
            let list = SigningSecret::parse_list(nothing);
            assert_eq!(list, Err(InvalidSecret::Empty), "{nothing:?}");
        }
        // Pasted from a page: a separator for the eye only.
        for separator in ["\u{a0}", "\u{2028}", ";"] {
            let list = SigningSecret::parse_list(&texts.join(separator));
            assert!(list.is_err(), "{separator:?}");
        }
    }

    #[test]
    fn a_generated_secret_is_valid() {
        let (_, text) = SigningSecret::generate().expect("randomness");
        assert_eq!(text.len(), "whsec_".len() + 32);
        assert!(SigningSecret::parse(&text).is_ok());
    }

    #[test]
    fn a_secret_is_hidden_in_debug_output() {
        let secret = SigningSecret::parse("whsec_plJ3nmyCDGBKInavdOK15jsl").expect("valid");
        assert!(!format!("{secret:?}").contains("plJ3"));
    }
}
