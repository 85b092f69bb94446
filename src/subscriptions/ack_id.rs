//! What a worker acknowledges a delivery by.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::name::Name;
use super::state::Lease;
use crate::event::Position;

const VERSION: u8 = 1;
/// Version, generation, position, lease.
const CONTENT_BYTES: usize = 1 + 8 + 8 + 8;
const CHECK_BYTES: usize = 4;

/// One delivery of one event by one subscription, as an opaque string for workers.
///
/// ```text
///   version 1 │ generation 8 │ position 8 │ lease 8 │ check 4     big-endian, base64url, 39 characters
/// ```
///
/// The version byte makes the first character a letter, so an id is never taken for an option
/// by a shell command. The check covers the subscription's name, so an id that was cut,
/// mistyped or sent to another subscription is refused and acknowledges nothing. The check is
/// not a secret: an id grants nothing, because `Acknowledge` is for the subscription's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AckId {
    /// The subscription's life and the seeks in it: ids from before the last seek are void.
    pub generation: u64,
    /// The event.
    pub position: Position,
    /// The delivery.
    pub lease: Lease,
}

/// The string is not an id that this subscription gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an ack id of this subscription: pass the `ack_id` of a delivery unchanged")]
pub struct InvalidAckId;

impl AckId {
    /// The length of an id's string.
    pub const TEXT_BYTES: usize = 39;

    /// The string of an id of the subscription `name`.
    #[must_use]
    pub fn to_text(self, name: &Name) -> String {
        let mut bytes = Vec::with_capacity(CONTENT_BYTES + CHECK_BYTES);
        bytes.push(VERSION);
        bytes.extend(self.generation.to_be_bytes());
        bytes.extend(self.position.number().to_be_bytes());
        bytes.extend(self.lease.number().to_be_bytes());
        let check = check(name, &bytes);
        bytes.extend(check);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads an id of the subscription `name`.
    ///
    /// # Errors
    /// Where [`Self::to_text`] did not write it for this subscription.
    pub fn read(text: &str, name: &Name) -> Result<Self, InvalidAckId> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidAckId)?;
        let (content, checked) = bytes.split_last_chunk().ok_or(InvalidAckId)?;
        if *checked != check(name, content) {
            return Err(InvalidAckId);
        }
        Self::from_content(content).ok_or(InvalidAckId)
    }

    fn from_content(content: &[u8]) -> Option<Self> {
        let (version, numbers) = content.split_first()?;
        let (generation, numbers) = numbers.split_first_chunk()?;
        let (position, numbers) = numbers.split_first_chunk()?;
        let lease = numbers.try_into().ok()?;
        (*version == VERSION).then(|| Self {
            generation: u64::from_be_bytes(*generation),
            position: Position::new(u64::from_be_bytes(*position)),
            lease: Lease::new(u64::from_be_bytes(lease)),
        })
    }
}

/// CRC-32C: against slips of the hand, not against malice.
fn check(name: &Name, content: &[u8]) -> [u8; CHECK_BYTES] {
    let of_name = crc32c::crc32c(name.as_str().as_bytes());
    crc32c::crc32c_append(of_name, content).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn id(generation: u64, position: u64, lease: u64) -> AckId {
        AckId {
            generation,
            position: Position::new(position),
            lease: Lease::new(lease),
        }
    }

    #[test]
    fn an_ack_id_never_changes_its_form() {
        // Workers hold ids across an upgrade of the gateway.
        let text = id(1_790_000_000_000, 1_234_567, 89).to_text(&name("crm"));
        assert_eq!(text, "AQAAAaDEUGwAAAAAAAAS1ocAAAAAAAAAWZgU84g");
    }

    #[test]
    fn an_ack_id_with_any_one_character_changed_or_cut_is_refused() {
        let crm = name("crm");
        let text = id(1_790_000_000_000, 1_234_567, 89).to_text(&crm);
        for index in 0..text.len() {
            for other in [b'x', b'y', b'A', b'-'] {
                let mut changed = text.clone().into_bytes();
                if changed[index] == other {
                    continue;
                }
                changed[index] = other;
                let changed = String::from_utf8(changed).expect("ascii");
                assert_eq!(AckId::read(&changed, &crm), Err(InvalidAckId), "{changed}");
            }
            assert_eq!(AckId::read(&text[..index], &crm), Err(InvalidAckId));
        }
        assert_eq!(AckId::read(&format!("{text}A"), &crm), Err(InvalidAckId));
    }

    proptest! {
        #[test]
        fn an_ack_id_is_read_by_its_own_subscription_alone(
            generation in any::<u64>(),
            position in any::<u64>(),
            lease in any::<u64>(),
            (own, other) in ("[a-z0-9][a-z0-9-]{0,62}", "[a-z0-9][a-z0-9-]{0,62}"),
        ) {
            let (own, other) = (name(&own), name(&other));
            let id = id(generation, position, lease);
            let text = id.to_text(&own);
            prop_assert_eq!(text.len(), AckId::TEXT_BYTES);
            prop_assert!(text.starts_with(|first: char| first.is_ascii_alphabetic()));
            prop_assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)));
            prop_assert_eq!(AckId::read(&text, &own), Ok(id));
            if own != other {
                prop_assert_eq!(AckId::read(&text, &other), Err(InvalidAckId));
            }
        }
    }
}
