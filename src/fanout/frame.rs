//! Frames: encoded `SubscribeResponse` messages.
//!
//! Protobuf fields concatenate, so the encoder puts a frame together from bytes that exist
//! already: the event as the log stores it, less the fields that the subscriber's policy
//! removes, then the receive time, then the payload if the subscriber wants it.

use std::borrow::Cow;

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::access::Redaction;
use crate::clerk;
use crate::event::numbers::saturating;
use crate::event::{Cursor, Epoch};
use crate::log::{ReadError, RecordRef};
use crate::proto::field::{event, subscribe_response};

pub use crate::proto::Event;

/// Size of gRPC's prefix of a message: a flag, and the length in four bytes.
const GRPC_PREFIX_BYTES: usize = 5;
/// Approximate size of a chunk, the piece of memory that frames encoded together share.
const CHUNK_BYTES: usize = 16 << 10;

/// An encoded `SubscribeResponse` with gRPC's prefix, or several that follow each other: a range
/// of a chunk, which other frames share. Clones share the chunk too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    chunk: Bytes,
    start: usize,
    end: usize,
}

/// Whether an event comes with its verified body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The event has no body.
    Omitted,
    /// The body is in `Event.payload_json`.
    Included,
}

/// How frames are encoded. Doors that speak JSON render it from a frame's bytes, which
/// takes about 3 µs an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    #[default]
    Proto,
}

/// The parts of a record that go into a frame, and their encoding. Subscribers with the same
/// view share frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Whether the frame has the verified body.
    pub payload: Payload,
    /// The fields that are removed.
    pub redaction: Redaction,
    /// The encoding of the frame.
    pub encoding: Encoding,
}

impl Frame {
    /// The bytes to send.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.chunk.slice(self.start..self.end)
    }

    /// Number of bytes to send.
    #[must_use]
    pub fn size(&self) -> usize {
        self.end - self.start
    }

    /// Extends this frame by `next` if that follows in the same chunk, so that both are sent as
    /// one piece. Returns whether it did.
    pub fn extend_with(&mut self, next: &Self) -> bool {
        self.extend_to(&next.chunk, next.start, next.end)
    }

    fn extend_to(&mut self, chunk: &Bytes, start: usize, end: usize) -> bool {
        let follows = self.chunk.as_ptr() == chunk.as_ptr()
            && self.chunk.len() == chunk.len()
            && self.end == start;
        if follows {
            self.end = end;
        }
        follows
    }

    /// The address and the size of the chunk, which this frame keeps from being freed.
    #[cfg(test)]
    pub(super) fn chunk(&self) -> (*const u8, usize) {
        (self.chunk.as_ptr(), self.chunk.len())
    }

    /// Copies a frame of less than a quarter of its chunk, and so releases the chunk. Frames
    /// that wait for a connection therefore occupy at most four times their size.
    fn compact(&mut self) {
        if self.size() * 4 < self.chunk.len() {
            *self = Self {
                chunk: Bytes::copy_from_slice(&self.bytes()),
                start: 0,
                end: self.size(),
            };
        }
    }

    /// Encodes a message that is not an event as a frame.
    #[must_use]
    pub fn message(response: &impl prost::Message) -> Self {
        Self::of_parts(&[&response.encode_to_vec()])
    }

    /// A frame of a message that is encoded already, in parts.
    #[must_use]
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let length = parts.iter().map(|part| part.len()).sum();
        let mut chunk = BytesMut::with_capacity(GRPC_PREFIX_BYTES + length);
        put_grpc_prefix(length, &mut chunk);
        for part in parts {
            chunk.put_slice(part);
        }
        Self {
            start: 0,
            end: chunk.len(),
            chunk: chunk.freeze(),
        }
    }
}

/// The frames of several events, encoded one after the other.
#[derive(Debug, Default)]
pub(super) struct Frames {
    chunks: Vec<Bytes>,
    places: Vec<Place>,
    /// The chunk that is being filled.
    open: BytesMut,
}

/// The place of a frame in the chunks.
#[derive(Clone, Copy, Debug)]
struct Place {
    chunk: usize,
    start: usize,
    end: usize,
}

