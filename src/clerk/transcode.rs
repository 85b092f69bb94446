//! JSON to protobuf, one field at a time, straight from text to wire format.
//!
//! Values are parsed lazily: an object is split into keys and raw values, and each
//! value is only looked into as far as its field asks. What one field holds, be it
//! nested a thousand deep or not even a valid string, can thus spoil no other field.

use std::borrow::Cow;
use std::fmt;

use prost::encoding::{WireType, encode_key, encode_varint};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::schema::{Field, Kind, SCHEMA, Shape};

/// Protobuf decoders refuse messages nested deeper than 100, and free JSON takes three
/// levels for each of its own. Deeper JSON would be an event that no client can read;
/// it stays in the payload alone.
const FREE_JSON_DEPTH_MAX: usize = 28;
/// `google.protobuf.Timestamp` ends with the years 1 and 9999.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// Numbers up to here are exact in JSON.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
/// Drift noted per event; the rest of a body that is all drift adds nothing.
const DRIFT_MAX: usize = 64;

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
        serde_json::from_str(json).ok()
    }

    /// The value of `key`, the last one where it occurs twice; null counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, raw)| *raw).filter(|raw| raw.get() != "null")
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

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut entries = Vec::with_capacity(24);
                while let Some(Key(key)) = map.next_key()? {
                    entries.push((key, map.next_value()?));
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// An object's key, borrowed unless it holds an escape.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Where the transcoder is, for [`Drift::path`]; spelled out only when needed.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    pub(super) parent: Option<&'a Self>,
    pub(super) name: &'a str,
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
}

impl Transcoder {
    pub(super) fn note(&mut self, path: Path<'_>, kind: DriftKind) {
        if self.drift.len() < DRIFT_MAX {
            let path = path.to_string();
            self.drift.push(Drift { path, kind });
        }
    }

    /// Writes the fields of `object` as a message of this shape.
    pub(super) fn message(
        &mut self,
        shape: &Shape,
        object: &Object<'_>,
        path: Path<'_>,
        out: &mut Vec<u8>,
    ) {
        let mut values: Vec<Option<(&str, &RawValue)>> = vec![None; shape.fields.len()];
        for (key, raw) in &object.0 {
            let below = Path {
                parent: Some(&path),
                name: key,
            };
            match shape.index_of(key).and_then(|index| values.get_mut(index)) {
                Some(value) => *value = Some((key.as_ref(), *raw)),
                None => self.note(below, DriftKind::UnknownField),
            }
        }
        for (field, value) in shape.fields.iter().zip(values) {
            let Some((key, raw)) = value else { continue };
            let below = Path {
                parent: Some(&path),
                name: key,
            };
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
        let below = Path {
            parent: Some(&path),
            name: "[]",
        };
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
        let written = match field.kind {
            Kind::String => string(raw).map(|text| put_bytes(field.number, text.as_bytes(), out)),
            Kind::Bool => parse::<bool>(raw).map(|truth| {
                encode_key(field.number, WireType::Varint, out);
                encode_varint(u64::from(truth), out);
            }),
            Kind::Int64 => integer(raw).map(|number| {
                encode_key(field.number, WireType::Varint, out);
                encode_varint(number.cast_unsigned(), out);
            }),
            Kind::Double => parse::<f64>(raw).map(|number| put_double(field.number, number, out)),
            Kind::Timestamp => integer(raw).and_then(|ms| put_timestamp(field.number, ms, out)),
            Kind::Struct => free_object(raw).map(|object| {
                put_message(field.number, out, |out| put_struct(&object, out));
            }),
            Kind::Message(index) => Object::parse(raw.get()).map(|object| {
                put_message(field.number, out, |out| {
                    self.message(SCHEMA.shape(index), &object, path, out);
                });
            }),
        };
        if written.is_none() {
            self.note(path, DriftKind::UnexpectedValue);
        }
    }
}

pub(super) fn string<'a>(raw: &'a RawValue) -> Option<Cow<'a, str>> {
    let Key(text) = parse::<Key<'a>>(raw)?;
    Some(text)
}

/// An integer, also where it is written as `1e3` or `5.0`.
pub(super) fn integer(raw: &RawValue) -> Option<i64> {
    parse::<i64>(raw).or_else(|| {
        let number = parse::<f64>(raw)?;
        let exact = number.fract() == 0.0 && number.abs() <= EXACT_INTEGER_MAX;
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        exact.then_some(number as i64)
    })
}

fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

fn free_object(raw: &RawValue) -> Option<serde_json::Map<String, Value>> {
    let Value::Object(object) = parse::<Value>(raw)? else {
        return None;
    };
    let fits = object
        .values()
        .all(|value| fits_depth(value, FREE_JSON_DEPTH_MAX));
    fits.then_some(object)
}

fn fits_depth(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(elements) => {
            levels > 0
                && elements
                    .iter()
                    .all(|element| fits_depth(element, levels - 1))
        }
        Value::Object(object) => {
            levels > 0 && object.values().all(|value| fits_depth(value, levels - 1))
        }
        _ => true,
    }
}

fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_double(number: u32, value: f64, out: &mut Vec<u8>) {
    encode_key(number, WireType::SixtyFourBit, out);
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_timestamp(number: u32, milliseconds: i64, out: &mut Vec<u8>) -> Option<()> {
    let seconds = milliseconds.div_euclid(1000);
    let nanos = milliseconds.rem_euclid(1000) * 1_000_000;
    if !TIMESTAMP_SECONDS.contains(&seconds) {
        return None;
    }
    put_message(number, out, |out| {
        for (number, value) in [(1, seconds), (2, nanos)] {
            if value != 0 {
                encode_key(number, WireType::Varint, out);
                encode_varint(value.cast_unsigned(), out);
            }
        }
    });
    Some(())
}

/// Writes a nested message; its length is known only afterwards.
pub(super) fn put_message(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    encode_key(number, WireType::LengthDelimited, out);
    let start = out.len();
    write(out);
    let mut length = Vec::with_capacity(5);
    encode_varint((out.len() - start) as u64, &mut length);
    out.splice(start..start, length);
}

/// `google.protobuf.Struct`: `map<string, Value> fields = 1`.
fn put_struct(object: &serde_json::Map<String, Value>, out: &mut Vec<u8>) {
    for (key, value) in object {
        put_message(1, out, |out| {
            put_bytes(1, key.as_bytes(), out);
            put_message(2, out, |out| put_value(value, out));
        });
    }
}

/// `google.protobuf.Value`.
fn put_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => {
            encode_key(1, WireType::Varint, out);
            encode_varint(0, out);
        }
        Value::Number(number) => put_double(2, number.as_f64().unwrap_or(f64::MAX), out),
        Value::String(text) => put_bytes(3, text.as_bytes(), out),
        Value::Bool(truth) => {
            encode_key(4, WireType::Varint, out);
            encode_varint(u64::from(*truth), out);
        }
        Value::Object(object) => put_message(5, out, |out| put_struct(object, out)),
        Value::Array(elements) => put_message(6, out, |out| {
            for element in elements {
                put_message(1, out, |out| put_value(element, out));
            }
        }),
    }
}
