//! The bucket of the cells: a KV stream beside the log's own, which has one message per key.

mod key;
mod markers;
mod settings;

use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::HeaderMap;
use async_nats::jetstream::stream::Info;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, broadcast};

use self::key::Keys;
use self::markers::Markers;
use super::stream;
use crate::event::Epoch;
use crate::log::cells::{Changed, WATCHED_CHANGES_MAX};

pub(super) use settings::{HEADERS_BYTES_MAX, check, find_or_create, stream_name};

/// Maximum number of swaps at once; more are refused as overload.
const SWAPS_MAX: usize = 256;
/// The header of a message that is not a value, as KV clients write it.
pub(super) const OPERATION: &str = "KV-Operation";
/// The value of that header in a marker of this gateway.
pub(super) const DELETED: &str = "DEL";

/// The bucket of the cells.
#[derive(Debug)]
pub(super) struct Bucket {
    /// The name of its stream.
    pub(super) stream: String,
    pub(super) keys: Keys,
    /// Which of the streams that had this name it is.
    pub(super) epoch: Epoch,
    /// The last sequence when it was opened.
    pub(super) opened_at: u64,
    /// The greatest sequence that is known to be stored.
    pub(super) last: AtomicU64,
    pub(super) changed: broadcast::Sender<Changed>,
    pub(super) swaps: Semaphore,
    pub(super) markers: Mutex<Markers>,
}

impl Bucket {
    pub(super) fn new(info: &Info) -> Self {
        let last = info.state.last_sequence;
        Self {
            stream: info.config.name.clone(),
            keys: Keys::of_stream(&info.config.name),
            epoch: stream::epoch(info),
            opened_at: last,
            last: AtomicU64::new(last),
            changed: broadcast::Sender::new(WATCHED_CHANGES_MAX),
            swaps: Semaphore::new(SWAPS_MAX),
            markers: Mutex::default(),
        }
    }

    pub(super) fn note(&self, sequence: u64) {
        self.last.fetch_max(sequence, Ordering::Relaxed);
    }
}

/// The last message of a cell's subject.
#[derive(Default)]
pub(super) struct LastMessage {
    /// 0 if there is no message.
    pub(super) sequence: u64,
    /// Absent in a marker.
    pub(super) value: Option<Bytes>,
}

pub(super) fn is_marker(headers: &HeaderMap) -> bool {
    headers.get(OPERATION).is_some()
}
