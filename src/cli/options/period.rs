//! Durations as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::app::shown_duration;

/// A duration: `30d`, `28h`, `90s`, `500ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A maximum of a period, and its text in messages. Every clock has such a maximum.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeriodMax {
    pub(super) period: Period,
    pub(super) shown: &'static str,
}

impl Period {
    /// Fails if the period is longer than `longest`.
    pub(super) fn up_to(self, longest: PeriodMax) -> Result<Self, String> {
        match self <= longest.period {
            true => Ok(self),
            false => Err(format!("the most is {}", longest.shown)),
        }
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = humantime::parse_duration(text.trim());
        parsed
            .map(Self)
            .map_err(|_| format!("{text:?} is not a duration: write 30d, 28h, 15s or 500ms"))
    }
}

/// Writes the period in its largest whole unit: `30d`, `36h`, `0.5s`.
impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&shown_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
