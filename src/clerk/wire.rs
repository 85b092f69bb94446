//! Protobuf's wire format, as far as the transcoder writes it.

use prost::encoding::{WireType, encode_key, encode_varint};

/// The seconds of a `google.protobuf.Timestamp`, from the year 1 to the year 9999.
pub(super) const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> =
    -62_135_596_800..=253_402_300_799;

pub(super) fn put_varint(number: u32, value: u64, out: &mut Vec<u8>) {
    encode_key(number, WireType::Varint, out);
    encode_varint(value, out);
}

pub(super) fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

pub(super) fn put_double(number: u32, value: f64, out: &mut Vec<u8>) {
    encode_key(number, WireType::SixtyFourBit, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes a `google.protobuf.Timestamp`, unless it cannot hold the instant.
pub(super) fn put_timestamp(number: u32, milliseconds: i64, out: &mut Vec<u8>) -> Option<()> {
    let seconds = milliseconds.div_euclid(1000);
    let nanos = milliseconds.rem_euclid(1000) * 1_000_000;
    if !TIMESTAMP_SECONDS.contains(&seconds) {
        return None;
    }
    put_message(number, out, |out| {
        for (number, value) in [(1, seconds), (2, nanos)] {
            if value != 0 {
                put_varint(number, value.cast_unsigned(), out);
            }
        }
        Some(())
    })
}

/// Writes a nested message, whose length is known only afterwards. If `write` returns none,
/// `out` stays as it was.
pub(super) fn put_message(
    number: u32,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    let before = out.len();
    encode_key(number, WireType::LengthDelimited, out);
    // Most lengths are one byte; where one needs more, the message moves up.
    let length_at = out.len();
    out.push(0);
    if write(out).is_none() {
        out.truncate(before);
        return None;
    }
    let length = out.len() - length_at - 1;
    match u8::try_from(length).ok().filter(|short| *short < 0x80) {
        Some(short) => {
            if let Some(byte) = out.get_mut(length_at) {
                *byte = short;
            }
        }
        None => {
            let mut long = Vec::with_capacity(5);
            encode_varint(length as u64, &mut long);
            out.splice(length_at..=length_at, long);
        }
    }
    Some(())
}
