//! Frames: encoded `SubscribeResponse` messages.
//!
//! Protobuf fields concatenate, so a frame is put together from bytes that exist
//! already: the event as the log stores it, then the receive time, then, where it is
//! wanted, the payload.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::clerk;
use crate::event::{Cursor, UnixMillis};
use crate::log::{self, NewRecord};
use crate::proto;
use crate::proto::subscribe_response::Kind;

/// Field numbers of `event.proto` and `event_service.proto`; a test holds them to the
/// generated code.
const RESPONSE_CURSOR: u32 = 1;
const RESPONSE_EVENT: u32 = 2;
const EVENT_RECEIVE_TIME: u32 = 7;
const EVENT_PAYLOAD_JSON: u32 = 50;

/// An encoded `SubscribeResponse`. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

/// Whether an event comes with its verified body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Without.
    Omitted,
    /// In `Event.payload_json`.
    Included,
}

impl Frame {
    /// The encoded message.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// A frame that carries `record`.
    pub(super) fn event(cursor: Cursor, record: &NewRecord, payload: Payload) -> Self {
        let cursor = cursor.to_string();
        let event = EventParts::new(record, payload);
        let length = field_len(RESPONSE_CURSOR, cursor.len())
            + field_len(RESPONSE_EVENT, event.encoded_len());
        let mut out = BytesMut::with_capacity(length);
        put_bytes(RESPONSE_CURSOR, cursor.as_bytes(), &mut out);
        encode_key(RESPONSE_EVENT, WireType::LengthDelimited, &mut out);
        encode_varint(event.encoded_len() as u64, &mut out);
        event.encode(&mut out);
        Self(out.freeze())
    }

    /// A frame that says how the stream is doing.
    pub(super) fn control(cursor: Cursor, kind: Kind) -> Self {
        let response = proto::SubscribeResponse {
            cursor: cursor.to_string(),
            kind: Some(kind),
        };
        Self(response.encode_to_vec().into())
    }
}

/// The whole event of a record, as a message.
pub(super) fn event_message(
    record: &NewRecord,
    payload: Payload,
) -> Result<proto::Event, log::Error> {
    let parts = EventParts::new(record, payload);
    let mut encoded = BytesMut::with_capacity(parts.encoded_len());
    parts.encode(&mut encoded);
    proto::Event::decode(encoded).map_err(|error| log::Error::Unreadable(error.to_string()))
}

/// The pieces of an encoded `Event`.
struct EventParts<'a> {
    stored: Bytes,
    receive_time: Vec<u8>,
    payload: Option<&'a [u8]>,
}

impl<'a> EventParts<'a> {
    fn new(record: &'a NewRecord, payload: Payload) -> Self {
        let stored = if record.decoding == clerk::decoding() {
            record.event.clone()
        } else {
            clerk::decode_again(record)
        };
        Self {
            stored,
            receive_time: encode_time(record.receive_time),
            payload: (payload == Payload::Included).then_some(&record.payload[..]),
        }
    }

    fn encoded_len(&self) -> usize {
        let payload = self.payload.map(<[u8]>::len);
        self.stored.len()
            + field_len(EVENT_RECEIVE_TIME, self.receive_time.len())
            + payload.map_or(0, |length| field_len(EVENT_PAYLOAD_JSON, length))
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&self.stored);
        put_bytes(EVENT_RECEIVE_TIME, &self.receive_time, out);
        if let Some(payload) = self.payload {
            put_bytes(EVENT_PAYLOAD_JSON, payload, out);
        }
    }
}

fn encode_time(time: UnixMillis) -> Vec<u8> {
    prost_types::Timestamp::from(time).encode_to_vec()
}

fn field_len(number: u32, length: usize) -> usize {
    key_len(number) + encoded_len_varint(length as u64) + length
}

fn put_bytes(number: u32, bytes: &[u8], out: &mut BytesMut) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Attributes, Epoch, Position};

    #[test]
    fn a_frame_is_what_the_generated_code_would_encode() {
        let cursor = Cursor {
            epoch: Epoch::new(7),
            position: Position::new(9),
        };
        let body = r#"{"type":"user.deleted","data":{"id":"user_1","deleted":true}}"#;
        let delivery = clerk::Delivery {
            id: "msg_1",
            source: "default",
            send_time: UnixMillis::new(1_000),
        };
        let decoded = clerk::decode(delivery, body.as_bytes());
        let record = NewRecord {
            id: "msg_1".to_owned(),
            attributes: Attributes::default(),
            receive_time: UnixMillis::new(1_234),
            event: decoded.event,
            decoding: clerk::decoding(),
            payload: Bytes::from_static(body.as_bytes()),
        };
        for payload in [Payload::Omitted, Payload::Included] {
            let frame = Frame::event(cursor, &record, payload);
            let response = proto::SubscribeResponse::decode(frame.0.clone()).expect("decodes");
            assert_eq!(response.cursor, cursor.to_string());
            let Some(Kind::Event(event)) = response.kind else {
                panic!("an event frame carries an event");
            };
            assert_eq!(event.id, "msg_1");
            assert_eq!(event.receive_time, Some(UnixMillis::new(1_234).into()));
            let included = payload == Payload::Included;
            assert_eq!(event.payload_json.as_deref(), included.then_some(body));
        }
    }
}
