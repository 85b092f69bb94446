//! The proto files as tables: for each message, what each JSON key becomes.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use prost_reflect::{Kind as ProtoKind, MessageDescriptor};

use super::catalog::CATALOG;
use crate::proto;
use crate::proto::field::http_request;

/// `Event.http_request`, which is `event_attributes.http_request` in the body.
pub(crate) use crate::proto::field::event::HTTP_REQUEST;

/// Revision of the decoder, raised with each change of decoding, so that readers decode stored
/// events again.
const DECODER_REVISION: &str = "2";
/// Maximum length of a path. Clerk's objects are less deep; the bound ends the recursion if a
/// message ever contains itself.
const PATH_LENGTH_MAX: usize = 12;

/// The fields of `HttpRequest`, with their JSON keys.
pub(crate) const HTTP_REQUEST_KEYS: [(u32, &str); 2] = [
    (http_request::CLIENT_IP, "client_ip"),
    (http_request::USER_AGENT, "user_agent"),
];

/// The protobuf type that a JSON value becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    String,
    Bool,
    Int64,
    Double,
    /// `google.protobuf.Timestamp`, from Unix milliseconds.
    Timestamp,
    /// `google.protobuf.Struct`, from any JSON object.
    Struct,
    /// The message with this index in the schema.
    Message(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) repeated: bool,
}

/// One message: its fields, and the index of the field for each JSON key.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    pub(crate) fields: Vec<Field>,
    /// JSON keys with their index in `fields`, sorted by length first, because lengths compare
    /// quickly.
    keys: Vec<(String, usize)>,
}

impl Shape {
    /// The index in `fields` of the field with this JSON key.
    pub(crate) fn index_of(&self, key: &str) -> Option<usize> {
        let asked = (key.len(), key);
        let found = self
            .keys
            .binary_search_by(|(known, _)| (known.len(), known.as_str()).cmp(&asked));
        self.keys.get(found.ok()?).map(|(_, index)| *index)
    }

    /// The number of the field with this JSON key.
    pub(crate) fn number_of(&self, key: &str) -> Option<u32> {
        let field = self.fields.get(self.index_of(key)?)?;
        Some(field.number)
    }

    /// The fields with their JSON keys.
    pub(crate) fn by_key(&self) -> impl Iterator<Item = (&str, Field)> {
        let keys = self.keys.iter();
        keys.filter_map(|(key, index)| Some((key.as_str(), *self.fields.get(*index)?)))
    }
}

/// All messages that occur in `Event.data`.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    shapes: Vec<Shape>,
    indexes: HashMap<String, usize>,
    data_fields: HashMap<String, (Field, String)>,
    fingerprint: u32,
}

pub(crate) static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::from_descriptors);

/// Identifies the messages and the decoder that an event is stored with. Readers decode an event
/// with another number again, so that a new version types old events too.
#[must_use]
pub fn decoding() -> u32 {
    SCHEMA.fingerprint
}

/// The full name of the message that `Event.data` holds in its field `name`.
pub(crate) fn message_name(name: &str) -> Option<&'static str> {
    let (_, message) = SCHEMA.data_fields.get(name)?;
    Some(message)
}

/// Builds the tables of the proto files at the start, so that an error in them ends the start
/// and not the first webhook.
pub(crate) fn build_tables() {
    LazyLock::force(&proto::DESCRIPTORS);
    LazyLock::force(&SCHEMA);
    LazyLock::force(&JSON_PATHS);
}

impl Schema {
    fn from_descriptors() -> Self {
        let event = proto::DESCRIPTORS
            .get_message_by_name(&format!("{}.Event", proto::PACKAGE))
            .expect("event.proto defines Event");
        let catalog = format!("{DECODER_REVISION} {CATALOG:?}");
        let mut schema = Self {
            fingerprint: fingerprint(catalog.as_bytes(), 0),
            ..Self::default()
        };
        for field in event.fields() {
            let ProtoKind::Message(message) = field.kind() else {
                continue;
            };
            if field
                .containing_oneof()
                .is_some_and(|oneof| oneof.name() == "data")
            {
                let described = schema.field(field.number(), &field.kind(), false);
                let message = message.full_name().to_owned();
                schema
                    .data_fields
                    .insert(field.name().to_owned(), (described, message));
            }
        }
        schema
    }

    /// The shape of a message field.
    pub(crate) fn shape(&self, index: usize) -> &Shape {
        &self.shapes[index]
    }

