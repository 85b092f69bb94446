//! The types that every other module uses: positions, cursors, times, and the attributes that
//! identify an event.

mod attributes;
mod characters;
mod clock;
mod cursor;
mod excerpt;
mod id;
mod index_hint;
pub mod numbers;
mod values;

use std::fmt;
use std::time::{Duration, SystemTime};

use numbers::saturating;

pub use attributes::Attributes;
pub use characters::is_unprintable;
pub use clock::SteadyClock;
pub use cursor::{Cursor, InvalidCursor};
pub use excerpt::Excerpt;
pub use id::{IdKind, InvalidId};
pub use index_hint::IndexHint;
pub use values::Values;

/// A place in the log.
///
/// Strictly increasing, never reused, not contiguous. `Position::START` lies before
/// the first event, so "after `START`" is the whole log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// Before the first event.
    pub const START: Self = Self(0);

    /// The position that a store knows by this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The store's number for this position.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The least position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// How many positions lie between `earlier` and this one: an upper bound for
    /// the events between them.
    #[must_use]
    pub const fn distance_from(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The identity of one log. A log that was deleted and begun again has another one,
/// so that an old cursor cannot silently point into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch that a store knows by this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The store's number for this epoch.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// One stretch of a log's history: what one start of its writer wrote, or where several
/// processes write, one event.
///
/// A log that is restored from a backup, or that lost its end, uses positions a second time, for
/// other events. They belong to another run, so position and run together name one event for
/// ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Run(u32);

impl Run {
    /// Of positions before the first event, and of those that were written before runs
    /// were.
    pub const NONE: Self = Self(0);

    /// The run that a store knows by this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The store's number for this run.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// An instant in milliseconds since 1970, the unit of Clerk's own times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(i64);

impl UnixMillis {
    /// The instant this many milliseconds after 1970.
    #[must_use]
    pub const fn new(milliseconds: i64) -> Self {
        Self(milliseconds)
    }

    /// The machine's clock.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the clock"
    )]
    pub fn now() -> Self {
        let since_1970 = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self(saturating(since_1970.as_millis()))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn milliseconds(self) -> i64 {
        self.0
    }

    /// This instant less `duration`, or 1970 where that is earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        let milliseconds = saturating(duration.as_millis());
        Self(self.0.saturating_sub(milliseconds).max(0))
    }

    /// This instant plus `duration`.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(saturating(duration.as_millis())))
    }

    /// The time from `earlier` to this instant; zero where the clock went back.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let milliseconds = u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0);
        Duration::from_millis(milliseconds)
    }
}

/// As in RFC 3339.
impl fmt::Display for UnixMillis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        prost_types::Timestamp::from(*self).fmt(formatter)
    }
}

impl From<UnixMillis> for prost_types::Timestamp {
    fn from(instant: UnixMillis) -> Self {
        let nanos = instant.0.rem_euclid(1000) * 1_000_000;
        Self {
            seconds: instant.0.div_euclid(1000),
            nanos: i32::try_from(nanos).unwrap_or(0),
        }
    }
}

impl From<&prost_types::Timestamp> for UnixMillis {
    fn from(timestamp: &prost_types::Timestamp) -> Self {
        let nanos = i64::from(timestamp.nanos);
        Self(
            timestamp
                .seconds
                .saturating_mul(1000)
                .saturating_add(nanos / 1_000_000),
        )
    }
}
