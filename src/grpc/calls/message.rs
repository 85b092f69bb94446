//! The request's message, read before any work is done for it.

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic::body::Body;

/// What gRPC puts before each message: a flag, and the length in four bytes.
const PREFIX_BYTES: usize = 5;

/// Reads the first message with its prefix, or as much of it as `bytes_max` allows: what is
/// longer is refused by whatever decodes it.
pub(super) async fn read(body: &mut Body, bytes_max: usize) -> Result<Bytes, Status> {
    let mut read = BytesMut::new();
    while read.len() < wanted_bytes(&read, bytes_max) {
        let Some(frame) = body.frame().await else {
            break;
        };
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

fn wanted_bytes(read: &[u8], bytes_max: usize) -> usize {
    let Some((_, mut length)) = read.get(..PREFIX_BYTES).and_then(<[u8]>::split_first) else {
        return PREFIX_BYTES;
    };
    let length = usize::try_from(length.get_u32()).unwrap_or(usize::MAX);
    // One byte more than is allowed, to be refused.
    PREFIX_BYTES + length.min(bytes_max + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_to_its_end_and_one_that_is_too_long_no_further_than_the_bound() {
        for (read, wanted) in [
            (&[][..], 5),
            (&[0, 0, 0][..], 5),
            (&[0, 0, 0, 0, 0][..], 5),
            (&[0, 0, 0, 1, 2][..], 5 + 258),
            (&[0, 255, 255, 255, 255][..], 5 + 1001),
        ] {
            assert_eq!(wanted_bytes(read, 1000), wanted, "{read:?}");
        }
    }
}
