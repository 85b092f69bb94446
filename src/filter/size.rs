//! How large a filter is, which is looked at before its values are.

use super::spec::Spec;
use super::violation::{Violation, Violations};

/// Patterns in `types`, and in `exclude_types`.
const PATTERNS_MAX: usize = 256;
/// Values in one other field.
const VALUES_MAX: usize = 10_000;
/// Bytes of one value. Ids are far shorter.
const VALUE_BYTES_MAX: usize = 256;
/// Bytes of all values: each stream keeps its filter.
const BYTES_MAX: usize = 512 << 10;

/// How many values a field has, and how long they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    count: usize,
    bytes: usize,
    longest: usize,
}

impl Size {
    /// Counts a value of this length.
    pub fn add(&mut self, value_bytes: usize) {
        self.count += 1;
        self.bytes += value_bytes;
        self.longest = self.longest.max(value_bytes);
    }
}

impl Spec {
    /// How large each field is.
    #[must_use]
    pub fn sizes(&self) -> Spec<Size> {
        self.map(|values| {
            let mut size = Size::default();
            values.iter().for_each(|value| size.add(value.len()));
            size
        })
    }
}

impl Spec<Size> {
    /// Checks that the values are few and short enough to be looked at.
    ///
    /// # Errors
    /// With the fields that are too large.
    pub fn check(&self) -> Result<(), Violations> {
        let mut violations = Violations::default();
        let mut bytes = 0;
        for (field, size, count_max) in [
            ("types", self.types, PATTERNS_MAX),
            ("exclude_types", self.exclude_types, PATTERNS_MAX),
            ("sources", self.sources, VALUES_MAX),
            ("user_ids", self.user_ids, VALUES_MAX),
            ("organization_ids", self.organization_ids, VALUES_MAX),
            ("session_ids", self.session_ids, VALUES_MAX),
            ("instance_ids", self.instance_ids, VALUES_MAX),
        ] {
            let Size { count, longest, .. } = size;
            bytes += size.bytes;
            let description = if count > count_max {
                format!("{count} values; at most {count_max} are accepted")
            } else if longest > VALUE_BYTES_MAX {
                format!("a value of {longest} bytes; at most {VALUE_BYTES_MAX} are accepted")
            } else if bytes > BYTES_MAX {
                format!("the filter is larger than the {BYTES_MAX} bytes that are accepted")
            } else {
                continue;
            };
            let field = format!("filter.{field}");
            violations.reported.push(Violation { field, description });
        }
        if violations.reported.is_empty() {
            Ok(())
        } else {
            Err(violations)
        }
    }
}
