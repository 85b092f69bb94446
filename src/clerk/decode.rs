//! Decodes a verified body into an `Event`, and finds the ids that filters look at.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use serde_json::value::RawValue;

use super::catalog;
use super::json::{Object, integer, string};
use super::schema::{Field, Kind, SCHEMA};
use super::subjects;
use super::transcode::{Drift, DriftKind, Path, Transcoder};
use super::wire::TIMESTAMP_SECONDS;
use crate::event::{Attributes, UnixMillis};
use crate::proto;

/// Below this, `timestamp` is in seconds: as milliseconds it would lie in early 1973. Clerk's
/// documentation specifies milliseconds; its examples have seconds.
const SECONDS_BELOW: i64 = 100_000_000_000;

/// The facts about an event that its body does not hold.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// `svix-id`.
    pub id: &'a str,
    /// The configured source whose secret verified the body.
    pub source: &'a str,
    /// `svix-timestamp`.
    pub send_time: UnixMillis,
}

/// A decoded body.
#[derive(Debug)]
pub struct Decoded {
    /// The attributes that filters, indexes and subscriptions use.
    pub attributes: Attributes,
    /// The encoded `Event`, without `receive_time` and `payload_json`. The encoder of frames
    /// adds them: the former is not known here, and not every subscriber wants the latter.
    pub event: Bytes,
    /// When the event occurred, if the body says so.
    pub occur_time: Option<UnixMillis>,
    /// Where the body departs from the proto files.
    pub drift: Vec<Drift>,
}

