//! Following the log: every batch that is committed from now on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::broadcast;
use tokio_stream::Stream;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::record::Batch;

/// A stream of batches, in order. It ends with the log.
#[derive(Debug)]
pub struct Follower(BroadcastStream<Arc<Batch>>);

/// How many batches a follower missed because it was late. It reads them from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("missed {0} batches; read them from the log")]
pub struct Lagged(pub u64);

impl From<broadcast::Receiver<Arc<Batch>>> for Follower {
    fn from(batches: broadcast::Receiver<Arc<Batch>>) -> Self {
        Self(BroadcastStream::new(batches))
    }
}

impl Stream for Follower {
    type Item = Result<Arc<Batch>, Lagged>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.0).poll_next(context);
        next.map_err(|BroadcastStreamRecvError::Lagged(missed)| Lagged(missed))
    }
}
