//! What readers see of a store: bounds, counts, whether it takes writes, and the batches.
//!
//! Each store owns one [`Published`] and changes it by methods alone, so that a gauge is
//! never out of step with what it shows, and a follower that has a batch finds bounds and
//! counts that contain it.

use std::sync::Arc;

use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use tokio::sync::{broadcast, watch};

use super::counts::Counts;
use super::follower::Follower;
use super::metrics::Metrics;
use super::record::{Batch, Bounds, Record, Tally, Writability};
use crate::event::numbers::saturating;
use crate::event::{Position, UnixMillis};

/// Batches kept for a follower that is late; one that is later reads the log.
const FOLLOWED_BATCHES_MAX: usize = 64;

/// What readers see of a store.
#[derive(Debug)]
pub(super) struct Published {
    bounds: RwLock<Bounds>,
    counted: RwLock<Counted>,
    writability: watch::Sender<Writability>,
    batches: broadcast::Sender<Arc<Batch>>,
    metrics: Metrics,
}

/// Records per source and type.
#[derive(Debug)]
struct Counted {
    counts: Counts,
    /// Records after this are not in the counts yet.
    through: Position,
}

impl Published {
    /// A store that begins with these bounds, and these counts of all records up to its last.
    pub(super) fn new(bounds: Bounds, counts: Counts, metrics: Metrics) -> Self {
        metrics.writable.set(1);
        metrics.tail_position.set(saturating(bounds.last.number()));
        metrics.records.set(saturating(counts.record_count()));
        Self {
            counted: RwLock::new(Counted {
                counts,
                through: bounds.last,
            }),
            bounds: RwLock::new(bounds),
            writability: watch::Sender::new(Writability::Writable),
            batches: broadcast::Sender::new(FOLLOWED_BATCHES_MAX),
            metrics,
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        *self.bounds.read()
    }

    pub(super) fn tallies(&self) -> Vec<Tally> {
        self.counts().list()
    }

    pub(super) fn counts(&self) -> MappedRwLockReadGuard<'_, Counts> {
        RwLockReadGuard::map(self.counted.read(), |counted| &counted.counts)
    }

    pub(super) fn follow(&self) -> Follower {
        self.batches.subscribe().into()
    }

    pub(super) fn writability(&self) -> watch::Receiver<Writability> {
        self.writability.subscribe()
    }

    /// Why the store has failed, if it has.
    pub(super) fn failure(&self) -> Option<String> {
        match &*self.writability.borrow() {
            Writability::Failed(reason) => Some(reason.clone()),
            _ => None,
        }
    }

    /// Why the store takes no writes, if it takes none.
    pub(super) fn refusal(&self) -> Option<String> {
        match &*self.writability.borrow() {
            Writability::Writable => None,
            Writability::Refusing(reason) | Writability::Failed(reason) => Some(reason.clone()),
        }
    }

    /// Publishes a batch that the store has committed: counts, bounds and gauges first, then
    /// the batch.
    pub(super) fn commit(&self, batch: Arc<Batch>) {
        let record_count = self.count(&batch.records, |name| name);
        self.metrics.records.set(saturating(record_count));
        self.send(batch);
    }

    /// Publishes a batch of a store that others write to, as this process hears of it. The
    /// store's own counts are taken over now and then, by [`Published::recount`];
    /// `counted_as` names a type as they do.
    pub(super) fn relay(&self, batch: Arc<Batch>, counted_as: fn(&str) -> &str) {
        self.count(&batch.records, counted_as);
        self.send(batch);
    }

    fn send(&self, batch: Arc<Batch>) {
        if let Some(newest) = batch.records.last() {
            self.reach(newest.position, newest.entry.receive_time);
            let _no_follower = self.batches.send(batch);
        }
    }

