//! What can be set of a subscription: defaults, bounds, comparison.

mod stored;

use std::ops::RangeInclusive;
use std::time::Duration;

pub use stored::Definition;

use crate::event::numbers::saturating;
use crate::fanout::OnExpired;
use crate::filter::Spec;

const ACK_DEADLINE: Duration = Duration::from_secs(30);
const ACK_DEADLINE_BOUNDS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);
const MAX_DELIVERIES: u32 = 10;
const MAX_DELIVERIES_BOUNDS: RangeInclusive<u32> = 1..=100;
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);
const MIN_RETRY_DELAY_LEAST: Duration = Duration::from_millis(100);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(600);
/// The longest wait that a subscription, or a worker for one event, can ask for.
pub const RETRY_DELAY_MOST: Duration = Duration::from_secs(24 * 3600);

/// What is handled one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderBy {
    /// Events of one user; where there is none, of one organization, then of one object.
    #[default]
    User,
    /// Events of one organization; where there is none, of one user, then of one object.
    Organization,
    /// No order.
    None,
    /// All events, in the order of the log.
    Log,
}

/// The settings of a subscription, with nothing left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which events it is for; the values of each field are a set, in order.
    pub filter: Spec,
    /// What is handled one after the other. It never changes.
    pub order_by: OrderBy,
    /// How long a worker has for an event.
    pub ack_deadline: Duration,
    /// After this many deliveries, an event that fails is a dead letter.
    pub max_deliveries: u32,
    /// The wait before the second delivery. Each further wait is twice as long.
    pub min_retry_delay: Duration,
    /// The longest of these waits.
    pub max_retry_delay: Duration,
    /// What to do when retention removes events that were not handled.
    pub on_expired: OnExpired,
    /// Whether no events are handed out.
    pub paused: bool,
}

/// Settings as they are asked for; what is absent has its default in a new subscription, and
/// stays as it is in one that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedSettings {
    /// As in [`Settings`].
    pub filter: Option<Spec>,
    /// As in [`Settings`].
    pub order_by: Option<OrderBy>,
    /// As in [`Settings`].
    pub ack_deadline: Option<Duration>,
    /// As in [`Settings`]; 0 stands for the default.
    pub max_deliveries: Option<i32>,
    /// As in [`Settings`].
    pub min_retry_delay: Option<Duration>,
    /// As in [`Settings`].
    pub max_retry_delay: Option<Duration>,
    /// As in [`Settings`].
    pub on_expired: Option<OnExpired>,
    /// As in [`Settings`].
    pub paused: Option<bool>,
}

/// A setting outside its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {bounds}")]
pub struct SettingError {
    /// The field of the proto file.
    pub field: &'static str,
    /// What it can be.
    pub bounds: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            filter: Spec::default(),
            order_by: OrderBy::default(),
            ack_deadline: ACK_DEADLINE,
            max_deliveries: MAX_DELIVERIES,
            min_retry_delay: MIN_RETRY_DELAY,
            max_retry_delay: MAX_RETRY_DELAY,
            on_expired: OnExpired::Fail,
            paused: false,
        }
    }
}

impl Settings {
    /// The settings of a new subscription. Where only `min_retry_delay` is set, beyond the
    /// default of `max_retry_delay`, both are the same.
    ///
    /// # Errors
    /// With each setting that is outside its bounds.
    pub fn new(asked: AskedSettings) -> Result<Self, Vec<SettingError>> {
        let mut settings = Self::default();
        let min_retry_delay = asked.min_retry_delay.unwrap_or(MIN_RETRY_DELAY);
        settings.max_retry_delay = min_retry_delay.max(MAX_RETRY_DELAY);
        settings.change(asked)
    }

    /// These settings with what `asked` changes.
    ///
    /// # Errors
    /// With each setting that is outside its bounds.
    pub fn change(&self, asked: AskedSettings) -> Result<Self, Vec<SettingError>> {
        let mut out_of_bounds = Vec::new();
        let max_deliveries = match asked.max_deliveries {
            None => self.max_deliveries,
            Some(0) => MAX_DELIVERIES,
            // A negative number is as far out of bounds as the largest.
            Some(number) => u32::try_from(number).unwrap_or(u32::MAX),
        };
        // In milliseconds, as it is stored.
        let duration = |asked: Option<Duration>, before| {
            let whole = |asked: Duration| Duration::from_millis(saturating(asked.as_millis()));
            asked.map_or(before, whole)
        };
        let changed = Self {
            filter: asked.filter.map_or_else(|| self.filter.clone(), as_sets),
            order_by: asked.order_by.unwrap_or(self.order_by),
            ack_deadline: duration(asked.ack_deadline, self.ack_deadline),
            max_deliveries,
            min_retry_delay: duration(asked.min_retry_delay, self.min_retry_delay),
            max_retry_delay: duration(asked.max_retry_delay, self.max_retry_delay),
            on_expired: asked.on_expired.unwrap_or(self.on_expired),
            paused: asked.paused.unwrap_or(self.paused),
        };
        let min_bounds = MIN_RETRY_DELAY_LEAST..=RETRY_DELAY_MOST;
        let max_bounds = changed.min_retry_delay..=RETRY_DELAY_MOST;
        for (is_within, field, bounds) in [
            (
                ACK_DEADLINE_BOUNDS.contains(&changed.ack_deadline),
                "ack_deadline",
                "from 1 s to 1 h",
            ),
            (
                MAX_DELIVERIES_BOUNDS.contains(&changed.max_deliveries),
                "max_deliveries",
                "from 1 to 100, or 0 for 10",
            ),
            (
                min_bounds.contains(&changed.min_retry_delay),
                "min_retry_delay",
                "from 100 ms to 24 h",
            ),
            (
                max_bounds.contains(&changed.max_retry_delay),
                "max_retry_delay",
                "from `min_retry_delay` to 24 h",
            ),
        ] {
            if !is_within {
                out_of_bounds.push(SettingError { field, bounds });
            }
        }
        if out_of_bounds.is_empty() {
            Ok(changed)
        } else {
            Err(out_of_bounds)
        }
    }

    /// The fields, by their names in the proto file, in which a subscription that is created
    /// again differs. Whether it is paused does not count, so that a deployment may create it
    /// at each start.
    #[must_use]
    pub fn differing_fields(&self, other: &Self) -> Vec<&'static str> {
        let fields = [
            ("filter", self.filter == other.filter),
            ("order_by", self.order_by == other.order_by),
            ("ack_deadline", self.ack_deadline == other.ack_deadline),
            (
                "max_deliveries",
                self.max_deliveries == other.max_deliveries,
            ),
            (
                "min_retry_delay",
                self.min_retry_delay == other.min_retry_delay,
            ),
            (
                "max_retry_delay",
                self.max_retry_delay == other.max_retry_delay,
            ),
            ("on_expired", self.on_expired == other.on_expired),
        ];
        let differing = fields.into_iter().filter(|(_, is_equal)| !is_equal);
        differing.map(|(name, _)| name).collect()
    }
}

/// The same filter, with the values of each field in order and once.
fn as_sets(filter: Spec) -> Spec {
    let as_set = |mut values: Vec<String>| {
        values.sort_unstable();
        values.dedup();
        values
    };
    Spec {
        types: as_set(filter.types),
        exclude_types: as_set(filter.exclude_types),
        user_ids: as_set(filter.user_ids),
        organization_ids: as_set(filter.organization_ids),
        session_ids: as_set(filter.session_ids),
        sources: as_set(filter.sources),
        instance_ids: as_set(filter.instance_ids),
    }
}

#[cfg(test)]
mod tests;
