//! The writer thread: group commit.

mod batch;
mod health;
mod index;
mod records;
mod swaps;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior, params};
use tokio::runtime::Handle;

use self::batch::Pending;
use self::health::{Health, PROBE_BUSY_TIMEOUT};
use self::index::Indexed;
use super::cells::Decision;
use super::checkpoint::{Checkpoints, Requests};
use super::command::{Answer, Command};
use super::files::Files;
use super::retention::{self, Limits, Removed, Retention};
use super::retired::{self, RetiredId};
use super::schema::{self, BUSY_TIMEOUT};
use super::shared::Shared;
use super::tally::SavedTallies;
use crate::event::{Position, Run};
use crate::log::error::AppendError;
use crate::log::record::{Appended, Batch, Record, Writability};

const INSERT_RUN: &str = "INSERT INTO run (first_position, number) VALUES (?1, ?2)";

/// What the writer alone goes by.
pub(super) struct Start {
    pub(super) files: Files,
    pub(super) run: Run,
    pub(super) saved_tallies: SavedTallies,
}

pub(super) fn spawn(
    connection: Connection,
    start: Start,
    queue: Receiver<Command>,
    checkpoint_requests: Requests,
    shared: Arc<Shared>,
) -> io::Result<JoinHandle<()>> {
    let segment_records = shared.config().segment_records.max(1);
    let writer = Writer {
        segment_records,
        connection,
        run: start.run,
        has_begun: false,
        queue,
        checkpoints: Checkpoints::new(checkpoint_requests),
        retention: Retention::default(),
        shared,
        runtime: Handle::current(),
        last_batch_answers: 0,
        health: Health::new(start.files),
        saved_tallies: start.saved_tallies,
        indexed: None,
    };
    std::thread::Builder::new()
        .name("log-writer".to_owned())
        .spawn(move || writer.run())
}

struct Writer {
    connection: Connection,
    run: Run,
    /// Whether the file has the run, which comes with its first record.
    has_begun: bool,
    queue: Receiver<Command>,
    checkpoints: Checkpoints,
    retention: Retention,
    shared: Arc<Shared>,
    /// Where the senders that wait for an answer run.
    runtime: Handle,
    last_batch_answers: usize,
    health: Health,
    segment_records: u64,
    saved_tallies: SavedTallies,
    /// What the indexer made, to be added to the next batch.
    indexed: Option<Indexed>,
}

/// What a commit made of a batch.
#[derive(Default)]
struct Committed {
    appended: Vec<Appended>,
    decisions: Vec<Decision>,
}

/// A writer that dies must not look like one that has nothing to do.
impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.bell.close();
        if std::thread::panicking() {
            let reason = "the log's writer thread panicked".to_owned();
            let failed = Writability::Failed(reason);
            self.shared.published.set_writability(failed);
        }
    }
}

impl Writer {
    fn run(mut self) {
        let mut next = None;
        loop {
            match next.take().or_else(|| self.receive()) {
                Some(Command::Append { record, answer }) => {
                    let mut batch = Pending::default();
                    batch.push(record, answer);
                    next = self.drain(&mut batch);
                    self.write(batch);
                }
                Some(Command::Swap(swap)) => {
                    let mut batch = Pending::default();
                    batch.push_swap(swap);
                    next = self.drain(&mut batch);
                    self.write(batch);
                }
                Some(Command::Retain { answer }) => {
                    let removed = self.retain();
                    let _gone = answer.send(removed.map(|removed| removed.step));
                }
                Some(Command::Remember { retired, answer }) => {
                    let remembered = self.remember(&retired);
                    let _gone = answer.send(remembered);
                }
                Some(Command::Index { change, answer }) => {
                    self.indexed = index::accept(change, answer, &self.shared);
                }
                Some(Command::DropTree { name, answer }) => {
                    index::drop_tree(&self.connection, name, answer, &self.shared);
                    self.checkpoints.note_commit(&self.connection, &self.shared);
                }
                Some(Command::FinishCheckpoint) => self.finish_checkpoint(),
                Some(Command::Ping { answer }) => {
                    let _gone = answer.send(());
                }
                Some(Command::Close) => return self.close(),
                None => {}
            }
            self.health
                .look(&self.connection, &self.shared, &mut self.checkpoints);
        }
    }

