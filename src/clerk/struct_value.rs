//! Free JSON, such as metadata, as `google.protobuf.Struct`.
//!
//! A value that protobuf cannot carry is noted as drift and affects no other value: an object
//! loses the key, and an array keeps a null in the value's place.

use serde_json::value::RawValue;

use super::json::{Object, boolean, parse, string};
use super::number;
use super::transcode::{DriftKind, Path, Transcoder};
use super::wire::{put_bytes, put_double, put_message, put_varint};

/// Protobuf decoders refuse messages nested deeper than 100, and free JSON takes three levels
/// for each of its own. Deeper JSON would make an event that no client can decode, so only the
/// payload has it. The free value itself is the first level.
const LEVELS_MAX: usize = 28;

impl Transcoder {
    /// Writes a JSON object as the fields of a `Struct`: `map<string, Value> fields = 1`. None
    /// if the value is not an object.
    pub(super) fn free_object(
        &mut self,
        raw: &RawValue,
        path: Path<'_>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        self.free_fields(raw, LEVELS_MAX, path, out)
    }

    fn free_fields(
        &mut self,
        raw: &RawValue,
        levels: usize,
        path: Path<'_>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let levels = levels.checked_sub(1)?;
        let Object(fields) = Object::parse(raw.get())?.without_repeated_keys();
        for (key, value) in &fields {
            let below = path.below(key);
            let written = put_message(1, out, |out| {
                put_bytes(1, key.as_bytes(), out);
                put_message(2, out, |out| self.free_value(value, levels, below, out))
            });
            if written.is_none() {
                self.note_in_free_json(below, DriftKind::UnexpectedValue);
            }
        }
        Some(())
    }

    /// Writes any JSON value as the fields of a `google.protobuf.Value`. None if `Value` cannot
    /// hold it: too deep, beyond a double, or an integer that a double may round.
    fn free_value(
        &mut self,
        raw: &RawValue,
        levels: usize,
        path: Path<'_>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        match raw.get().as_bytes().first()? {
            b'n' => put_null(out),
            b'"' => put_bytes(3, string(raw)?.as_bytes(), out),
            b't' | b'f' => put_varint(4, u64::from(boolean(raw)?), out),
            b'{' => {
                return put_message(5, out, |out| self.free_fields(raw, levels, path, out));
            }
            b'[' => {
                return put_message(6, out, |out| self.free_elements(raw, levels, path, out));
            }
            _ => put_double(2, number::free(raw.get())?, out),
        }
        Some(())
    }

    /// Writes a JSON array as the fields of a `google.protobuf.ListValue`.
    fn free_elements(
        &mut self,
        raw: &RawValue,
        levels: usize,
        path: Path<'_>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let levels = levels.checked_sub(1)?;
        let elements: Vec<&RawValue> = parse(raw)?;
        let below = path.below("[]");
        for element in elements {
            let written = put_message(1, out, |out| self.free_value(element, levels, below, out));
            if written.is_none() {
                self.note_in_free_json(below, DriftKind::UnexpectedValue);
                put_message(1, out, |out| {
                    put_null(out);
                    Some(())
                });
            }
        }
        Some(())
    }
}

/// Writes `null_value` of a `google.protobuf.Value`.
fn put_null(out: &mut Vec<u8>) {
    put_varint(1, 0, out);
}
