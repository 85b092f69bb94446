//! JSON to protobuf, one field at a time, straight from text to wire format.
//!
//! The transcoder parses a value only as deep as its field needs. A value that is nested a
//! thousand deep, or that is not a valid string, therefore affects no other field.

use std::fmt;

use serde_json::value::RawValue;

use super::json::{Object, boolean, integer, string};
use super::number;
use super::schema::{Field, Kind, SCHEMA, Shape};
use super::wire::{put_bytes, put_double, put_message, put_timestamp, put_varint};

/// Maximum drift noted per event; the rest is dropped.
const DRIFT_MAX: usize = 64;
/// Maximum drift from inside free JSON, so that users' data does not hide changes by Clerk.
const FREE_DRIFT_MAX: usize = 16;

/// How a body departs from the proto files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DriftKind {
    /// A field that the proto files do not have.
    UnknownField,
    /// A value that the field's type cannot hold; the field is left unset.
    UnexpectedValue,
}

/// One place where a body departs from the proto files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The path, such as `data.email_addresses[].verification`.
    pub path: String,
    pub kind: DriftKind,
}

/// The transcoder's place in a body. It becomes text only for [`Drift::path`].
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    pub(super) parent: Option<&'a Self>,
    pub(super) name: &'a str,
}

impl<'a> Path<'a> {
    /// The path of the value under `name`.
    pub(super) fn below(&'a self, name: &'a str) -> Self {
        Self {
            parent: Some(self),
            name,
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(formatter)?;
            if self.name != "[]" {
                formatter.write_str(".")?;
            }
        }
        formatter.write_str(self.name)
    }
}

/// Writes messages, and notes the values that do not fit.
#[derive(Default)]
pub(super) struct Transcoder {
    pub(super) drift: Vec<Drift>,
    free_drift: usize,
}

impl Transcoder {
    pub(super) fn note(&mut self, path: Path<'_>, kind: DriftKind) {
        if self.drift.len() < DRIFT_MAX {
            let path = path.to_string();
            self.drift.push(Drift { path, kind });
        }
    }

    /// Notes drift inside free JSON.
    pub(super) fn note_in_free_json(&mut self, path: Path<'_>, kind: DriftKind) {
        if self.free_drift < FREE_DRIFT_MAX {
            self.free_drift += 1;
            self.note(path, kind);
        }
    }

    /// Writes `object`, with its key, as the message with this index in the schema.
    pub(super) fn nested(
        &mut self,
        number: u32,
        shape: usize,
        object: &Object<'_>,
        path: Path<'_>,
        out: &mut Vec<u8>,
    ) {
        put_message(number, out, |out| {
            self.message(SCHEMA.shape(shape), object, path, out);
            Some(())
        });
    }

    /// Writes the fields of `object` as a message of this shape.
    fn message(&mut self, shape: &Shape, object: &Object<'_>, path: Path<'_>, out: &mut Vec<u8>) {
        let mut values: Vec<Option<(&str, &RawValue)>> = vec![None; shape.fields.len()];
        for (key, raw) in &object.0 {
            let below = path.below(key);
            match shape.index_of(key).and_then(|index| values.get_mut(index)) {
                Some(value) => *value = Some((key.as_ref(), *raw)),
                None => self.note(below, DriftKind::UnknownField),
            }
        }
        for (field, value) in shape.fields.iter().zip(values) {
            let Some((key, raw)) = value else { continue };
            let below = path.below(key);
            self.field(*field, raw, below, out);
        }
    }

    /// Writes one field; null leaves it unset.
    fn field(&mut self, field: Field, raw: &RawValue, path: Path<'_>, out: &mut Vec<u8>) {
        if raw.get() == "null" {
            return;
        }
        if !field.repeated {
            self.value(field, raw, path, out);
            return;
        }
        let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else {
            self.note(path, DriftKind::UnexpectedValue);
            return;
        };
        let below = path.below("[]");
        for element in elements {
            self.value(field, element, below, out);
        }
    }

    /// Writes one value with its key, or notes that it does not fit.
    pub(super) fn value(
        &mut self,
        field: Field,
        raw: &RawValue,
        path: Path<'_>,
        out: &mut Vec<u8>,
    ) {
        let number = field.number;
        let written = match field.kind {
            Kind::String => string(raw).map(|text| put_bytes(number, text.as_bytes(), out)),
            Kind::Bool => boolean(raw).map(|truth| put_varint(number, truth.into(), out)),
            Kind::Int64 => integer(raw).map(|int| put_varint(number, int.cast_unsigned(), out)),
            Kind::Double => number::double(raw.get()).map(|double| put_double(number, double, out)),
            Kind::Timestamp => integer(raw).and_then(|ms| put_timestamp(number, ms, out)),
            Kind::Struct => put_message(number, out, |out| self.free_object(raw, path, out)),
            Kind::Message(index) => Object::parse(raw.get())
                .map(|object| self.nested(number, index, &object, path, out)),
        };
        if written.is_none() {
            self.note(path, DriftKind::UnexpectedValue);
        }
    }
}
