//! Finding the position at which a time begins.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{self, BoxFuture};
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::reader::{self, ReaderPool};
use super::shared::Shared;
use crate::event::{Position, UnixMillis};
use crate::log::error::ReadError;

/// Receive times that are read at once: a few milliseconds.
const PAGE_ROWS: usize = 16_384;

/// Behind every record.
const END: Position = Position::new(i64::MAX.unsigned_abs());

/// The gathering of receive times, which many callers wait for.
type Gathering = future::Shared<BoxFuture<'static, Result<(), ReadError>>>;

/// Finds positions by time.
#[derive(Debug)]
pub(super) struct TimeSearch {
    shared: Arc<Shared>,
    readers: ReaderPool,
    gathering: Mutex<Option<Gathering>>,
}

impl TimeSearch {
    pub(super) fn new(shared: &Arc<Shared>, readers: &ReaderPool) -> Self {
        Self {
            shared: Arc::clone(shared),
            readers: readers.clone(),
            gathering: Mutex::default(),
        }
    }

    /// The position before the first record that was received at or after `time`.
    pub(super) async fn position_before(&self, time: UnixMillis) -> Result<Position, ReadError> {
        let last = self.shared.bounds().last;
        self.gather_times().await?;
        let mut after = self.shared.index().segments.begins_before(time);
        loop {
            let candidate = self.shared.times(|times| times.candidate(time, after));
            let Some(block) = candidate.flatten() else {
                return Ok(last);
            };
            let find = move |connection: &mut _| {
                reader::first_received_at_or_after(connection, time, block)
            };
            if let Some(first) = self.readers.run(find).await? {
                return Ok(Position::new(first.number().saturating_sub(1)));
            }
            // What made it one has been removed.
            after = Some(block.1);
        }
    }

    /// Waits until the receive times of what is in the log are gathered. That starts when they
    /// are first asked for, and goes on where the caller gives up.
    async fn gather_times(&self) -> Result<(), ReadError> {
        self.gathering().await
    }

    /// The one gathering; a new one where the last has failed.
    fn gathering(&self) -> Gathering {
        let mut gathering = self.gathering.lock();
        if let Some(gathering) = &*gathering
            && !matches!(gathering.peek(), Some(Err(_)))
        {
            return gathering.clone();
        }
        let gather = gather(Arc::clone(&self.shared), self.readers.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the log, and not with the call that started it"
        )]
        let task = AbortOnDropHandle::new(tokio::spawn(gather));
        let finished = async move {
            let finished = task.await;
            finished.map_err(|error| ReadError::Unreadable(error.to_string()))?
        };
        let started = finished.boxed().shared();
        *gathering = Some(started.clone());
        started
    }
}

/// Gathers the receive times of what is in the log, in short reads: the writer keeps readers
/// out now and then, and would wait for a long one. Segments have those of most records; the
/// writer notes what comes from here on itself.
async fn gather(shared: Arc<Shared>, readers: ReaderPool) -> Result<(), ReadError> {
    let index = shared.begin_times();
    // To the end of the file: of the newest records, bounds may not have heard yet.
    let holes = index.segments.holes(shared.bounds().trimmed, END);
    for (mut after, last) in holes {
        loop {
            let read = move |connection: &mut _| {
                reader::latest_times(connection, (after, last), PAGE_ROWS)
            };
            let page = readers.run(read).await?;
            shared.times(|times| {
                for (position, latest) in page.latest {
                    times.note(position, latest);
                }
                times.forget_through(shared.bounds().trimmed);
            });
            match page.through {
                Some(through) => after = through,
                None => break,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::event::Attributes;
    use crate::log::sqlite::segment::Builder;
    use crate::log::sqlite::times::{BLOCK_POSITIONS, LatestTimes};
    use crate::log::sqlite::{Config, SqliteLog};
    use crate::log::{Append as _, Entry, Keep as _, Metrics, Read as _};

    fn open(directory: &std::path::Path) -> SqliteLog {
        let config = Config {
            data_dir: directory.to_owned(),
            retain_for: None,
            retain_bytes: None,
            ..Config::default()
        };
        let metrics = Metrics::register(&mut Registry::default());
        SqliteLog::open(config, metrics).expect("opens")
    }

    async fn append(log: &SqliteLog, number: u64, received: i64) {
        let record = Entry {
            id: format!("msg_{number}"),
            attributes: Attributes {
                source: "default".to_owned(),
                ..Attributes::default()
            },
            receive_time: UnixMillis::new(received),
            event: Bytes::new(),
            decoding: 1,
            payload: Bytes::from_static(b"{}"),
        };
        log.append(record).await.expect("durable");
    }

    #[tokio::test]
    async fn receive_times_are_gathered_once_even_if_callers_give_up() {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let log = open(directory.path());
        append(&log, 1, 1_000).await;
        let first = log.times.gathering();
        // As a call does whose deadline passes.
        assert!(
            log.times
                .position_before(UnixMillis::new(500))
                .now_or_never()
                .is_none()
        );
        let second = log.times.gathering();
        assert!(first.ptr_eq(&second), "one gathering for all");
        drop((first, second));
        append(&log, 2, 2_000).await;
        let found = log
            .times
            .position_before(UnixMillis::new(1_500))
            .await
            .expect("found");
        assert_eq!(found, Position::new(1));
        log.close().await;
    }

    #[tokio::test]
    async fn exact_seek_where_segments_came_while_times_were_gathered() {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let log = open(directory.path());
        for number in 1..=3_u32 {
            append(&log, number.into(), i64::from(number) * 1_000).await;
        }
        // A gathering that failed before it had read a row.
        drop(log.shared.begin_times());
        let [first, last] = [1, 3].map(Position::new);
        let mut builder = Builder::new(first, last, UnixMillis::new(i64::MIN));
        for number in 1..=3_u32 {
            let received = UnixMillis::new(i64::from(number) * 1_000);
            builder.add(
                Position::new(number.into()),
                received,
                Attributes::default(),
            );
        }
        let segment = Arc::new(builder.finish(1).segment);
        log.shared.change_index(|index| {
            index.segments.insert(segment);
        });
        for (time, before) in [(0, 0), (1_001, 1), (3_000, 2), (3_001, 3)] {
            let found = log.times.position_before(UnixMillis::new(time)).await;
            assert_eq!(found.expect("found"), Position::new(before), "{time}");
        }
        log.close().await;
    }

    #[tokio::test]
    async fn receive_times_are_read_in_pages() {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let log = open(directory.path());
        // The clock goes back, and many are received at once.
        let times = (0..40_i64).map(|number| 1_000 + (number * 7 % 5) * 10);
        for (number, received) in times.enumerate() {
            append(&log, number as u64, received).await;
        }
        let last = log.bounds().last;
        for rows_max in [1, 3, 8, 40, 41] {
            let (mut after, mut pages, mut latest) = (Position::START, 0, LatestTimes::default());
            loop {
                let read = move |connection: &mut _| {
                    reader::latest_times(connection, (after, last), rows_max)
                };
                let page = log.readers.run(read).await.expect("read");
                for (position, received) in page.latest {
                    latest.note(position, received);
                }
                pages += 1;
                match page.through {
                    Some(through) => after = through,
                    None => break,
                }
            }
            assert_eq!(pages, 40_usize.div_ceil(rows_max) + 1, "of {rows_max}");
            let block = (Position::new(1), Position::new(BLOCK_POSITIONS));
            assert_eq!(latest.candidate(UnixMillis::new(1_040), None), Some(block));
            assert_eq!(latest.candidate(UnixMillis::new(1_041), None), None);
        }
        log.close().await;
    }
}
