//! Messages without secrets: a value that stands in the wrong place may be one.

/// At most this much of a word that looks like a secret is shown, such as `whsec_123`.
const SHOWN_OF_SECRET: usize = 8;
/// How secrets begin.
const PREFIXES: [&str; 4] = ["whsec_", "cct_", "sk_live_", "sk_test_"];
/// A key of 16 bytes, the shortest that a source takes, has more characters in base64.
const KEY_CHARACTERS_MIN: usize = 20;
/// What is shown in the place of a secret.
const MASK: &str = "…";

/// A message about a configuration, without what looks like a secret: keys in base64, too, since
/// a signing secret may stand there without its `whsec_`.
#[must_use]
pub(super) fn without_secrets(text: &str) -> String {
    without_keys(&without_marked_secrets(text))
}

/// A message without what is marked as a secret: by how it begins, or as the login of a URL.
#[must_use]
pub fn without_marked_secrets(text: &str) -> String {
    let mut shown = text.to_owned();
    for prefix in PREFIXES {
        let mut from = 0;
        while let Some(found) = shown.get(from..).and_then(|rest| rest.find(prefix)) {
            let start = from + found + prefix.len();
            let secret = shown.get(start..).unwrap_or_default();
            let length = secret.find(|c| !is_of_key(c)).unwrap_or(secret.len());
            if length > SHOWN_OF_SECRET {
                shown.replace_range(start..start + length, MASK);
            }
            from = start;
        }
    }
    without_logins(&shown)
}

/// `nats://user:password@host` as `nats://…@host`.
fn without_logins(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let ends = |c: char| c.is_whitespace() || "\"'`/?#,".contains(c);
        let authority = after.split(ends).next().unwrap_or_default();
        rest = match authority.rfind('@') {
            Some(at) => {
                shown.push_str(MASK);
                after.get(at..).unwrap_or_default()
            }
            None => after,
        };
    }
    shown + rest
}

fn without_keys(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_of_key) {
        let (before, word) = rest.split_at(start);
        let length = word.find(|c| !is_of_key(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(length);
        shown.push_str(before);
        shown.push_str(if is_key(word) { MASK } else { word });
        rest = after;
    }
    shown + rest
}

fn is_of_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/=_-".contains(c)
}

/// Whether the word is random letters and digits, and neither a path nor an id.
fn is_key(word: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| word.as_bytes().iter().any(kind);
    let is_random =
        has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
    let is_id = word.split_once('_').is_some_and(|(kind, _)| {
        kind.len() <= 5 && kind.bytes().all(|byte| byte.is_ascii_lowercase())
    });
    word.len() >= KEY_CHARACTERS_MIN && is_random && !word.starts_with('/') && !is_id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_repeats_a_secret() {
        let key = "C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        for (text, shown) in [
            (format!("level \"{key}\": no"), "level \"…\": no"),
            (format!("whsec_{key} twice"), "whsec_… twice"),
            (format!("whsec_ {key}"), "whsec_ …"),
            (format!("WHSEC_{key}"), "…"),
            (
                "nats://me:p@ss@host:4222, next".to_owned(),
                "nats://…@host:4222, next",
            ),
            (
                "cannot reach http://u:p4ss@host/a@b".to_owned(),
                "cannot reach http://…@host/a@b",
            ),
        ] {
            assert_eq!(without_secrets(&text), shown);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "/etc/Clerkcast/2026/config-of-the-gateway.toml: No such file",
            "organizationMembership.created, retain_for = \"30d\"",
            "instance_id ins_2Nx8tNPXbA48SMoWf3gEzxJa54i, whsec_123",
            "sha256:715342a7f0f617a41815b5615f866ebaa82d0e37fb211bcfb784279fd992ee9b",
            "https://example.com/a@b and mail@example.com",
        ] {
            assert_eq!(without_secrets(text), text);
        }
    }
}
