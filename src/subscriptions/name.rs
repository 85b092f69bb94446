//! What a subscription is called.

use std::fmt;
use std::str::FromStr;

/// The longest name.
const BYTES_MAX: usize = 63;

/// The name of a subscription, unique in the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

/// The text is not a name that a subscription can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a name of a subscription: write 1 to 63 of `a` to `z`, `0` to `9` and `-`, not beginning with `-`"
)]
pub struct InvalidName;

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_name = text.len() <= BYTES_MAX
            && text.starts_with(is_plain)
            && text.chars().all(|c| is_plain(c) || c == '-');
        is_name.then(|| Self(text.into())).ok_or(InvalidName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_in_a_path_in_a_subject_and_in_a_shell() {
        let longest = "a".repeat(BYTES_MAX);
        for name in ["crm", "0", "a-b-", "9crm", &longest] {
            assert_eq!(
                name.parse::<Name>().map(|name| name.to_string()),
                Ok(name.to_owned())
            );
        }
        let too_long = "a".repeat(BYTES_MAX + 1);
        for text in [
            "", "-crm", "Crm", "crm.eu", "crm eu", "crm/eu", "é", "crm\n", &too_long,
        ] {
            assert_eq!(text.parse::<Name>(), Err(InvalidName), "{text:?}");
        }
    }
}
