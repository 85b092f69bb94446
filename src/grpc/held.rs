//! A response that keeps a permit until it is sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;

/// A body, and the permit of the call that it answers: what waits for a client that does
/// not read occupies memory, and counts.
#[derive(Debug)]
pub(super) struct Held {
    body: Body,
    _permit: OwnedSemaphorePermit,
}

impl Held {
    pub(super) fn new(body: Body, permit: OwnedSemaphorePermit) -> Self {
        Self {
            body,
            _permit: permit,
        }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
