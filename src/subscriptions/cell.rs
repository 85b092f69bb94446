//! What the values of cells have in common: protobuf messages whose fields are only ever added.
//!
//! A gateway of an older version replaces values that a newer one wrote. It must not drop the
//! fields that it does not know, so each value keeps those as they are, and writes them back
//! after its own.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The value of a cell is not what this version, or one before or after it, wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unreadable cell: {0}")]
pub struct InvalidCell(pub(super) &'static str);

const INVALID: InvalidCell = InvalidCell("not a protobuf message");

/// A field of a message, as its bytes.
pub(super) struct Field<'a> {
    pub(super) number: u32,
    /// With number and length.
    pub(super) whole: &'a [u8],
    /// Of one that has a length.
    pub(super) content: Option<&'a [u8]>,
}

/// The fields of a message, in their order.
pub(super) fn fields(mut rest: &[u8]) -> impl Iterator<Item = Result<Field<'_>, InvalidCell>> {
    std::iter::from_fn(move || {
        (!rest.is_empty()).then(|| {
            let field = next_field(&mut rest);
            if field.is_err() {
                rest = &[];
            }
            field
        })
    })
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, InvalidCell> {
    let before = *rest;
    let (number, wire_type) = decode_key(rest).map_err(|_| INVALID)?;
    let mut after_key = *rest;
    skip_field(wire_type, number, rest, DecodeContext::default()).map_err(|_| INVALID)?;
    let whole = before.get(..before.len() - rest.len()).ok_or(INVALID)?;
    let content = if wire_type == WireType::LengthDelimited {
        decode_varint(&mut after_key).map_err(|_| INVALID)?;
        let length = after_key.len() - rest.len();
        Some(after_key.get(..length).ok_or(INVALID)?)
    } else {
        None
    };
    Ok(Field {
        number,
        whole,
        content,
    })
}

/// The fields of a message whose numbers are beyond `last`, the last number of this version.
pub(super) fn unknown_fields(message: &[u8], last: u32) -> Result<Vec<u8>, InvalidCell> {
    let mut unknown = Vec::new();
    for field in fields(message) {
        let field = field?;
        if field.number > last {
            unknown.extend_from_slice(field.whole);
        }
    }
    Ok(unknown)
}
