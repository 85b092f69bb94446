//! A filter as it was asked for, as listings and the audit trail show it.

use std::fmt;
use std::sync::Arc;

use super::spec::Spec;

/// Values kept of each field.
const VALUES_MAX: usize = 10;
/// Bytes kept of each value.
const VALUE_BYTES_MAX: usize = 64;

/// A filter in the caller's words, abridged: a filter may hold thousands of ids, and there
/// may be thousands of subscribers. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct AskedFilter {
    abridged: Arc<Abridged>,
}

#[derive(Debug, Default)]
struct Abridged {
    filter: Spec,
    /// How many values of each field are left out.
    left_out: Spec<usize>,
}

impl AskedFilter {
    /// The first ten values of each field, and 64 bytes of each value.
    #[must_use]
    pub fn new(filter: &Spec) -> Self {
        let first = |values: &Vec<String>| {
            let first = values.iter().take(VALUES_MAX);
            first.map(|value| cut(value)).collect()
        };
        let abridged = Abridged {
            filter: filter.map(first),
            left_out: filter.map(|values| values.len().saturating_sub(VALUES_MAX)),
        };
        Self {
            abridged: Arc::new(abridged),
        }
    }

    /// What is left of it.
    #[must_use]
    pub fn filter(&self) -> &Spec {
        &self.abridged.filter
    }
}

fn cut(value: &str) -> String {
    const MARK: &str = "…";
    if value.len() <= VALUE_BYTES_MAX {
        return value.to_owned();
    }
    let end = value.floor_char_boundary(VALUE_BYTES_MAX - MARK.len());
    let (start, _) = value.split_at(end);
    [start, MARK].concat()
}

/// As log lines show it. Ids are shown only where they look like Clerk's: whatever else
/// stands in a filter may be an e-mail address.
impl fmt::Display for AskedFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Abridged { filter, left_out } = &*self.abridged;
        let mut separator = "";
        let fields = filter.fields().into_iter().zip(left_out.fields());
        for ((name, values), (_, left_out)) in fields {
            if values.is_empty() {
                continue;
            }
            let shown: Vec<&str> = values.iter().map(|value| plain(value)).collect();
            write!(formatter, "{separator}{name}={}", shown.join(","))?;
            if *left_out > 0 {
                write!(formatter, ",+{left_out}")?;
            }
            separator = " ";
        }
        if separator.is_empty() {
            formatter.write_str("everything")?;
        }
        Ok(())
    }
}

/// The value if it is made of what ids, types and sources are made of.
pub(crate) fn plain(value: &str) -> &str {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '*');
    if value.len() <= VALUE_BYTES_MAX && value.chars().all(is_plain) {
        value
    } else {
        "(not shown)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_shown_without_personal_values() {
        let mut filter = Spec::default();
        assert_eq!(AskedFilter::new(&filter).to_string(), "everything");
        filter.types = vec!["user.*".to_owned()];
        filter.user_ids = vec!["ada@example.com".to_owned()];
        filter
            .user_ids
            .extend((1..=12).map(|number| format!("user_{number}")));
        assert_eq!(
            AskedFilter::new(&filter).to_string(),
            "types=user.* user_ids=(not shown),user_1,user_2,user_3,user_4,user_5,user_6,user_7,user_8,user_9,+3"
        );
    }

    #[test]
    fn a_filter_kept_for_display_is_small() {
        let asked = AskedFilter::new(&Spec {
            user_ids: (0..10_000).map(|number| format!("user_{number}")).collect(),
            types: vec!["é".repeat(100)],
            ..Spec::default()
        });
        let kept = asked.filter();
        assert_eq!(kept.user_ids.len(), 10);
        assert!(kept.user_ids.capacity() < 100);
        assert_eq!(kept.types, [format!("{}…", "é".repeat(30))]);
        assert!(kept.types[0].capacity() <= 64);
        assert!(asked.to_string().ends_with(",+9990"));
    }
}