    /// Waits for a command, until it is time to look or to continue retention.
    fn receive(&mut self) -> Option<Command> {
        if self.shared.failure().is_some() {
            return Some(self.queue.recv().unwrap_or(Command::Close));
        }
        let now = Instant::now();
        let look = self.health.next_look(now);
        let retention = match self.shared.refusal() {
            Some(_) => None,
            None => self.retention.next_look(now),
        };
        let indexed = self.indexed.as_ref().map(|indexed| indexed.due_in(now));
        let soonest = retention.unwrap_or(look).min(look);
        match self
            .queue
            .recv_timeout(indexed.unwrap_or(soonest).min(soonest))
        {
            Ok(command) => return Some(command),
            Err(RecvTimeoutError::Disconnected) => return Some(Command::Close),
            Err(RecvTimeoutError::Timeout) if indexed.is_some_and(|due| due <= soonest) => {
                index::commit_alone(&self.connection, self.indexed.take(), &self.shared);
                self.checkpoints.note_commit(&self.connection, &self.shared);
            }
            Err(RecvTimeoutError::Timeout) if retention.is_none_or(|due| due > look) => {}
            Err(RecvTimeoutError::Timeout) if self.retention.is_due() => {
                let _noted = self.retain();
            }
            Err(RecvTimeoutError::Timeout) => self.report_retention(),
        }
        None
    }

    /// Takes what is ready, up to the batch's bounds, or up to another command.
    ///
    /// Where the last batch answered several, their senders are about to send the next:
    /// the first of them would get a commit of its own, and all others wait for it. So
    /// the processor is offered to threads that can add to the batch, as long as one does.
    fn drain(&self, batch: &mut Pending) -> Option<Command> {
        let mut offered_at = if self.last_batch_answers > 1 { 0 } else { 1 };
        while !batch.is_full() {
            match self.queue.try_recv() {
                Ok(Command::Append { record, answer }) => batch.push(record, answer),
                Ok(Command::Swap(swap)) => batch.push_swap(swap),
                Ok(other) => return Some(other),
                Err(_) if batch.len() == offered_at => break,
                Err(_) => {
                    offered_at = batch.len();
                    std::thread::yield_now();
                }
            }
        }
        None
    }

    fn write(&mut self, mut batch: Pending) {
        self.last_batch_answers = batch.len();
        let metrics = &self.shared.metrics;
        // While it is known that writes fail, the probe tries alone: a try may take seconds.
        if let Some(error) = self.shared.refusal() {
            batch.refuse(&error, metrics);
            return;
        }
        let started = Instant::now();
        let committed = self.commit_or_drop_swaps(&mut batch);
        // What was committed to files that are gone would be lost at the next start.
        match self.health.check_files(&self.shared).map(|()| committed) {
            Ok(Ok(committed)) => {
                self.note_commit(&batch, started.elapsed());
                let bytes = batch.committed_bytes(&committed.appended);
                self.publish(batch, committed);
                self.checkpoints.note_commit(&self.connection, &self.shared);
                self.keep_up_with(bytes);
            }
            Ok(Err(error)) => {
                self.health.note_refused(batch.bytes);
                let error = self.note_failure(&error);
                self.refuse(batch, &error);
            }
            Err(error) => self.refuse(batch, &error),
        }
    }

    fn note_commit(&self, batch: &Pending, took: Duration) {
        let metrics = &self.shared.metrics;
        if batch.len() > 0 {
            metrics.commit_seconds.observe(took.as_secs_f64());
        }
        if !batch.records.is_empty() {
            let records = u32::try_from(batch.records.len());
            metrics
                .batch_records
                .observe(records.map_or(f64::INFINITY, f64::from));
        }
    }

    fn refuse(&self, batch: Pending, error: &AppendError) {
        self.shared.metrics.failed_commits.inc();
        batch.refuse(error, &self.shared.metrics);
    }

    /// From now on the log refuses writes, or has failed.
    fn note_failure(&mut self, error: &rusqlite::Error) -> AppendError {
        self.health.hasten();
        self.shared.note_failure(error)
    }

    /// Commits the batch. Where the swaps may be what has failed, such as for want of room or
    /// for damage to the cells, it refuses these and commits the events alone.
    fn commit_or_drop_swaps(&mut self, batch: &mut Pending) -> rusqlite::Result<Committed> {
        match self.commit(batch) {
            Err(error) if batch.has_swaps() && swaps::may_be_at_fault(&error) => {
                tracing::debug!(%error, "changes of cells could not be stored");
                let refusal = AppendError::Refusing(schema::explain(&error));
                batch.refuse_swaps(&refusal, &self.shared.metrics);
                match batch.len() {
                    0 => Ok(Committed::default()),
                    _ => self.commit(batch),
                }
            }
            committed => committed,
        }
    }

    /// One transaction for the batch.
    fn commit(&mut self, batch: &Pending) -> rusqlite::Result<Committed> {
        let before = self.shared.bounds().last;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let published = &self.shared.published;
        let tallied = self
            .saved_tallies
            .save_if_due(&published.counts(), &transaction, before)?;
        let retired_ids = &self.shared.retired_ids;
        let (appended, last) = records::insert(&transaction, &batch.records, before, retired_ids)?;
        let decisions = swaps::decide(&transaction, &batch.swaps)?;
        let begins = last > before && !self.has_begun;
        if begins {
            let first = before.next().number().cast_signed();
            transaction.execute(INSERT_RUN, params![first, self.run.number()])?;
        }
        index::commit(transaction, self.indexed.take())?;
        self.saved_tallies.note_saved(&published.counts(), tallied);
        if begins {
            // Before the bounds show the positions.
            self.shared
                .change_runs(|runs| runs.begin(before.next(), self.run));
            self.has_begun = true;
        }
        Ok(Committed {
            appended,
            decisions,
        })
    }

