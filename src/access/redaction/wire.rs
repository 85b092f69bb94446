//! Removes fields from an encoded message, without decoding it.

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use super::plan::{Action, Mark, Plan};
use crate::clerk::schema::{Kind, SCHEMA};

const STRUCT_FIELDS: u32 = 1;
const ENTRY_KEY: u32 = 1;
const ENTRY_VALUE: u32 = 2;
const VALUE_STRING: u32 = 3;
const VALUE_STRUCT: u32 = 5;
const VALUE_LIST: u32 = 6;
const LIST_VALUES: u32 = 1;

/// The error for bytes that are not a message.
#[derive(Debug)]
pub(super) struct Malformed;

/// The message without what the plan's message `index` removes; none if it holds nothing of it.
pub(super) fn redact(
    plan: &Plan,
    index: usize,
    message: &[u8],
) -> Result<Option<Vec<u8>>, Malformed> {
    let actions = plan.message(index);
    rewrite(message, |field| {
        let Some(action) = actions.action(field.number) else {
            return Ok(Verdict::Keep);
        };
        match action {
            Action::Remove => Ok(Verdict::Remove),
            Action::Message(below) => redact(plan, below, field.value).map(Verdict::replaced),
            Action::Struct(node) => redact_struct(plan, node, field.value).map(Verdict::replaced),
        }
    })
}

/// The value of `data.object` in an encoded event.
pub(super) fn data_object(event: &[u8]) -> Result<Option<&str>, Malformed> {
    let mut object = None;
    let mut rest = event;
    while let Some(field) = Field::read(&mut rest)? {
        let mut kinds = SCHEMA.data_kinds();
        let kind = kinds.find(|(number, _)| *number == field.number);
        match kind {
            Some((_, Kind::Message(shape))) => {
                let number = SCHEMA.shape(shape).number_of("object");
                object = number.map_or(Ok(None), |number| last(field.value, number))?;
            }
            Some(_) => object = free_object(field.value)?,
            None => {}
        }
    }
    let text = object.map(std::str::from_utf8).transpose();
    text.map_err(|_| Malformed)
}

/// The string at the key `object` of a `google.protobuf.Struct`.
fn free_object(message: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let mut rest = message;
    while let Some(field) = Field::read(&mut rest)? {
        if field.number == STRUCT_FIELDS && entry_key(field.value)? == "object" {
            let value = last(field.value, ENTRY_VALUE)?;
            return value.map_or(Ok(None), |value| last(value, VALUE_STRING));
        }
    }
    Ok(None)
}

/// The last of a message's fields with this number.
fn last(message: &[u8], number: u32) -> Result<Option<&[u8]>, Malformed> {
    let mut found = None;
    let mut rest = message;
    while let Some(field) = Field::read(&mut rest)? {
        if field.number == number {
            found = Some(field.value);
        }
    }
    Ok(found)
}

/// A `google.protobuf.Struct`, `map<string, Value> fields = 1`, without its removed fields.
fn redact_struct(
    plan: &Plan,
    node: Option<usize>,
    message: &[u8],
) -> Result<Option<Vec<u8>>, Malformed> {
    rewrite(message, |field| {
        if field.number != STRUCT_FIELDS {
            return Ok(Verdict::Keep);
        }
        let below = match plan.mark(node, entry_key(field.value)?) {
            Some(Mark::Remove) => return Ok(Verdict::Remove),
            Some(Mark::Below(below)) => Some(below),
            None if plan.looks_everywhere() => None,
            None => return Ok(Verdict::Keep),
        };
        let entry = rewrite(field.value, |field| match field.number {
            ENTRY_VALUE => redact_value(plan, below, field.value).map(Verdict::replaced),
            _ => Ok(Verdict::Keep),
        });
        entry.map(Verdict::replaced)
    })
}

/// A `google.protobuf.Value` without its removed fields, also inside arrays.
fn redact_value(
    plan: &Plan,
    node: Option<usize>,
    message: &[u8],
) -> Result<Option<Vec<u8>>, Malformed> {
    rewrite(message, |field| match field.number {
        VALUE_STRUCT => redact_struct(plan, node, field.value).map(Verdict::replaced),
        VALUE_LIST => {
            let list = rewrite(field.value, |field| match field.number {
                LIST_VALUES => redact_value(plan, node, field.value).map(Verdict::replaced),
                _ => Ok(Verdict::Keep),
            });
            list.map(Verdict::replaced)
        }
        _ => Ok(Verdict::Keep),
    })
}

fn entry_key(entry: &[u8]) -> Result<&str, Malformed> {
    let mut key = "";
    let mut rest = entry;
    while let Some(field) = Field::read(&mut rest)? {
        if field.number == ENTRY_KEY {
            key = std::str::from_utf8(field.value).map_err(|_| Malformed)?;
        }
    }
    Ok(key)
}

enum Verdict {
    Keep,
    Remove,
    Replace(Vec<u8>),
}

impl Verdict {
    fn replaced(with: Option<Vec<u8>>) -> Self {
        with.map_or(Self::Keep, Self::Replace)
    }
}

/// Judges each field. Copies nothing before the first field that changes.
fn rewrite<'a>(
    message: &'a [u8],
    mut judge: impl FnMut(&Field<'a>) -> Result<Verdict, Malformed>,
) -> Result<Option<Vec<u8>>, Malformed> {
    let mut rewritten: Option<Vec<u8>> = None;
    let mut rest = message;
    loop {
        let before = message.len() - rest.len();
        let Some(field) = Field::read(&mut rest)? else {
            return Ok(rewritten);
        };
        let verdict = judge(&field)?;
        if rewritten.is_none() && !matches!(verdict, Verdict::Keep) {
            rewritten = Some(message.get(..before).unwrap_or_default().to_vec());
        }
        let Some(out) = &mut rewritten else { continue };
        match verdict {
            Verdict::Keep => out.extend_from_slice(field.whole),
            Verdict::Remove => {}
            Verdict::Replace(value) => {
                encode_key(field.number, WireType::LengthDelimited, out);
                encode_varint(value.len() as u64, out);
                out.extend_from_slice(&value);
            }
        }
    }
}

struct Field<'a> {
    number: u32,
    /// The whole field, key included.
    whole: &'a [u8],
    /// The value of a length-delimited field; empty for any other.
    value: &'a [u8],
}

impl<'a> Field<'a> {
    /// Reads the next field, if there is one.
    fn read(rest: &mut &'a [u8]) -> Result<Option<Self>, Malformed> {
        let start = *rest;
        if start.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = decode_key(rest).map_err(|_| Malformed)?;
        let mut value: &[u8] = &[];
        match wire_type {
            WireType::Varint => drop(decode_varint(rest).map_err(|_| Malformed)?),
            WireType::SixtyFourBit => drop(take(rest, 8)?),
            WireType::ThirtyTwoBit => drop(take(rest, 4)?),
            WireType::LengthDelimited => {
                let length = decode_varint(rest).map_err(|_| Malformed)?;
                value = take(rest, usize::try_from(length).map_err(|_| Malformed)?)?;
            }
            WireType::StartGroup | WireType::EndGroup => return Err(Malformed),
        }
        let length = start.len() - rest.len();
        Ok(Some(Self {
            number,
            whole: start.get(..length).unwrap_or_default(),
            value,
        }))
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, after) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = after;
    Ok(taken)
}
