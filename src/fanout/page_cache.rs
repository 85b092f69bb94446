//! Pages of history that were just read, for subscribers that read history together.
//!
//! Pure: no clock, no waiting, no locks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frame::{Frame, View};
use crate::event::{Position, UnixMillis};
use crate::filter::Filter;

/// Pages kept for other subscribers, in bytes of events and filters. Subscribers that read
/// history together may be at most this far apart.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// Maximum age of a cached page. In a log that other gateways change too, this one may learn late
/// that records are gone.
const KEPT_FOR: Duration = Duration::from_secs(5);

/// A page to read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PageKey {
    pub(super) after: Position,
    pub(super) filter: Filter,
    pub(super) events_max: u64,
}

/// The matching events up to `through`.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) runs: Vec<Frame>,
    pub(super) events: u64,
    pub(super) event_bytes: usize,
    /// When the first and the last were received.
    pub(super) received: Option<(UnixMillis, UnixMillis)>,
    pub(super) through: Position,
    pub(super) is_full: bool,
}

/// The pages that were read last, oldest first.
#[derive(Debug, Default)]
pub(super) struct PageCache {
    pages: VecDeque<CachedPage>,
    bytes: usize,
}

#[derive(Debug)]
struct CachedPage {
    key: PageKey,
    view: View,
    page: Arc<Page>,
    read_at: Instant,
}

impl CachedPage {
    fn bytes(&self) -> usize {
        self.page.event_bytes + self.key.filter.bytes()
    }

    fn is_too_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.read_at) > KEPT_FOR
    }
}

impl PageCache {
    pub(super) fn find(&self, key: &PageKey, view: &View, now: Instant) -> Option<Arc<Page>> {
        let mut recent = self
            .pages
            .iter()
            .rev()
            .take_while(|cached| !cached.is_too_old(now));
        let equal = recent.find(|cached| cached.key == *key && cached.view == *view);
        equal.map(|cached| Arc::clone(&cached.page))
    }

    pub(super) fn push(&mut self, (key, view): (PageKey, View), page: Arc<Page>, now: Instant) {
        let newest = CachedPage {
            key,
            view,
            page,
            read_at: now,
        };
        self.bytes += newest.bytes();
        self.pages.push_back(newest);
        while let Some(oldest) = self.pages.front()
            && (self.bytes > KEPT_BYTES_MAX || oldest.is_too_old(now))
        {
            self.bytes -= oldest.bytes();
            self.pages.pop_front();
        }
    }
}