    /// After durability: the tally and the bounds, then the followers, then the answers.
    fn publish(&self, batch: Pending, committed: Committed) {
        let Committed {
            appended,
            decisions,
        } = committed;
        let mut records = Vec::with_capacity(batch.records.len());
        for (entry, appended) in batch.records.into_iter().zip(&appended) {
            if let Appended::Committed(position) = *appended {
                records.push(Record {
                    position,
                    run: self.run,
                    entry,
                });
            }
        }
        if !records.is_empty() {
            self.shared.metrics.committed.inc_by(records.len() as u64);
            self.shared.times(|times| {
                for record in &records {
                    times.note(record.position, record.entry.receive_time);
                }
            });
            let published = &self.shared.published;
            let after = published.bounds().last;
            published.commit(Arc::new(Batch { after, records }));
            self.ring_if_complete(after);
        }
        let swaps = swaps::publish(batch.swaps, decisions, &self.shared);
        self.answer(batch.answers, appended, swaps);
    }

    /// Wakes the indexer where the records of a segment have become complete.
    fn ring_if_complete(&self, before: Position) {
        self.shared.note_index();
        let segment = |position: Position| position.number() / self.segment_records;
        if segment(before) != segment(self.shared.bounds().last) {
            self.shared.bell.ring();
        }
    }

    /// Many are woken from where they run: each wake from here would cross threads.
    fn answer(&self, answers: Vec<Answer>, appended: Vec<Appended>, swaps: swaps::Answers) {
        let metrics = self.shared.metrics.clone();
        let (appends, others) = (answers.len(), swaps.len());
        let send = move || {
            for (answer, appended) in answers.into_iter().zip(appended) {
                let _gone = answer.send(Ok(appended));
            }
            swaps.send(&metrics);
        };
        if appends + others <= 1 {
            send();
        } else {
            self.runtime.spawn(async move { send() });
        }
    }

    /// Where retention is due, removes more than was committed.
    fn keep_up_with(&mut self, committed_bytes: u64) {
        let bytes_max = self.shared.config().retain_bytes;
        let mut bytes = self.retention.note_commit(committed_bytes, bytes_max);
        while bytes > 0 && self.retention.is_due() {
            match self.retain() {
                Ok(removed) if removed.records > 0 => bytes = bytes.saturating_sub(removed.bytes),
                _ => return,
            }
        }
    }

    /// Takes a step of retention, also while the log refuses writes: removing events is what
    /// makes room.
    fn retain(&mut self) -> Result<Removed, AppendError> {
        if let Some(error) = self.shared.failure() {
            return Err(error);
        }
        let busy_timeout = match self.shared.refusal() {
            Some(_) => PROBE_BUSY_TIMEOUT,
            None => BUSY_TIMEOUT,
        };
        let limits = Limits::new(&self.shared.config(), self.shared.clock.now());
        let removed = self.connection.busy_timeout(busy_timeout).and_then(|()| {
            let Self {
                connection,
                shared,
                retention,
                saved_tallies,
                ..
            } = self;
            retention::remove_oldest(connection, &limits, shared, retention, saved_tallies)
        });
        self.checkpoints.note_commit(&self.connection, &self.shared);
        match removed {
            Ok(removed) => {
                self.retention.note_step(removed, Instant::now());
                self.shared.note_index();
                if removed.records > 0 {
                    self.shared.bell.ring();
                }
                self.report_retention();
                Ok(removed)
            }
            Err(error) => {
                self.retention.note_failure();
                Err(self.note_failure(&error))
            }
        }
    }

    fn remember(&mut self, retired: &[RetiredId]) -> Result<u64, AppendError> {
        if let Some(error) = self.shared.failure() {
            return Err(error);
        }
        let known = &self.shared.retired_ids;
        let remembered = retired::remember(&mut self.connection, retired, known);
        self.checkpoints.note_commit(&self.connection, &self.shared);
        remembered.map_err(|error| self.shared.note_failure(&error))
    }

    fn report_retention(&mut self) {
        if let Some((records, bytes)) = self.retention.take_report(Instant::now()) {
            retention::report(&self.connection, records, bytes);
        }
    }

    fn finish_checkpoint(&self) {
        if self.shared.failure().is_none() {
            self.checkpoints.finish(&self.connection, &self.shared);
        }
    }

    fn close(&self) {
        // Where the WAL was removed, this rescues what was acknowledged before.
        let is_moved = self.health.are_files_moved();
        if is_moved || self.shared.failure().is_none() {
            self.checkpoints.close(&self.connection, &self.shared);
        }
    }
}
