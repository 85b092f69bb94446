//! What is still to be sent of a call's answer.
//!
//! HTTP/2 pulls it when its windows have room. Until then it lies where the call can take
//! it back: when its policy ends, when it is not read for too long, or when it has to give
//! way to others.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic::body::Body;

use super::shared::Unread;

/// The answer is handed to HTTP/2 in pieces of this size, since HTTP/2 keeps what it was
/// handed until the other end reads it.
const PIECE_BYTES: usize = 16 << 10;
/// The first piece is gRPC's prefix alone: hyper takes one piece before it knows whether
/// there is room for it, and that piece cannot be taken back.
const FIRST_BYTES: usize = 5;

/// What is left to send.
#[derive(Debug, Default)]
pub(super) enum Content {
    /// The answer to a call that is not a stream.
    Answer(Answer),
    /// A stream, which makes its frames when it is asked for them.
    Stream(Body),
    /// The end, and why.
    End(HeaderMap),
    #[default]
    Nothing,
}

#[derive(Debug)]
pub(super) struct Answer {
    message: Bytes,
    is_begun: bool,
    trailers: Option<HeaderMap>,
    unread: Arc<Unread>,
}

/// A piece of an answer, which counts as unread until HTTP/2 has let go of it.
struct Piece {
    bytes: Bytes,
    _unread: Arc<Unread>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Answer {
    pub(super) fn new(message: Bytes, trailers: HeaderMap, unread: Unread) -> Self {
        Self {
            message,
            is_begun: false,
            trailers: Some(trailers),
            unread: Arc::new(unread),
        }
    }

    /// The next piece of it.
    pub(super) fn next(&mut self) -> Option<Frame<Bytes>> {
        if self.message.is_empty() {
            return self.trailers.take().map(Frame::trailers);
        }
        let most = if self.is_begun {
            PIECE_BYTES
        } else {
            FIRST_BYTES
        };
        self.is_begun = true;
        let piece = Piece {
            bytes: self.message.split_to(most.min(self.message.len())),
            _unread: Arc::clone(&self.unread),
        };
        Some(Frame::data(Bytes::from_owner(piece)))
    }

    /// Whether nothing of it is left.
    pub(super) fn is_sent(&self) -> bool {
        self.trailers.is_none()
    }
}

/// Why a stream ends, as trailers.
pub(super) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    match status.add_header(&mut trailers) {
        Ok(()) => trailers,
        // Its own words do not fit a header.
        Err(_) => HeaderMap::from_iter([(
            Status::GRPC_STATUS,
            http::HeaderValue::from(status.code() as i32),
        )]),
    }
}

/// All of an answer: its message with gRPC's prefix, and its trailers.
pub(super) async fn collect(body: Body) -> Result<(Bytes, HeaderMap), Status> {
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok((collected.to_bytes(), trailers))
}