    /// Counts what is not counted yet: records of one source and type that follow one another
    /// at once. Returns how many records there are.
    fn count(&self, records: &[Record], counted_as: fn(&str) -> &str) -> u64 {
        let mut counted = self.counted.write();
        let known = records.partition_point(|record| record.position <= counted.through);
        let (_, new) = records.split_at(known);
        if let Some(last) = new.last() {
            counted.through = last.position;
        }
        let is_alike = |former: &Record, next: &Record| {
            let (former, next) = (&former.entry.attributes, &next.entry.attributes);
            (&former.source, &former.event_type) == (&next.source, &next.event_type)
        };
        for alike in new.chunk_by(is_alike) {
            if let Some(Record { entry, .. }) = alike.first() {
                let event_type = counted_as(&entry.attributes.event_type);
                let count = alike.len() as u64;
                counted
                    .counts
                    .add(&entry.attributes.source, event_type, count);
            }
        }
        counted.counts.record_count()
    }

    /// Takes over what a store that others write to has counted up to `through`. Some names
    /// that there were once stay.
    pub(super) fn recount(&self, found: Vec<Tally>, through: Position) {
        let mut counted = self.counted.write();
        *counted = Counted {
            counts: counted.counts.counted_again(found),
            through,
        };
    }

    /// Notes how many records a store that others write to has.
    pub(super) fn note_record_count(&self, count: u64) {
        self.metrics.records.set(saturating(count));
    }

    /// Notes that the store reaches at least to here, also where others wrote that.
    pub(super) fn reach(&self, last: Position, received: UnixMillis) {
        let mut bounds = self.bounds.write();
        if last > bounds.last {
            bounds.last = last;
            bounds.last_receive_time = received;
            self.metrics.tail_position.set(saturating(last.number()));
        }
    }

    /// Notes when the last record was received, where only its position was known.
    pub(super) fn set_last_receive_time(&self, received: UnixMillis) {
        self.bounds.write().last_receive_time = received;
    }

    /// Notes that the store begins after `through`, without the records that were `removed`.
    /// A store that counts its records itself names none.
    pub(super) fn trim(&self, through: Position, removed: &[Tally]) {
        if !removed.is_empty() {
            let counts = &mut self.counted.write().counts;
            for tally in removed {
                counts.remove(&tally.source, &tally.event_type, tally.count);
            }
            counts.forget_empty();
            self.metrics.records.set(saturating(counts.record_count()));
        }
        let mut bounds = self.bounds.write();
        bounds.trimmed = bounds.trimmed.max(through);
    }