/// Decodes a verified body. Never fails: a value that does not fit its field is left unset, and
/// the payload still has it.
#[must_use]
pub fn decode(envelope: Envelope<'_>, body: &[u8]) -> Decoded {
    let mut transcoder = Transcoder::default();
    let mut event = proto::Event {
        id: envelope.id.to_owned(),
        source: envelope.source.to_owned(),
        send_time: Some(envelope.send_time.into()),
        ..proto::Event::default()
    };
    let mut attributes = Attributes::default();
    let mut encoded_data = Vec::new();
    let text = std::str::from_utf8(body).unwrap_or_default();
    match Object::parse(text.trim_start_matches('\u{feff}')) {
        Some(object) => {
            let object = object.without_repeated_keys();
            read_outer(&object, &mut event, &mut transcoder);
            encoded_data.reserve(body.len());
            if let Some(data) = read_data(&object, &mut transcoder) {
                let declared = catalog::find(&event.r#type);
                event.object_id = data.object.string_at(&["id"]).unwrap_or_default();
                match declared {
                    Some(kind) => subjects::declared(kind.name, &data.object, &mut attributes),
                    None => subjects::other(&event.r#type, &data.object, &mut attributes),
                }
                write_data(declared, &data, &mut transcoder, &mut encoded_data);
            }
        }
        None => transcoder.note(root("body"), DriftKind::UnexpectedValue),
    }

    let occur_time = event.occur_time.as_ref().map(UnixMillis::from);
    event.user_id = attributes.user_id.unwrap_or_default();
    event.organization_id = attributes.organization_id.unwrap_or_default();
    event.session_id = attributes.session_id.unwrap_or_default();
    // Protobuf fields concatenate: `data` follows what prost encodes.
    let mut encoded = BytesMut::with_capacity(event.encoded_len() + encoded_data.len());
    event.encode_raw(&mut encoded);
    encoded.extend_from_slice(&encoded_data);
    let known = |id: String| Some(id).filter(|id| !id.is_empty());
    Decoded {
        attributes: Attributes {
            source: event.source,
            event_type: event.r#type,
            instance_id: known(event.instance_id),
            user_id: known(event.user_id),
            organization_id: known(event.organization_id),
            session_id: known(event.session_id),
            object_id: known(event.object_id),
        },
        event: encoded.freeze(),
        occur_time,
        drift: transcoder.drift,
    }
}

/// Decodes a payload again, because this version may type more fields than the version that
/// stored the event. Keeps the send time of the stored event, or else takes the envelope's.
#[must_use]
pub fn decode_again(envelope: Envelope<'_>, stored: &[u8], payload: &[u8]) -> Bytes {
    let envelope = Envelope {
        send_time: send_time(stored).unwrap_or(envelope.send_time),
        ..envelope
    };
    decode(envelope, payload).event
}

/// The send time of a stored event, if it has one.
#[must_use]
pub fn send_time(stored: &[u8]) -> Option<UnixMillis> {
    let event = proto::Event::decode(stored).ok()?;
    event.send_time.as_ref().map(UnixMillis::from)
}

fn root(name: &str) -> Path<'_> {
    Path { parent: None, name }
}

/// Reads the fields around `data`.
fn read_outer(object: &Object<'_>, event: &mut proto::Event, transcoder: &mut Transcoder) {
    for (key, raw) in &object.0 {
        if raw.get() == "null" {
            continue;
        }
        let understood = match key.as_ref() {
            "type" => string(raw).map(|text| event.r#type = text.into_owned()),
            "instance_id" => string(raw).map(|text| event.instance_id = text.into_owned()),
            "timestamp" => integer(raw)
                .and_then(occur_time)
                .map(|time| event.occur_time = Some(time)),
            "event_attributes" => Object::parse(raw.get()).map(|attributes| {
                let attributes = attributes.without_repeated_keys();
                event.http_request = read_http_request(&attributes, transcoder);
            }),
            "object" | "data" => Some(()),
            unknown => {
                transcoder.note(root(unknown), DriftKind::UnknownField);
                Some(())
            }
        };
        if understood.is_none() {
            transcoder.note(root(key), DriftKind::UnexpectedValue);
        }
    }
}

fn occur_time(timestamp: i64) -> Option<prost_types::Timestamp> {
    let is_seconds = timestamp.checked_abs()? < SECONDS_BELOW;
    let milliseconds = if is_seconds {
        timestamp * 1000
    } else {
        timestamp
    };
    let seconds = milliseconds.div_euclid(1000);
    TIMESTAMP_SECONDS
        .contains(&seconds)
        .then(|| UnixMillis::new(milliseconds).into())
}

fn read_http_request(
    attributes: &Object<'_>,
    transcoder: &mut Transcoder,
) -> Option<proto::HttpRequest> {
    let parent = root("event_attributes");
    let mut http_request = None;
    for (key, raw) in &attributes.0 {
        let path = Path {
            parent: Some(&parent),
            name: key,
        };
        if key != "http_request" {
            transcoder.note(path, DriftKind::UnknownField);
        } else if let Some(object) = Object::parse(raw.get()) {
            let object = object.without_repeated_keys();
            http_request = Some(read_request_fields(&object, path, transcoder));
        } else if raw.get() != "null" {
            transcoder.note(path, DriftKind::UnexpectedValue);
        }
    }
    http_request
}

fn read_request_fields(
    object: &Object<'_>,
    parent: Path<'_>,
    transcoder: &mut Transcoder,
) -> proto::HttpRequest {
    let mut request = proto::HttpRequest::default();
    for (key, raw) in &object.0 {
        let path = Path {
            parent: Some(&parent),
            name: key,
        };
        let field = match key.as_ref() {
            "client_ip" => &mut request.client_ip,
            "user_agent" => &mut request.user_agent,
            _ => {
                transcoder.note(path, DriftKind::UnknownField);
                continue;
            }
        };
        *field = string(raw).map(Into::into);
        if field.is_none() && raw.get() != "null" {
            transcoder.note(path, DriftKind::UnexpectedValue);
        }
    }
    request
}

/// `data`, as text and split into its fields.
struct Data<'a> {
    raw: &'a RawValue,
    object: Object<'a>,
}

fn read_data<'a>(envelope: &Object<'a>, transcoder: &mut Transcoder) -> Option<Data<'a>> {
    let raw = envelope.get("data")?;
    let object = Object::parse(raw.get());
    if object.is_none() {
        transcoder.note(root("data"), DriftKind::UnexpectedValue);
    }
    object.map(|object| Data { raw, object })
}

/// Writes `data` as the field of `Event.data` that fits.
fn write_data(
    declared: Option<&catalog::Kind>,
    data: &Data<'_>,
    transcoder: &mut Transcoder,
    out: &mut Vec<u8>,
) {
    let shapes = declared.map_or(&["untyped"][..], |kind| kind.shapes);
    // Of shapes that Clerk's descriptions disagree on, the one that knows most of the keys.
    let field = match shapes {
        [only] => Some(SCHEMA.data_field(only)),
        several => several
            .iter()
            .map(|name| SCHEMA.data_field(name))
            .min_by_key(|field| unknown_keys(*field, &data.object)),
    };
    match field {
        Some(Field {
            number,
            kind: Kind::Message(index),
            ..
        }) => {
            transcoder.nested(number, index, &data.object, root("data"), out);
        }
        Some(free) => transcoder.value(free, data.raw, root("data"), out),
        None => {}
    }
}

fn unknown_keys(field: Field, data: &Object<'_>) -> usize {
    let Kind::Message(index) = field.kind else {
        return 0;
    };
    let shape = SCHEMA.shape(index);
    let keys = data.0.iter().map(|(key, _)| key);
    keys.filter(|key| shape.index_of(key).is_none()).count()
}