impl Frames {
    /// Encodes one frame for each record.
    pub(super) fn encode<'a>(
        epoch: Epoch,
        records: impl Iterator<Item = RecordRef<'a>>,
        view: &View,
    ) -> Self {
        let mut frames = Self::default();
        for record in records {
            frames.push(epoch, record, view);
        }
        frames.close();
        frames
    }

    /// Encodes the frame of the next record, and returns its size.
    pub(super) fn push(&mut self, epoch: Epoch, record: RecordRef<'_>, view: &View) -> usize {
        let cursor = Cursor {
            epoch,
            run: record.run,
            position: record.position,
        };
        let event = EventParts::new(record, view);
        let size = event.frame_len();
        if self.open.len() + size > CHUNK_BYTES {
            self.close();
        }
        if self.open.is_empty() {
            self.open = BytesMut::with_capacity(size.max(CHUNK_BYTES));
        }
        let start = self.open.len();
        put_event(cursor, &event, &mut self.open);
        let end = self.open.len();
        self.places.push(Place {
            chunk: self.chunks.len(),
            start,
            end,
        });
        end - start
    }

    /// Closes the chunk that is being filled, after which its frames can be read. A chunk that
    /// is not nearly full moves to memory of its size, because the ring may hold it for long and
    /// counts the bytes of events only.
    fn close(&mut self) {
        let chunk = std::mem::take(&mut self.open);
        if chunk.is_empty() {
            return;
        }
        let is_nearly_full = chunk.len() >= chunk.capacity() / 4 * 3;
        self.chunks.push(if is_nearly_full {
            chunk.freeze()
        } else {
            Bytes::copy_from_slice(&chunk)
        });
    }

    /// Bytes of memory that the frames occupy.
    pub(super) fn memory_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(Bytes::len).sum();
        chunks + size_of_val(self.chunks.as_slice()) + size_of_val(self.places.as_slice())
    }

    /// All frames, as few runs.
    pub(super) fn into_runs(mut self) -> Vec<Frame> {
        self.close();
        let whole = |chunk: Bytes| Frame {
            start: 0,
            end: chunk.len(),
            chunk,
        };
        self.chunks.into_iter().map(whole).collect()
    }

    /// Appends the frame of the record with this index to `runs`, and joins it to the last run
    /// where it follows that one. Returns the frame's size. A complete run keeps at most four
    /// times its size from being freed.
    pub(super) fn append_to(&self, runs: &mut Vec<Frame>, index: usize) -> usize {
        let Some(Place { chunk, start, end }) = self.places.get(index).copied() else {
            return 0;
        };
        let Some(chunk) = self.chunks.get(chunk) else {
            return 0;
        };
        let extended = runs
            .last_mut()
            .is_some_and(|run| run.extend_to(chunk, start, end));
        if !extended {
            if let Some(complete) = runs.last_mut() {
                complete.compact();
            }
            let chunk = chunk.clone();
            runs.push(Frame { chunk, start, end });
        }
        end - start
    }
}

fn put_event(cursor: Cursor, event: &EventParts<'_>, out: &mut BytesMut) {
    put_grpc_prefix(event.response_len(), out);
    cursor.with_text(|cursor| put_bytes(subscribe_response::CURSOR, cursor.as_bytes(), out));
    encode_key(subscribe_response::EVENT, WireType::LengthDelimited, out);
    encode_varint(event.encoded_len() as u64, out);
    event.encode(out);
}

/// Writes the prefix of a message that is not compressed (gRPC, "gRPC over HTTP2").
fn put_grpc_prefix(length: usize, out: &mut BytesMut) {
    out.put_u8(0);
    out.put_u32(saturating(length));
}

/// Decodes the event of a record, with what the view includes and without what it removes.
///
/// # Errors
/// If it is not an event.
pub fn event_message(record: RecordRef<'_>, view: &View) -> Result<Event, ReadError> {
    let encoded = encoded_event(record, view);
    Event::decode(encoded).map_err(|error| ReadError::Unreadable(error.to_string()))
}

/// The event of a record, encoded, with what the view includes and without what it removes.
#[must_use]
pub fn encoded_event(record: RecordRef<'_>, view: &View) -> Bytes {
    let parts = EventParts::new(record, view);
    let mut encoded = BytesMut::with_capacity(parts.encoded_len());
    parts.encode(&mut encoded);
    encoded.freeze()
}

/// The pieces of an encoded `Event`.
struct EventParts<'a> {
    stored: Cow<'a, [u8]>,
    receive_time: prost_types::Timestamp,
    payload: Option<Cow<'a, [u8]>>,
}

impl<'a> EventParts<'a> {
    fn new(record: RecordRef<'a>, view: &View) -> Self {
        let stored = if record.decoding == clerk::decoding() {
            Cow::Borrowed(record.event)
        } else {
            let envelope = clerk::Envelope {
                id: record.id,
                source: record.attributes.source,
                send_time: record.receive_time,
            };
            Cow::Owned(clerk::decode_again(envelope, record.event, record.payload).into())
        };
        let event_type = record.attributes.event_type;
        let payload = match view.payload {
            Payload::Omitted => None,
            Payload::Included => view.redaction.payload(event_type, record.payload),
        };
        Self {
            stored: view.redaction.event(event_type, stored),
            receive_time: record.receive_time.into(),
            payload,
        }
    }

