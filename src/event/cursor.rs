//! Cursors: positions as clients hold them.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Epoch, Position, Run};

/// Written until positions had runs, and still read.
const WITHOUT_RUN: u8 = 1;
const WITH_RUN: u8 = 3;
/// Version, epoch, position, run.
const CONTENT_BYTES: usize = 1 + 8 + 8 + 4;
const CHECK_BYTES: usize = 2;
const BYTES: usize = CONTENT_BYTES + CHECK_BYTES;

/// A position in one particular history of one particular log, as an opaque string for
/// clients.
///
/// ```text
///   version 3 │ epoch 8 │ position 8 │ run 4 │ check 2     big-endian, base64url, 31 characters
///   version 1 │ epoch 8 │ position 8 │ check 2             read as one of run 0, never written
/// ```
///
/// The version byte makes the first character a letter, so a cursor is never taken
/// for an option by a shell command. The check catches a cursor that was cut or
/// mistyped, which could otherwise skip events silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The log that the position belongs to.
    pub epoch: Epoch,
    /// The run that wrote the position.
    pub run: Run,
    /// Everything up to here has been seen.
    pub position: Position,
}

/// The string is not a cursor of a version that this one reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: pass the `cursor` of a frame or a response unchanged")]
pub struct InvalidCursor;

impl Cursor {
    /// The length of a cursor's string.
    pub const TEXT_BYTES: usize = 31;

    /// Calls `use_text` with the cursor's string, which lives on the stack: every frame
    /// has one.
    pub fn with_text<T>(self, use_text: impl FnOnce(&str) -> T) -> T {
        let mut bytes = [0; BYTES];
        let (content, checked) = bytes.split_at_mut(CONTENT_BYTES);
        let (version, numbers) = content.split_at_mut(1);
        let (epoch, numbers) = numbers.split_at_mut(8);
        let (position, run) = numbers.split_at_mut(8);
        version.fill(WITH_RUN);
        epoch.copy_from_slice(&self.epoch.number().to_be_bytes());
        position.copy_from_slice(&self.position.number().to_be_bytes());
        run.copy_from_slice(&self.run.number().to_be_bytes());
        checked.copy_from_slice(&check(content).to_be_bytes());
        let mut text = [0; Self::TEXT_BYTES];
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
        debug_assert_eq!(written, Ok(Self::TEXT_BYTES));
        use_text(std::str::from_utf8(&text).unwrap_or_default())
    }

    /// Reads what follows the version.
    fn from_numbers(numbers: &[u8]) -> Option<Self> {
        let (epoch, numbers) = numbers.split_first_chunk()?;
        let (position, run) = numbers.split_first_chunk()?;
        let run = match run {
            [] => Run::NONE,
            run => Run::new(u32::from_be_bytes(run.try_into().ok()?)),
        };
        Some(Self {
            epoch: Epoch::new(u64::from_be_bytes(*epoch)),
            run,
            position: Position::new(u64::from_be_bytes(*position)),
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| formatter.write_str(text))
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let (content, checked) = bytes.split_last_chunk().ok_or(InvalidCursor)?;
        if *checked != check(content).to_be_bytes() {
            return Err(InvalidCursor);
        }
        match content {
            [WITH_RUN, numbers @ ..] if content.len() == CONTENT_BYTES => {
                Self::from_numbers(numbers)
            }
            [WITHOUT_RUN, numbers @ ..] if content.len() == CONTENT_BYTES - 4 => {
                Self::from_numbers(numbers)
            }
            _ => None,
        }
        .ok_or(InvalidCursor)
    }
}

/// FNV-1a, folded to 16 bits: against slips of the hand, not against malice.
fn check(bytes: &[u8]) -> u16 {
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    let [a, b, c, d] = hash.to_be_bytes();
    u16::from_be_bytes([a ^ c, b ^ d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(position: u64) -> Cursor {
        Cursor {
            epoch: Epoch::new(0xfeed_beef_0000_0001),
            run: Run::new(0x1234_5678),
            position: Position::new(position),
        }
    }

    #[test]
    fn a_cursor_round_trips_through_its_string() {
        for position in [0, 1, 255, u64::from(u32::MAX), u64::MAX] {
            let text = cursor(position).to_string();
            assert_eq!(text.parse(), Ok(cursor(position)), "{text}");
        }
    }

    #[test]
    fn a_cursor_written_before_runs_existed_belongs_to_run_0() {
        // As the version that wrote them did.
        for (text, position) in [
            ("Af7tvu8AAAABAAAAAAAAAABq4A", 0),
            ("Af7tvu8AAAABAAAAAAAB4kDTwQ", 123_456),
        ] {
            let read = Cursor {
                run: Run::NONE,
                ..cursor(position)
            };
            assert_eq!(text.parse(), Ok(read), "{text}");
        }
    }

    #[test]
    fn a_cursor_is_safe_in_a_shell_and_in_a_url() {
        let text = cursor(u64::MAX).to_string();
        assert!(text.starts_with(|first: char| first.is_ascii_alphabetic()));
        assert!(
            text.chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        );
    }

    #[test]
    fn a_cursor_with_any_one_character_changed_or_cut_is_refused() {
        let text = cursor(123_456).to_string();
        for index in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] = if changed[index] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(changed).expect("ascii");
            assert_eq!(changed.parse::<Cursor>(), Err(InvalidCursor), "{changed}");
            assert_eq!(text[..index].parse::<Cursor>(), Err(InvalidCursor));
        }
    }
}
