//! A caller's text, as messages repeat it.

use std::fmt::{self, Write as _};

/// Shows at most 64 bytes of a text, with what does not print escaped. Where that is not
/// all of it, `…` follows.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<'a>(pub &'a str);

const BYTES_MAX: usize = 64;

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::new();
        for character in self.0.chars() {
            let before = shown.len();
            match character {
                '"' | '\'' => shown.push(character),
                _ => shown.extend(character.escape_debug()),
            }
            if shown.len() > BYTES_MAX {
                shown.truncate(before);
                formatter.write_str(&shown)?;
                return formatter.write_char('…');
            }
        }
        formatter.write_str(&shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_printable() {
        for (text, shown) in [
            ("user.created", "user.created".to_owned()),
            ("a\nb\u{1b}[31m", "a\\nb\\u{1b}[31m".to_owned()),
            (&"x".repeat(64), "x".repeat(64)),
            (&"x".repeat(65), format!("{}…", "x".repeat(64))),
            (&"é".repeat(40), format!("{}…", "é".repeat(32))),
        ] {
            assert_eq!(Excerpt(text).to_string(), shown);
        }
        let worst = Excerpt(&"\u{10ffff}".repeat(100)).to_string();
        assert!(worst.len() <= BYTES_MAX + '…'.len_utf8(), "{worst}");
    }
}
