//! What a subscription was created with, as its cell holds it.

use std::time::Duration;

use prost::Message as _;

use super::{OrderBy, Settings, as_sets};
use crate::event::numbers::saturating;
use crate::event::{Epoch, Position, UnixMillis};
use crate::fanout::OnExpired;
use crate::filter::Spec;
use crate::subscriptions::cell::{InvalidCell, unknown_fields};

/// What makes a subscription: it exists while its definition does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// What can be changed of it.
    pub settings: Settings,
    /// The principal that created it.
    pub owner: String,
    /// When it was created.
    pub create_time: UnixMillis,
    /// The log that `start` is in.
    pub epoch: Epoch,
    /// It is for events after this position.
    pub start: Position,
    /// Fields of later versions, as they were read.
    unknown: Vec<u8>,
}

/// The value of the cell. New versions may only add fields.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredDefinition {
    #[prost(string, tag = "1")]
    owner: String,
    #[prost(int64, tag = "2")]
    create_time_ms: i64,
    #[prost(fixed64, tag = "3")]
    epoch: u64,
    #[prost(uint64, tag = "4")]
    start: u64,
    #[prost(uint32, tag = "5")]
    order_by: u32,
    #[prost(uint64, tag = "6")]
    ack_deadline_ms: u64,
    #[prost(uint32, tag = "7")]
    max_deliveries: u32,
    #[prost(uint64, tag = "8")]
    min_retry_delay_ms: u64,
    #[prost(uint64, tag = "9")]
    max_retry_delay_ms: u64,
    #[prost(uint32, tag = "10")]
    on_expired: u32,
    #[prost(bool, tag = "11")]
    paused: bool,
    #[prost(string, repeated, tag = "12")]
    types: Vec<String>,
    #[prost(string, repeated, tag = "13")]
    exclude_types: Vec<String>,
    #[prost(string, repeated, tag = "14")]
    user_ids: Vec<String>,
    #[prost(string, repeated, tag = "15")]
    organization_ids: Vec<String>,
    #[prost(string, repeated, tag = "16")]
    session_ids: Vec<String>,
    #[prost(string, repeated, tag = "17")]
    sources: Vec<String>,
    #[prost(string, repeated, tag = "18")]
    instance_ids: Vec<String>,
}

/// The last number of [`StoredDefinition`].
const LAST_FIELD: u32 = 18;

impl Definition {
    /// A definition that no cell has yet.
    #[must_use]
    pub const fn new(
        settings: Settings,
        owner: String,
        create_time: UnixMillis,
        epoch: Epoch,
        start: Position,
    ) -> Self {
        Self {
            settings,
            owner,
            create_time,
            epoch,
            start,
            unknown: Vec::new(),
        }
    }

    /// The generation of the subscription's first state. Creation times grow, so that no
    /// generation comes twice for a name.
    #[must_use]
    pub fn first_generation(&self) -> u64 {
        u64::try_from(self.create_time.milliseconds()).unwrap_or(0)
    }

    /// The value of the cell.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let settings = &self.settings;
        let filter = &settings.filter;
        let milliseconds = |duration: Duration| saturating(duration.as_millis());
        let stored = StoredDefinition {
            owner: self.owner.clone(),
            create_time_ms: self.create_time.milliseconds(),
            epoch: self.epoch.number(),
            start: self.start.number(),
            order_by: number_of_order(settings.order_by),
            ack_deadline_ms: milliseconds(settings.ack_deadline),
            max_deliveries: settings.max_deliveries,
            min_retry_delay_ms: milliseconds(settings.min_retry_delay),
            max_retry_delay_ms: milliseconds(settings.max_retry_delay),
            on_expired: number_of_policy(settings.on_expired),
            paused: settings.paused,
            types: filter.types.clone(),
            exclude_types: filter.exclude_types.clone(),
            user_ids: filter.user_ids.clone(),
            organization_ids: filter.organization_ids.clone(),
            session_ids: filter.session_ids.clone(),
            sources: filter.sources.clone(),
            instance_ids: filter.instance_ids.clone(),
        };
        let mut bytes = stored.encode_to_vec();
        bytes.extend_from_slice(&self.unknown);
        bytes
    }

    /// Reads the value of a cell.
    ///
    /// # Errors
    /// If no gateway wrote it, or one that knows orders and policies that this one does not.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidCell> {
        let stored =
            StoredDefinition::decode(bytes).map_err(|_| InvalidCell("not a definition"))?;
        let filter = Spec {
            types: stored.types,
            exclude_types: stored.exclude_types,
            user_ids: stored.user_ids,
            organization_ids: stored.organization_ids,
            session_ids: stored.session_ids,
            sources: stored.sources,
            instance_ids: stored.instance_ids,
        };
        let settings = Settings {
            filter: as_sets(filter),
            order_by: order(stored.order_by).ok_or(InvalidCell("an unknown order"))?,
            ack_deadline: Duration::from_millis(stored.ack_deadline_ms),
            max_deliveries: stored.max_deliveries,
            min_retry_delay: Duration::from_millis(stored.min_retry_delay_ms),
            max_retry_delay: Duration::from_millis(stored.max_retry_delay_ms),
            on_expired: policy(stored.on_expired).ok_or(InvalidCell("an unknown policy"))?,
            paused: stored.paused,
        };
        Ok(Self {
            settings,
            owner: stored.owner,
            create_time: UnixMillis::new(stored.create_time_ms),
            epoch: Epoch::new(stored.epoch),
            start: Position::new(stored.start),
            unknown: unknown_fields(bytes, LAST_FIELD)?,
        })
    }
}

const fn number_of_order(order_by: OrderBy) -> u32 {
    match order_by {
        OrderBy::User => 1,
        OrderBy::Organization => 2,
        OrderBy::None => 3,
        OrderBy::Log => 4,
    }
}

const fn order(number: u32) -> Option<OrderBy> {
    match number {
        1 => Some(OrderBy::User),
        2 => Some(OrderBy::Organization),
        3 => Some(OrderBy::None),
        4 => Some(OrderBy::Log),
        _ => None,
    }
}

const fn number_of_policy(on_expired: OnExpired) -> u32 {
    match on_expired {
        OnExpired::Fail => 1,
        OnExpired::Earliest => 2,
        OnExpired::Latest => 3,
    }
}

const fn policy(number: u32) -> Option<OnExpired> {
    match number {
        1 => Some(OnExpired::Fail),
        2 => Some(OnExpired::Earliest),
        3 => Some(OnExpired::Latest),
        _ => None,
    }
}
