//! Finding the position at which a time begins.

use std::sync::PoisonError;

use super::times::LatestTimes;
use super::{Shared, SqliteLog, reader};
use crate::event::{Position, UnixMillis};
use crate::log::Error;

impl SqliteLog {
    /// The position before the first record that was received at or after `time`.
    pub(super) async fn seek(&self, time: UnixMillis) -> Result<Position, Error> {
        let tail = self.shared.bounds().tail;
        self.gather_times().await?;
        let mut after = None;
        loop {
            let candidate = self.shared.times(|times| times.candidate(time, after));
            let Some(block) = candidate.flatten() else {
                return Ok(tail);
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

    /// Gathers the receive times of what is in the log. The writer notes what comes from
    /// before that on.
    async fn gather_times(&self) -> Result<(), Error> {
        let gather = || async {
            self.shared.begin_times();
            let gathered = self.readers.run(reader::latest_times).await?;
            self.shared.times(|times| {
                for (first, latest) in gathered {
                    times.note(first, latest);
                }
                times.forget_through(self.shared.bounds().trimmed);
            });
            Ok(())
        };
        let gathered = self.shared.gathered_times.get_or_try_init(gather);
        gathered.await.copied()
    }
}

impl Shared {
    fn begin_times(&self) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.get_or_insert_default();
    }

    /// None until a time has been asked for.
    pub(super) fn times<T>(&self, look: impl FnOnce(&mut LatestTimes) -> T) -> Option<T> {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.as_mut().map(look)
    }
}
