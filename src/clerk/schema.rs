//! The proto files as tables: for each message, what each JSON key becomes.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost_reflect::{Kind as ProtoKind, MessageDescriptor};

use super::catalogue::CATALOGUE;
use crate::proto;

/// Changes whenever the decoding itself does, so that stored events are decoded anew.
const DECODER_REVISION: &str = "1";

/// How one JSON value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
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
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
}

/// One message: its fields, and which JSON key is which.
#[derive(Debug, Default)]
pub(super) struct Shape {
    pub(super) fields: Vec<Field>,
    /// With their index in `fields`; sorted by length first, which is quick to compare.
    keys: Vec<(String, usize)>,
}

impl Shape {
    /// The index in `fields` of the field with this JSON key.
    pub(super) fn index_of(&self, key: &str) -> Option<usize> {
        let asked = (key.len(), key);
        let found = self
            .keys
            .binary_search_by(|(known, _)| (known.len(), known.as_str()).cmp(&asked));
        self.keys.get(found.ok()?).map(|(_, index)| *index)
    }
}

/// All messages that occur in `Event.data`.
#[derive(Debug, Default)]
pub(super) struct Schema {
    shapes: Vec<Shape>,
    indexes: HashMap<String, usize>,
    data_fields: HashMap<String, (Field, String)>,
    fingerprint: u32,
}

pub(super) static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::from_descriptors);

/// Identifies the messages and the decoding that events are stored with. An event that
/// was stored with another one is decoded again when it is read, so that a new version
/// types old events too.
#[must_use]
pub fn decoding() -> u32 {
    SCHEMA.fingerprint
}

/// The full name of the message that `Event.data` holds in its field `name`.
pub(super) fn message_name(name: &str) -> Option<&'static str> {
    let (_, message) = SCHEMA.data_fields.get(name)?;
    Some(message)
}

impl Schema {
    fn from_descriptors() -> Self {
        let event = proto::DESCRIPTORS
            .get_message_by_name(&format!("{}.Event", proto::PACKAGE))
            .expect("event.proto defines Event");
        let catalogue = format!("{DECODER_REVISION} {CATALOGUE:?}");
        let mut schema = Self {
            fingerprint: fingerprint(catalogue.as_bytes(), 0),
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
    pub(super) fn shape(&self, index: usize) -> &Shape {
        &self.shapes[index]
    }

    /// The field of `Event.data` with this name.
    pub(super) fn data_field(&self, name: &str) -> Field {
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

    /// The index of `message`, which is added with all that it refers to.
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

/// FNV-1a over `bytes`, continued from `before`.
fn fingerprint(bytes: &[u8], before: u32) -> u32 {
    bytes.iter().fold(0x811c_9dc5 ^ before, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}
