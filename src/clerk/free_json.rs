//! Free JSON, such as metadata, as `google.protobuf.Struct`.

use serde_json::value::RawValue;

use super::transcode::{Object, boolean, parse, string};
use super::wire::{put_bytes, put_double, put_message, put_varint};

/// Protobuf decoders refuse messages nested deeper than 100, and free JSON takes three
/// levels for each of its own. Deeper JSON would be an event that no client can read;
/// it stays in the payload alone.
const LEVELS_MAX: usize = 28;

/// Writes a JSON object as the fields of a `Struct`: `map<string, Value> fields = 1`.
/// None where protobuf cannot carry it: too deep, or with a number beyond a double.
pub(super) fn put_struct(raw: &RawValue, out: &mut Vec<u8>) -> Option<()> {
    put_fields(raw, LEVELS_MAX, out)
}

fn put_fields(raw: &RawValue, levels: usize, out: &mut Vec<u8>) -> Option<()> {
    let Object(fields) = Object::parse(raw.get())?;
    let levels = levels.checked_sub(1)?;
    for (key, value) in fields {
        put_message(1, out, |out| {
            put_bytes(1, key.as_bytes(), out);
            put_message(2, out, |out| put_value(value, levels, out))
        })?;
    }
    Some(())
}

/// Writes any JSON value as the fields of a `google.protobuf.Value`.
fn put_value(raw: &RawValue, levels: usize, out: &mut Vec<u8>) -> Option<()> {
    match raw.get().as_bytes().first()? {
        b'n' => put_varint(1, 0, out),
        b'"' => put_bytes(3, string(raw)?.as_bytes(), out),
        b't' | b'f' => put_varint(4, u64::from(boolean(raw)?), out),
        b'{' => return put_message(5, out, |out| put_fields(raw, levels, out)),
        b'[' => return put_message(6, out, |out| put_elements(raw, levels, out)),
        _ => put_double(2, parse(raw)?, out),
    }
    Some(())
}

/// Writes a JSON array as the fields of a `google.protobuf.ListValue`.
fn put_elements(raw: &RawValue, levels: usize, out: &mut Vec<u8>) -> Option<()> {
    let elements: Vec<&RawValue> = parse(raw)?;
    let levels = levels.checked_sub(1)?;
    for element in elements {
        put_message(1, out, |out| put_value(element, levels, out))?;
    }
    Some(())
}
