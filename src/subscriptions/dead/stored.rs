//! A dead letter as the value of a cell: a protobuf message whose fields are only ever added.

use bytes::Bytes;
use prost::Message as _;

use super::StoredLetter;
use crate::event::{Attributes, Position, Run, UnixMillis};
use crate::subscriptions::cell::{InvalidCell, unknown_fields};
use crate::subscriptions::state::Lease;

/// The value of the cell.
#[derive(Clone, PartialEq, prost::Message)]
struct LetterMessage {
    #[prost(uint64, tag = "1")]
    position: u64,
    #[prost(uint32, tag = "2")]
    run: u32,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(string, tag = "4")]
    source: String,
    #[prost(string, tag = "5")]
    event_type: String,
    #[prost(string, optional, tag = "6")]
    instance_id: Option<String>,
    #[prost(string, optional, tag = "7")]
    user_id: Option<String>,
    #[prost(string, optional, tag = "8")]
    organization_id: Option<String>,
    #[prost(string, optional, tag = "9")]
    session_id: Option<String>,
    #[prost(string, optional, tag = "10")]
    object_id: Option<String>,
    #[prost(int64, tag = "11")]
    receive_time_ms: i64,
    #[prost(int64, optional, tag = "12")]
    send_time_ms: Option<i64>,
    #[prost(bytes = "bytes", tag = "13")]
    payload: Bytes,
    #[prost(uint32, tag = "14")]
    deliveries: u32,
    #[prost(uint64, tag = "15")]
    lease: u64,
    #[prost(string, tag = "16")]
    reason: String,
    #[prost(int64, tag = "17")]
    dead_time_ms: i64,
}

/// The last number of [`LetterMessage`].
const LAST_FIELD: u32 = 17;

impl StoredLetter {
    /// The value of the cell.
    pub(in crate::subscriptions) fn encode(&self) -> Bytes {
        let attributes = &self.attributes;
        let message = LetterMessage {
            position: self.position.number(),
            run: self.run.number(),
            id: self.id.clone(),
            source: attributes.source.clone(),
            event_type: attributes.event_type.clone(),
            instance_id: attributes.instance_id.clone(),
            user_id: attributes.user_id.clone(),
            organization_id: attributes.organization_id.clone(),
            session_id: attributes.session_id.clone(),
            object_id: attributes.object_id.clone(),
            receive_time_ms: self.receive_time.milliseconds(),
            send_time_ms: self.send_time.map(UnixMillis::milliseconds),
            payload: self.payload.clone(),
            deliveries: self.deliveries,
            lease: self.lease.number(),
            reason: self.reason.clone(),
            dead_time_ms: self.dead_time.milliseconds(),
        };
        let mut bytes = message.encode_to_vec();
        bytes.extend_from_slice(&self.unknown);
        bytes.into()
    }

    /// Reads the value of a cell, whose body it shares.
    ///
    /// # Errors
    /// If no gateway wrote it.
    pub(in crate::subscriptions) fn decode(value: &Bytes) -> Result<Self, InvalidCell> {
        let message =
            LetterMessage::decode(value.clone()).map_err(|_| InvalidCell("not a dead letter"))?;
        Ok(Self {
            position: Position::new(message.position),
            run: Run::new(message.run),
            id: message.id,
            attributes: Attributes {
                event_type: message.event_type,
                source: message.source,
                instance_id: message.instance_id,
                user_id: message.user_id,
                organization_id: message.organization_id,
                session_id: message.session_id,
                object_id: message.object_id,
            },
            receive_time: UnixMillis::new(message.receive_time_ms),
            send_time: message.send_time_ms.map(UnixMillis::new),
            payload: message.payload,
            deliveries: message.deliveries,
            lease: Lease::new(message.lease),
            reason: message.reason,
            dead_time: UnixMillis::new(message.dead_time_ms),
            unknown: unknown_fields(value, LAST_FIELD)?,
        })
    }
}
