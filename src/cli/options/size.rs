//! Sizes as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use crate::event::numbers::saturating;

/// A number of bytes: `64MiB`, `512KiB`, `1000`, `10GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// The bytes, at most as many as this machine can address.
    #[must_use]
    pub fn bytes(self) -> usize {
        saturating(self.0)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            _ => return Err(not_a_size(text)),
        };
        let number: u64 = number.parse().map_err(|_| not_a_size(text))?;
        let bytes = number.checked_mul(factor);
        bytes
            .map(Self)
            .ok_or_else(|| format!("{text:?} is too large"))
    }
}

fn not_a_size(text: &str) -> String {
    format!("{text:?} is not a size: write 512KiB, 64MiB or 10GiB")
}

/// Writes the size in its largest whole unit: `10 GiB`, `1000 B`.
impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            if bytes > 0 && bytes.is_multiple_of(1 << shift) {
                return write!(formatter, "{} {unit}", bytes >> shift);
            }
        }
        write!(formatter, "{bytes} B")
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