    /// The fields of `Event.data`: number and kind.
    pub(crate) fn data_kinds(&self) -> impl Iterator<Item = (u32, Kind)> {
        let fields = self.data_fields.values();
        fields.map(|(field, _)| (field.number, field.kind))
    }

    /// The field of `Event.data` with this name.
    pub(crate) fn data_field(&self, name: &str) -> Field {
        self.data_fields[name].0
    }

    fn field(&mut self, number: u32, kind: &ProtoKind, repeated: bool) -> Field {
        let kind = match kind {
            ProtoKind::String => Kind::String,
            ProtoKind::Bool => Kind::Bool,
            ProtoKind::Int64 => Kind::Int64,
            ProtoKind::Double => Kind::Double,
            ProtoKind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => Kind::Timestamp,
                "google.protobuf.Struct" => Kind::Struct,
                _ => Kind::Message(self.message(message)),
            },
            other => unreachable!("no field of Clerk's objects is a {other:?}"),
        };
        Field {
            number,
            kind,
            repeated,
        }
    }

    /// Returns the index of `message`, after adding it and the messages that it refers to.
    fn message(&mut self, message: &MessageDescriptor) -> usize {
        if let Some(index) = self.indexes.get(message.full_name()) {
            return *index;
        }
        let index = self.shapes.len();
        self.indexes.insert(message.full_name().to_owned(), index);
        // Reserved first: messages may contain each other.
        self.shapes.push(Shape::default());
        let mut shape = Shape::default();
        for field in message.fields() {
            let line = format!(
                "{} {} {:?} {}",
                field.full_name(),
                field.number(),
                field.kind(),
                field.is_list()
            );
            self.fingerprint = fingerprint(line.as_bytes(), self.fingerprint);
            let described = self.field(field.number(), &field.kind(), field.is_list());
            let index = shape.fields.len();
            shape.keys.push((field.name().to_owned(), index));
            shape.fields.push(described);
        }
        shape
            .keys
            .sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
        self.shapes[index] = shape;
        index
    }
}

/// Every path in a body that becomes a field of `Event`. Arrays add no step to a path.
#[derive(Debug, Default)]
pub(crate) struct JsonPaths {
    paths: BTreeSet<Vec<String>>,
    /// Paths that hold free JSON; every path below them counts as known.
    free: BTreeSet<Vec<String>>,
    names: BTreeSet<String>,
}

static JSON_PATHS: LazyLock<JsonPaths> = LazyLock::new(JsonPaths::from_schema);

pub(crate) fn json_paths() -> &'static JsonPaths {
    &JSON_PATHS
}

impl JsonPaths {
    pub(crate) fn has(&self, path: &[String]) -> bool {
        let is_free = |length: usize| path.get(..length).is_some_and(|at| self.free.contains(at));
        self.paths.contains(path) || (1..path.len()).any(is_free)
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &Vec<String>> {
        self.paths.iter()
    }

    /// The last names of all paths.
    pub(crate) fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    fn from_schema() -> Self {
        let mut known = Self::default();
        let attributes = ["event_attributes", "http_request"].map(str::to_owned);
        known.paths.insert(attributes[..1].to_vec());
        known.paths.insert(attributes.to_vec());
        for (_, key) in HTTP_REQUEST_KEYS {
            known.add(&attributes, key, Kind::String);
        }
        for (_, kind) in SCHEMA.data_kinds() {
            known.add(&[], "data", kind);
        }
        known
    }

    fn add(&mut self, parent: &[String], key: &str, kind: Kind) {
        let mut path = parent.to_vec();
        path.push(key.to_owned());
        if !parent.is_empty() {
            self.names.insert(key.to_owned());
        }
        match kind {
            // The untyped `data` of unknown types would make every path known.
            Kind::Struct if !parent.is_empty() => drop(self.free.insert(path.clone())),
            Kind::Message(index) if path.len() <= PATH_LENGTH_MAX => {
                for (key, field) in SCHEMA.shape(index).by_key() {
                    self.add(&path, key, field.kind);
                }
            }
            _ => {}
        }
        self.paths.insert(path);
    }
}

/// FNV-1a over `bytes`, continued from `before`.
fn fingerprint(bytes: &[u8], before: u32) -> u32 {
    bytes.iter().fold(0x811c_9dc5 ^ before, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}
