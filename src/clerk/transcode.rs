//! JSON to protobuf, one field at a time, straight from text to wire format.
//!
//! Values are parsed lazily: an object is split into keys and raw values, and each
//! value is only looked into as far as its field asks. What one field holds, be it
//! nested a thousand deep or not even a valid string, can thus spoil no other field.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::number;
use super::schema::{Field, Kind, SCHEMA, Shape};
use super::wire::{put_bytes, put_double, put_message, put_timestamp, put_varint};

/// What an entry of Clerk's objects takes at the least, nearly always.
const ENTRY_BYTES: usize = 20;
/// No object of Clerk's has more.
const ENTRIES_USUAL_MAX: usize = 64;
/// Drift noted per event; the rest of a body that is all drift adds nothing.
const DRIFT_MAX: usize = 64;
/// Of these, from inside free JSON: what users put there must not hide what Clerk changed.
const FREE_DRIFT_MAX: usize = 16;
/// With more entries, a set finds the keys that occur twice, instead of comparing each with
/// each.
const ENTRIES_COMPARED_MAX: usize = 16;

/// How a body departs from the proto files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DriftKind {
    /// A field that the proto files do not know.
    UnknownField,
    /// A value that the field's type cannot hold; the field is left unset.
    UnexpectedValue,
}

/// One departure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Where, as `data.email_addresses[].verification`.
    pub path: String,
    /// How.
    pub kind: DriftKind,
}

/// The keys and raw values of a JSON object, in order.
pub(super) struct Object<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    pub(super) fn parse(json: &'a str) -> Option<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let expected = Entries {
            count: (json.len() / ENTRY_BYTES).min(ENTRIES_USUAL_MAX),
        };
        let object = deserializer.deserialize_map(expected).ok()?;
        deserializer.end().ok().map(|()| object)
    }

    /// The entries that count: of a key that occurs twice, the last.
    pub(super) fn without_repeated_keys(mut self) -> Self {
        let entries = &mut self.0;
        if entries.len() > ENTRIES_COMPARED_MAX {
            let is_last: Vec<bool> = {
                let mut seen = HashSet::with_capacity(entries.len());
                let keys = entries.iter().rev().map(|(key, _)| key.as_ref());
                keys.map(|key: &str| seen.insert(key)).collect()
            };
            let mut is_last = is_last.into_iter().rev();
            entries.retain(|_| is_last.next().unwrap_or(true));
            return self;
        }
        let mut at = 0;
        while let Some((key, _)) = entries.get(at) {
            let mut later = entries.iter().skip(at + 1);
            if later.any(|(other, _)| other == key) {
                entries.remove(at);
            } else {
                at += 1;
            }
        }
        self
    }

    /// The value of `key`, the last one where it occurs twice; null counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, raw)| *raw).filter(|raw| raw.get() != "null")
    }

    /// The values of `key`, wherever it occurs.
    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &'a RawValue> {
        let entries = self.0.iter().filter(move |(name, _)| name == key);
        entries.map(|(_, raw)| *raw)
    }

    /// The string at `path`, if it is one and not empty.
    pub(super) fn string_at(&self, path: &[&str]) -> Option<String> {
        let (first, rest) = path.split_first()?;
        let raw = self.get(first)?;
        if rest.is_empty() {
            return string(raw)
                .map(Cow::into_owned)
                .filter(|text| !text.is_empty());
        }
        Object::parse(raw.get())?.string_at(rest)
    }
}

/// The entries of an object, about so many.
struct Entries {
    count: usize,
}

impl<'de> Visitor<'de> for Entries {
    type Value = Object<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut entries = Vec::with_capacity(self.count);
        while let Some(Text(key)) = map.next_key()? {
            entries.push((key, map.next_value()?));
        }
        Ok(Object(entries))
    }
}

/// A string, borrowed unless it holds an escape. Half a surrogate pair, which JSON can
/// spell and Unicode cannot, becomes U+FFFD instead of an error: as a key it would
/// otherwise spoil the whole object.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Text<'de>, E> {
                // Nearly always it is, and checking that is faster than mending it.
                Ok(Text(match std::str::from_utf8(bytes) {
                    Ok(text) => Cow::Borrowed(text),
                    Err(_) => String::from_utf8_lossy(bytes),
                }))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text<'de>, E> {
                Ok(Text(String::from_utf8_lossy(bytes).into_owned().into()))
            }
        }
        // As bytes, the one way that serde_json lets half a pair through.
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Where the transcoder is, for [`Drift::path`]; spelled out only when needed.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    pub(super) parent: Option<&'a Self>,
    pub(super) name: &'a str,
}

impl<'a> Path<'a> {
    /// The path of what this one holds under `name`.
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

/// Writes messages and notes what did not fit.
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

    /// The same for a place inside free JSON.
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

    /// Writes one field; null is unset.
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

    /// Writes one value with its key, or notes why it cannot.
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

pub(super) fn string<'a>(raw: &'a RawValue) -> Option<Cow<'a, str>> {
    // An array of numbers would pass for bytes.
    let quoted = raw.get().strip_prefix('"')?;
    // Without an escape, the text is what stands between the quotes.
    match quoted.strip_suffix('"') {
        Some(text) if !text.contains('\\') => Some(Cow::Borrowed(text)),
        _ => parse::<Text<'a>>(raw).map(|Text(text)| text),
    }
}

pub(super) fn boolean(raw: &RawValue) -> Option<bool> {
    raw.get().parse().ok()
}

pub(super) fn integer(raw: &RawValue) -> Option<i64> {
    number::integer(raw.get())
}

pub(super) fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}