    fn encoded_len(&self) -> usize {
        let payload = self.payload.as_ref().map(|payload| payload.len());
        self.stored.len()
            + field_len(event::RECEIVE_TIME, self.receive_time.encoded_len())
            + payload.map_or(0, |length| field_len(event::PAYLOAD_JSON, length))
    }

    /// Size of the `SubscribeResponse` around the event.
    fn response_len(&self) -> usize {
        field_len(subscribe_response::CURSOR, Cursor::TEXT_BYTES)
            + field_len(subscribe_response::EVENT, self.encoded_len())
    }

    fn frame_len(&self) -> usize {
        GRPC_PREFIX_BYTES + self.response_len()
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&self.stored);
        prost::encoding::message::encode(event::RECEIVE_TIME, &self.receive_time, out);
        if let Some(payload) = &self.payload {
            put_bytes(event::PAYLOAD_JSON, payload, out);
        }
    }
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
    use crate::event::{Attributes, Position, Run, UnixMillis};
    use crate::log::{Entry, Record};
    use crate::proto;
    use crate::proto::subscribe_response::Kind;

    const EPOCH: Epoch = Epoch::new(7);

    fn record(position: u64, event: Bytes, payload: &'static str) -> Record {
        Record {
            position: Position::new(position),
            run: Run::new(3),
            entry: Entry {
                id: "msg_1".to_owned(),
                attributes: Attributes::default(),
                receive_time: UnixMillis::new(1_234),
                event,
                decoding: clerk::decoding(),
                payload: Bytes::from_static(payload.as_bytes()),
            },
        }
    }

    fn view(payload: Payload) -> View {
        View {
            payload,
            redaction: Redaction::default(),
            encoding: Encoding::Proto,
        }
    }

    fn encode(records: &[Record], payload: Payload) -> Frames {
        Frames::encode(EPOCH, records.iter().map(Record::view), &view(payload))
    }

    fn alone(record: &Record, payload: Payload) -> Bytes {
        let mut runs = Vec::new();
        let size = encode(std::slice::from_ref(record), payload).append_to(&mut runs, 0);
        assert_eq!(runs[0].size(), size);
        runs[0].bytes()
    }

    #[test]
    fn frames_encoded_together_go_out_as_one_piece() {
        let event = Bytes::from_static(b"\x0a\x05msg_1");
        let records: Vec<Record> = (1..=1000)
            .map(|position| record(position, event.clone(), ""))
            .collect();
        let frames = encode(&records, Payload::Omitted);
        let mut all = Vec::new();
        let mut whole = 0;
        for (index, record) in records.iter().enumerate() {
            let mut alone_run = Vec::new();
            whole += frames.append_to(&mut alone_run, index);
            assert_eq!(alone_run[0].bytes(), alone(record, Payload::Omitted));
            frames.append_to(&mut all, index);
        }
        assert!(all.len() <= whole.div_ceil(CHUNK_BYTES) + 1);
        assert_eq!(all.iter().map(Frame::size).sum::<usize>(), whole);
        let mut apart = Vec::new();
        frames.append_to(&mut apart, 0);
        frames.append_to(&mut apart, 2);
        assert_eq!(apart.len(), 2, "one between them is missing");
    }

    #[test]
    fn frames_occupy_little_more_than_their_bytes() {
        for (events, event_bytes) in [(1, 10), (1, 700), (1, 9_000), (3, 7_000), (100, 700)] {
            let event = Bytes::from(vec![0; event_bytes]);
            let records: Vec<Record> = (1..=events)
                .map(|position| record(position, event.clone(), ""))
                .collect();
            let frames = encode(&records, Payload::Omitted);
            for chunk in frames.chunks {
                let bytes = chunk.len();
                let occupied = chunk.try_into_mut().expect("not shared").capacity();
                assert!(occupied <= bytes / 3 * 4 + 64, "{occupied} for {bytes}");
            }
        }
    }

    #[test]
    fn a_frame_is_what_the_generated_code_would_encode() {
        let body = r#"{"type":"user.deleted","data":{"id":"user_1","deleted":true}}"#;
        let envelope = clerk::Envelope {
            id: "msg_1",
            source: "default",
            send_time: UnixMillis::new(1_000),
        };
        let record = record(9, clerk::decode(envelope, body.as_bytes()).event, body);
        let cursor = Cursor {
            epoch: EPOCH,
            run: record.run,
            position: record.position,
        };
        for payload in [Payload::Omitted, Payload::Included] {
            let frame = alone(&record, payload);
            let response = proto::SubscribeResponse::decode(frame.slice(GRPC_PREFIX_BYTES..))
                .expect("decodes");
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
