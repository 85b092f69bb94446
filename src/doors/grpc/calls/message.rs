//! The request's message, read before any work is done for it.

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic::body::Body;

use crate::event::numbers::saturating;

/// What gRPC puts before each message: a flag, and the length in four bytes.
const PREFIX_BYTES: usize = 5;

/// Reads a message with its prefix.
#[derive(Debug, Default)]
pub(super) struct Reader {
    read: BytesMut,
}

impl Reader {
    /// Reads until the length of the message is known, or the request ends.
    pub(super) async fn prefix(&mut self, body: &mut Body) -> Result<(), Status> {
        self.read_to(body, PREFIX_BYTES).await
    }

    /// How many bytes the message has with its prefix, or as many of it as are read: what is
    /// longer than `bytes_max` is refused by whatever decodes it.
    pub(super) fn message_bytes(&self, bytes_max: usize) -> usize {
        message_bytes(&self.read, bytes_max)
    }

    /// Reads the first `bytes`, or what there is.
    pub(super) async fn message(mut self, body: &mut Body, bytes: usize) -> Result<Bytes, Status> {
        self.read_to(body, bytes).await?;
        Ok(self.read.freeze())
    }

    async fn read_to(&mut self, body: &mut Body, bytes: usize) -> Result<(), Status> {
        while self.read.len() < bytes {
            let Some(frame) = body.frame().await else {
                break;
            };
            if let Ok(data) = frame?.into_data() {
                self.read.extend_from_slice(&data);
            }
        }
        Ok(())
    }
}

/// A message without its prefix, if it is whole and not compressed.
pub(super) fn whole(read: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = read.split_at_checked(PREFIX_BYTES)?;
    let (flag, mut length) = prefix.split_first()?;
    let is_whole = usize::try_from(length.get_u32()).is_ok_and(|length| length == message.len());
    (*flag == 0 && is_whole).then_some(message)
}

fn message_bytes(read: &[u8], bytes_max: usize) -> usize {
    let Some((_, mut length)) = read.get(..PREFIX_BYTES).and_then(<[u8]>::split_first) else {
        return PREFIX_BYTES;
    };
    let length: usize = saturating(length.get_u32());
    // One byte more than is allowed, to be refused.
    PREFIX_BYTES + length.min(bytes_max + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_to_its_end_and_an_oversized_one_to_the_bound() {
        for (read, wanted) in [
            (&[][..], 5),
            (&[0, 0, 0][..], 5),
            (&[0, 0, 0, 0, 0][..], 5),
            (&[0, 0, 0, 1, 2][..], 5 + 258),
            (&[0, 255, 255, 255, 255][..], 5 + 1001),
        ] {
            assert_eq!(message_bytes(read, 1000), wanted, "{read:?}");
        }
    }
}
