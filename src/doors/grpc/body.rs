//! The body of a subscription's response: frames as they were encoded, several at a time.
//!
//! Frames that lie one behind the other in a shared chunk go out as one piece without
//! being copied, which is where a fan-out spends its time. Others are gathered, so that
//! HTTP/2 is not handed one small piece per event.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::HeaderMap;
use http_body::Frame as HttpFrame;
use tonic::{Code, Status};

use crate::api::Frame;

/// A piece ends once it has reached this, as tonic's own do.
const PIECE_BYTES: usize = 32 << 10;
/// A run of frames from here on is worth a piece of its own, which saves copying it.
const UNCOPIED_BYTES_MIN: usize = 4 << 10;

pub(super) struct FrameBody<S> {
    batches: S,
    /// What is left of the last batch.
    frames: std::vec::IntoIter<Frame>,
    /// Frames that follow each other in one chunk, not yet sent.
    run: Option<Frame>,
    /// Runs that were too small to be sent alone.
    gathered: BytesMut,
    state: State,
}

enum State {
    Streaming,
    /// The frames have ended; this is how.
    Ended(Status),
    Closed,
}

impl<S> FrameBody<S> {
    pub(super) fn new(batches: S) -> Self {
        Self {
            batches,
            frames: Vec::new().into_iter(),
            run: None,
            gathered: BytesMut::new(),
            state: State::Streaming,
        }
    }

    /// Adds a frame. Where that completes a piece, returns it.
    fn add(&mut self, frame: Frame) -> Option<Bytes> {
        let Some(run) = &mut self.run else {
            self.run = Some(frame);
            return None;
        };
        if run.extend_with(&frame) {
            return None;
        }
        let run = std::mem::replace(run, frame);
        if run.size() >= UNCOPIED_BYTES_MIN && self.gathered.is_empty() {
            return Some(run.bytes());
        }
        self.gathered.extend_from_slice(&run.bytes());
        (self.gathered.len() >= PIECE_BYTES).then(|| self.gathered.split().freeze())
    }

    /// What is left, as a piece.
    fn rest(&mut self) -> Option<Bytes> {
        if self.gathered.is_empty() {
            return self.run.take().map(|run| run.bytes());
        }
        if let Some(run) = self.run.take() {
            self.gathered.extend_from_slice(&run.bytes());
        }
        Some(self.gathered.split().freeze())
    }
}

impl<S> http_body::Body for FrameBody<S>
where
    S: Stream<Item = Result<Vec<Frame>, Status>> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<HttpFrame<Bytes>, Status>>> {
        let body = self.get_mut();
        let piece = |bytes| Poll::Ready(Some(Ok(HttpFrame::data(bytes))));
        while matches!(body.state, State::Streaming) {
            if let Some(frame) = body.frames.next() {
                if let Some(bytes) = body.add(frame) {
                    return piece(bytes);
                }
                continue;
            }
            match Pin::new(&mut body.batches).poll_next(context) {
                Poll::Ready(Some(Ok(batch))) => body.frames = batch.into_iter(),
                Poll::Ready(Some(Err(status))) => body.state = State::Ended(status),
                Poll::Ready(None) => body.state = State::Ended(Status::new(Code::Ok, "")),
                Poll::Pending => {
                    return match body.rest() {
                        Some(bytes) => piece(bytes),
                        None => Poll::Pending,
                    };
                }
            }
        }
        if let Some(bytes) = body.rest() {
            return piece(bytes);
        }
        match std::mem::replace(&mut body.state, State::Closed) {
            State::Ended(status) => {
                let mut trailers = HeaderMap::with_capacity(3);
                Poll::Ready(Some(match status.add_header(&mut trailers) {
                    Ok(()) => Ok(HttpFrame::trailers(trailers)),
                    Err(status) => Err(status),
                }))
            }
            State::Streaming | State::Closed => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Closed)
    }
}