    /// Notes a change. Returns whether it is one: nothing follows on
    /// [`Writability::Failed`].
    ///
    /// Each outage has one line at its beginning and one at its end, whatever becomes the
    /// reason meanwhile.
    pub(super) fn set_writability(&self, new: Writability) -> bool {
        self.writability.send_if_modified(|current| {
            if matches!(current, Writability::Failed(_)) || *current == new {
                return false;
            }
            let is_refusing = matches!(current, Writability::Refusing(_));
            match &new {
                Writability::Refusing(_) if is_refusing => {}
                Writability::Writable => tracing::info!("the log takes writes again"),
                Writability::Refusing(reason) => tracing::error!(
                    %reason,
                    "the log refuses writes; webhooks are answered 503 until it recovers"
                ),
                Writability::Failed(reason) => tracing::error!(%reason, "the log has failed"),
            }
            let is_writable = new == Writability::Writable;
            self.metrics.writable.set(is_writable.into());
            *current = new;
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{FutureExt as _, StreamExt as _};
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::event::{Attributes, Run};
    use crate::log::{Entry, Lagged};

    fn published() -> Published {
        let metrics = Metrics::register(&mut Registry::default());
        Published::new(Bounds::default(), Counts::new(|_| false), metrics)
    }

    fn batch(positions: std::ops::RangeInclusive<u64>) -> Arc<Batch> {
        let after = Position::new(positions.start() - 1);
        let records = positions.map(|position| Record {
            position: Position::new(position),
            run: Run::NONE,
            entry: Entry {
                id: format!("msg_{position}"),
                attributes: Attributes {
                    source: "default".to_owned(),
                    event_type: "user.created".to_owned(),
                    ..Attributes::default()
                },
                receive_time: UnixMillis::new(position.cast_signed()),
                event: Bytes::new(),
                decoding: 1,
                payload: Bytes::new(),
            },
        });
        Arc::new(Batch {
            after,
            records: records.collect(),
        })
    }

    fn tally(count: u64) -> Tally {
        Tally {
            source: "default".to_owned(),
            event_type: "user.created".to_owned(),
            count,
        }
    }

    #[test]
    fn a_batch_moves_bounds_counts_and_gauges() {
        let published = published();
        let mut follower = published.follow();
        published.commit(batch(1..=3));
        let followed = follower.next().now_or_never().flatten();
        assert_eq!(
            followed.map(|followed| followed.map(|batch| batch.records.len())),
            Some(Ok(3))
        );
        let expected = Bounds {
            trimmed: Position::START,
            last: Position::new(3),
            last_receive_time: UnixMillis::new(3),
        };
        assert_eq!(published.bounds(), expected);
        assert_eq!(published.tallies(), [tally(3)]);
        published.trim(Position::new(2), &[tally(2)]);
        assert_eq!(published.bounds().trimmed, Position::new(2));
        assert_eq!(published.tallies(), [tally(1)]);
        let metrics = &published.metrics;
        assert_eq!((metrics.records.get(), metrics.tail_position.get()), (1, 3));
    }

    #[test]
    fn a_record_that_the_store_has_counted_is_not_counted_again() {
        let published = published();
        published.recount(vec![tally(2)], Position::new(2));
        published.relay(batch(1..=3), |name| name);
        assert_eq!(published.tallies(), [tally(3)]);
        assert_eq!(published.bounds().last, Position::new(3));
    }

    #[test]
    fn a_batch_of_mixed_types_is_counted_by_source_and_type() {
        let published = published();
        let mut mixed = Arc::into_inner(batch(1..=6)).expect("not shared");
        let names = [
            ("eu", "b"),
            ("eu", "a"),
            ("eu", "a"),
            ("us", "a"),
            ("eu", "b"),
            ("eu", "a"),
        ];
        for (record, (source, event_type)) in mixed.records.iter_mut().zip(names) {
            let attributes = &mut record.entry.attributes;
            (attributes.source, attributes.event_type) = (source.to_owned(), event_type.to_owned());
        }
        published.commit(Arc::new(mixed));
        let tallies = published.tallies();
        let counted = tallies.iter().map(|tally| {
            (
                tally.source.as_str(),
                tally.event_type.as_str(),
                tally.count,
            )
        });
        let expected = [("eu", "a", 3), ("eu", "b", 2), ("us", "a", 1)];
        assert_eq!(counted.collect::<Vec<_>>(), expected);
        assert_eq!(published.metrics.records.get(), 6);
    }

    #[test]
    fn a_late_follower_sees_how_many_batches_it_missed() {
        let published = published();
        let mut follower = published.follow();
        for position in 1..=FOLLOWED_BATCHES_MAX as u64 + 2 {
            published.commit(batch(position..=position));
        }
        let lag = follower.next().now_or_never().flatten();
        assert_eq!(lag.map(|lagged| lagged.err()), Some(Some(Lagged(2))));
        let next = follower
            .next()
            .now_or_never()
            .flatten()
            .expect("more")
            .expect("a batch");
        assert_eq!(next.after, Position::new(2));
    }

    #[test]
    fn a_failed_log_stays_failed() {
        let published = published();
        let refusing = |reason: &str| Writability::Refusing(reason.to_owned());
        assert!(!published.set_writability(Writability::Writable));
        assert!(published.set_writability(refusing("the disk is full")));
        assert!(!published.set_writability(refusing("the disk is full")));
        assert_eq!(published.refusal().as_deref(), Some("the disk is full"));
        assert_eq!(published.failure(), None);
        assert_eq!(published.metrics.writable.get(), 0);
        assert!(published.set_writability(Writability::Writable));
        assert_eq!(published.metrics.writable.get(), 1);
        let failed = Writability::Failed("the file is gone".to_owned());
        assert!(published.set_writability(failed.clone()));
        assert!(!published.set_writability(Writability::Writable));
        assert_eq!(*published.writability().borrow(), failed);
    }
}
