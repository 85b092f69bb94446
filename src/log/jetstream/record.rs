//! A record as a message of the stream: its body, and the header that the stream's duplicate
//! window uses.

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use prost::Message as _;

use crate::event::{Attributes, Position, Run, UnixMillis};
use crate::log::record::{Entry, Record};
use crate::log::scan::RecordRef;

/// The body of a message. New versions may only add fields, because streams outlive versions.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredRecord {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    source: String,
    #[prost(string, tag = "3")]
    event_type: String,
    #[prost(string, optional, tag = "4")]
    instance_id: Option<String>,
    #[prost(string, optional, tag = "5")]
    user_id: Option<String>,
    #[prost(string, optional, tag = "6")]
    organization_id: Option<String>,
    #[prost(string, optional, tag = "7")]
    session_id: Option<String>,
    #[prost(int64, tag = "8")]
    receive_time_ms: i64,
    #[prost(uint32, tag = "9")]
    decoding: u32,
    #[prost(bytes = "bytes", tag = "10")]
    event: Bytes,
    #[prost(bytes = "bytes", tag = "11")]
    payload: Bytes,
    /// Absent in records of versions that did not note it.
    #[prost(string, optional, tag = "12")]
    object_id: Option<String>,
}

/// The id by which the stream remembers a record.
fn message_id(source: &str, id: &str) -> String {
    format!("{source}/{id}")
}

/// The run of a record's position: a checksum of what no other record has, its source, id and
/// time of receipt. Never [`Run::NONE`].
pub(super) fn run(source: &str, id: &str, receive_time: UnixMillis) -> Run {
    let of_time = crc32c::crc32c(&receive_time.milliseconds().to_le_bytes());
    let of_id = crc32c::crc32c_append(of_time, id.as_bytes());
    let number = crc32c::crc32c_append(of_id, source.as_bytes());
    Run::new(number.max(1))
}

/// The message of a record.
pub(super) fn message(record: Entry) -> PublishMessage {
    let message_id = message_id(&record.attributes.source, &record.id);
    let body = StoredRecord::from(record).encode_to_vec();
    PublishMessage::build()
        .header(NATS_MESSAGE_ID, message_id.as_str())
        .payload(body.into())
}

impl StoredRecord {
    /// Reads a message. None if no gateway wrote it: almost any short text decodes, so the
    /// header must name the record's own source and id.
    pub(super) fn read(headers: Option<&HeaderMap>, body: Bytes) -> Option<Self> {
        let message_id = headers?.get(NATS_MESSAGE_ID)?.as_str();
        let record = Self::decode(body).ok()?;
        let rest = message_id.strip_prefix(&record.source)?;
        let is_own = rest.strip_prefix('/')? == record.id && !record.id.is_empty();
        is_own.then_some(record)
    }

    pub(super) fn attributes(&self) -> Attributes<&str> {
        Attributes {
            event_type: &self.event_type,
            source: &self.source,
            instance_id: self.instance_id.as_deref(),
            user_id: self.user_id.as_deref(),
            organization_id: self.organization_id.as_deref(),
            session_id: self.session_id.as_deref(),
            object_id: self.object_id.as_deref(),
        }
    }

    pub(super) const fn receive_time(&self) -> UnixMillis {
        UnixMillis::new(self.receive_time_ms)
    }

    pub(super) fn run(&self) -> Run {
        run(&self.source, &self.id, self.receive_time())
    }

    pub(super) fn at(&self, position: Position) -> RecordRef<'_> {
        RecordRef {
            position,
            run: self.run(),
            id: &self.id,
            attributes: self.attributes(),
            receive_time: self.receive_time(),
            event: &self.event,
            decoding: self.decoding,
            payload: &self.payload,
        }
    }

    pub(super) fn into_record(self, position: Position) -> Record {
        let (receive_time, run) = (self.receive_time(), self.run());
        Record {
            position,
            run,
            entry: Entry {
                id: self.id,
                attributes: Attributes {
                    event_type: self.event_type,
                    source: self.source,
                    instance_id: self.instance_id,
                    user_id: self.user_id,
                    organization_id: self.organization_id,
                    session_id: self.session_id,
                    object_id: self.object_id,
                },
                receive_time,
                event: self.event,
                decoding: self.decoding,
                payload: self.payload,
            },
        }
    }
}

impl From<Entry> for StoredRecord {
    fn from(record: Entry) -> Self {
        let attributes = record.attributes;
        Self {
            id: record.id,
            source: attributes.source,
            event_type: attributes.event_type,
            instance_id: attributes.instance_id,
            user_id: attributes.user_id,
            organization_id: attributes.organization_id,
            session_id: attributes.session_id,
            receive_time_ms: record.receive_time.milliseconds(),
            decoding: record.decoding,
            event: record.event,
            payload: record.payload,
            object_id: attributes.object_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As versions before the object's id wrote it: fields 1 to 3, 8 and 11.
    const OLD: &[u8] = b"\x0a\x05msg_1\x12\x07default\x1a\x0cuser.created\x40\x07\x5a\x02{}";

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, "default/msg_1");
        headers
    }

    #[test]
    fn records_with_another_id_source_or_time_are_other_runs() {
        let record = |id: &str, source: &str, receive_time_ms| StoredRecord {
            id: id.to_owned(),
            source: source.to_owned(),
            receive_time_ms,
            ..StoredRecord::default()
        };
        let run = record("msg_1", "default", 7).run();
        assert_eq!(record("msg_1", "default", 7).run(), run);
        for other in [
            record("msg_2", "default", 7),
            record("msg_1", "eu", 7),
            record("msg_1", "default", 8),
        ] {
            assert_ne!(other.run(), run, "{other:?}");
        }
    }

    #[test]
    fn a_record_of_before_has_no_object_id() {
        let stored = StoredRecord::read(Some(&headers()), Bytes::from_static(OLD));
        let stored = stored.expect("a record");
        assert_eq!(stored.attributes().object_id, None);
        let Record { mut entry, run, .. } = stored.into_record(Position::new(1));
        assert_eq!(entry.attributes.object_id, None);
        assert_eq!(entry.receive_time, UnixMillis::new(7));
        assert_ne!(run, Run::NONE);
        // Without an id, it is still written as before.
        let again = StoredRecord::from(entry.clone()).encode_to_vec();
        assert_eq!(again, OLD);
        entry.attributes.object_id = Some("user_1".to_owned());
        let body = StoredRecord::from(entry).encode_to_vec();
        let stored = StoredRecord::read(Some(&headers()), body.into()).expect("a record");
        assert_eq!(stored.attributes().object_id, Some("user_1"));
    }
}
