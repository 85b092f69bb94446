//! The types of events: those that Clerk declares, and others that the log has.

use std::collections::BTreeMap;

use prost::Message as _;

use super::service::{Api, Call, FIELD_BYTES};
use crate::clerk::catalog::{self, CATALOG};
use crate::clerk::schema;
use crate::event::numbers::saturating;
use crate::log::Tally;
use crate::proto;
use crate::proto::EventType;

/// An answer ends before it reaches this; many clients take none above 4 MiB.
const ANSWER_BYTES_MAX: usize = 3 << 20;

impl Api {
    /// Lists the types of events that the caller may receive.
    #[must_use]
    pub fn list_event_types(
        &self,
        call: &Call,
        _asked: proto::ListEventTypesRequest,
    ) -> proto::ListEventTypesResponse {
        let scope = &call.principal.policy().scope;
        let mut event_types = with_counts(&self.tallies(scope));
        event_types.retain(|described| scope.allows_type(&described.name));
        // The catalog's come first; the log may know more than fit an answer.
        let mut bytes = 0;
        event_types.retain(|described| {
            bytes += described.encoded_len() + FIELD_BYTES;
            bytes <= ANSWER_BYTES_MAX
        });
        proto::ListEventTypesResponse { event_types }
    }
}

/// The catalog in its order, then what only the log knows, with how many of each are
/// in the log. Bodies without a type are of none.
#[must_use]
pub fn with_counts(tallies: &[Tally]) -> Vec<EventType> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for tally in tallies.iter().filter(|tally| !tally.event_type.is_empty()) {
        *counts.entry(&tally.event_type).or_default() += tally.count;
    }
    let declared: Vec<(&str, Option<u64>)> = CATALOG
        .iter()
        .map(|kind| (kind.name, counts.remove(kind.name)))
        .collect();
    let others = counts.into_iter().map(|(name, count)| (name, Some(count)));
    let all = declared.into_iter().chain(others);
    let described = all.map(|(name, count)| EventType {
        name: name.to_owned(),
        message: message(name),
        count: saturating(count.unwrap_or(0)),
    });
    described.collect()
}

/// The message that `Event.data` holds for `event_type`.
fn message(event_type: &str) -> String {
    let shape = catalog::find(event_type).and_then(|kind| kind.shapes.first());
    let message = shape.and_then(|shape| schema::message_name(shape));
    message.unwrap_or("google.protobuf.Struct").to_owned()
}
