//! State that the log's tasks and callers share, and requests to the stream's leader.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use async_nats::connection::State as Connection;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Info, PeerInfo, RawMessageErrorKind, State};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::admission::{Admission, Ticket};
use super::bucket::Bucket;
use super::config::Config;
use super::foreign::ForeignMessages;
use super::recent::RecentIds;
use super::record::StoredRecord;
use super::runs::Runs;
use super::servers::ServerChoice;
use super::turns::Searches;
use super::{stream, subject};
use crate::event::numbers::saturating;
use crate::event::{Epoch, Position, Run, UnixMillis};
use crate::log::error::{AppendError, ReadError};
use crate::log::metrics::Metrics;
use crate::log::published::Published;
use crate::log::record::{Bounds, Writability};

/// A replica without a report for this long is away. Replicas report to their leader once a
/// second.
const REPLICA_SILENT_FOR: Duration = Duration::from_secs(4);

/// State that the log's tasks and callers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) client: Client,
    pub(super) context: Context,
    pub(super) publisher: Context,
    pub(super) epoch: Epoch,
    pub(super) published: Published,
    /// Where the cells are. Absent in a log that must not create anything.
    pub(super) bucket: Option<Bucket>,
    pub(super) admission: Mutex<Admission>,
    /// Size of the last record that the stream refused, or 0 if one was stored since.
    pub(super) refused_bytes: AtomicU64,
    /// Why the stream cannot be read, if it cannot.
    pub(super) unreachable: RwLock<Option<String>>,
    /// Why events are not followed, if they are not.
    pub(super) not_followed: RwLock<Option<String>>,
    pub(super) foreign: ForeignMessages,
    pub(super) recent: RecentIds,
    pub(super) runs: Runs,
    pub(super) searches: Searches,
    pub(super) choice: Arc<ServerChoice>,
    /// Notified when the stream should be checked now.
    pub(super) changed: Arc<Notify>,
    /// Changes with each turn of the follower.
    pub(super) followed: watch::Sender<()>,
    pub(super) closed: CancellationToken,
    pub(super) metrics: Metrics,
}

/// Why the stream's state is not known.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum StateError {
    #[error("the servers say that the stream does not exist")]
    Missing,
    #[error("the stream was deleted and made again; it is another log")]
    Remade,
    #[error("the connection to NATS is lost; reconnecting")]
    Disconnected,
    #[error("the stream cannot be reached: {0}")]
    Unreachable(String),
    #[error(
        "the server that leads the stream reaches no majority of those that have a copy; are they down, or is the network between them?"
    )]
    Alone,
}

impl From<StateError> for ReadError {
    fn from(error: StateError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

impl From<StateError> for AppendError {
    fn from(error: StateError) -> Self {
        Self::Refusing(error.to_string())
    }
}

impl Shared {
    pub(super) fn bounds(&self) -> Bounds {
        self.published.bounds()
    }

    pub(super) fn note_state(&self, state: &State) {
        let published = &self.published;
        published.reach(
            Position::new(state.last_sequence),
            millis(state.last_timestamp.unix_timestamp_nanos()),
        );
        published.trim(Position::new(state.first_sequence.saturating_sub(1)), &[]);
        published.note_record_count(state.messages);
        self.metrics.used_bytes.set(saturating(state.bytes));
        let oldest = millis(state.first_timestamp.unix_timestamp_nanos());
        let newest = self.bounds().last_receive_time;
        let has_records = state.messages > 0;
        self.metrics
            .note_ends(has_records.then_some((oldest, newest)));
    }

    /// Asks the stream's leader where it begins and ends. Returns the end.
    pub(super) async fn refresh(&self) -> Result<Position, StateError> {
        let info = self.info().await?;
        self.note_state(&info.state);
        Ok(Position::new(info.state.last_sequence))
    }

    /// Fails without a connection, because a request would wait for its whole time.
    pub(super) fn check_connection(&self) -> Result<(), StateError> {
        match self.client.connection_state() {
            Connection::Connected => Ok(()),
            _ => Err(StateError::Disconnected),
        }
    }

    /// Fails while the stream has no leader. Its end could not be confirmed, and readers that
    /// take turns would each wait to find that out.
    pub(super) fn check_reachable(&self) -> Result<(), ReadError> {
        match &*self.unreachable.read() {
            None => Ok(()),
            Some(reason) => Err(ReadError::Unreachable(reason.clone())),
        }
    }

    pub(super) async fn info(&self) -> Result<Info, StateError> {
        self.check_connection()?;
        let stream =
            self.context
                .get_stream(&self.config.stream)
                .await
                .map_err(|error| match error.kind() {
                    GetStreamErrorKind::JetStream(error)
                        if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                    {
                        StateError::Missing
                    }
                    _ => StateError::Unreachable(error.to_string()),
                })?;
        let info = stream.cached_info();
        if stream::epoch(info) != self.epoch {
            self.set_writability(Writability::Failed(format!(
                "the stream {} was deleted and made again; it is another log",
                self.config.stream
            )));
            return Err(StateError::Remade);
        }
        if !reaches_majority(info) {
            return Err(StateError::Alone);
        }
        Ok(info.clone())
    }

    /// The first message of a subject, or of all, at or after `position`, if the
    /// stream's leader knows one; and its record unless it holds none.
    pub(super) async fn next_record(
        &self,
        position: Position,
        subject: Option<&str>,
    ) -> Result<Option<(Position, Option<StoredRecord>)>, ReadError> {
        let message = self.next_message(position, subject).await?;
        Ok(message.map(|message| {
            let position = Position::new(message.sequence);
            let record = self.read_record(position, Some(&message.headers), message.payload);
            (position, record)
        }))
    }

    /// The record in the message at `position`, if a gateway wrote it.
    pub(super) fn read_record(
        &self,
        position: Position,
        headers: Option<&HeaderMap>,
        body: Bytes,
    ) -> Option<StoredRecord> {
        let record = StoredRecord::read(headers, body);
        if record.is_none() && self.foreign.note(position) {
            self.metrics.foreign_messages.inc();
            tracing::warn!(
                %position,
                "skipping a message of the stream that no gateway wrote; check which other clients publish to its subjects"
            );
        }
        record
    }

    /// The position of the first message at or after `position`, and when a gateway received its
    /// record. For a message without a record, when the stream stored it.
    pub(super) async fn received_at_or_after(
        &self,
        position: Position,
    ) -> Result<Option<(Position, UnixMillis)>, ReadError> {
        let message = self.next_message(position, None).await?;
        Ok(message.map(|message| {
            let position = Position::new(message.sequence);
            let stored = millis(message.time.unix_timestamp_nanos());
            let record = self.read_record(position, Some(&message.headers), message.payload);
            (
                position,
                record.map_or(stored, |record| record.receive_time()),
            )
        }))
    }

    pub(super) async fn next_message(
        &self,
        position: Position,
        subject: Option<&str>,
    ) -> Result<Option<StreamMessage>, ReadError> {
        let to_unreachable = |error: String| ReadError::Unreachable(error);
        let stream = self
            .context
            .get_stream_no_info(&self.config.stream)
            .await
            .map_err(|error| to_unreachable(error.to_string()))?;
        let all = subject::all(&self.config.subject_prefix);
        let asked = stream
            .raw_message_builder()
            .sequence(position.number())
            .next_by_subject(subject.unwrap_or(&all))
            .send()
            .await;
        match asked {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(to_unreachable(error.to_string())),
        }
    }

    /// Reads when a gateway received the last record, because the stream's state has only the
    /// time of storing.
    pub(super) async fn read_last(&self) -> Result<Position, ReadError> {
        let Bounds { trimmed, last, .. } = self.bounds();
        if last > trimmed
            && let Some((position, Some(record))) = self.next_record(last, None).await?
        {
            self.runs.extend([(position, record.run())]);
            self.published.reach(position, record.receive_time());
            self.published.set_last_receive_time(record.receive_time());
        }
        Ok(last)
    }

    /// The run of the record at `position`; [`Run::NONE`] if there is no record.
    pub(super) async fn run_at(&self, position: Position) -> Result<Run, ReadError> {
        let remembered = self.runs.at(position);
        if remembered != Run::NONE {
            return Ok(remembered);
        }
        self.check_reachable()?;
        let next = self.next_record(position, None).await?;
        let at_position = next.filter(|(found, _)| *found == position);
        let record = at_position.and_then(|(_, record)| record);
        Ok(record.map_or(Run::NONE, |record| record.run()))
    }

    /// Lets a record be sent to the stream, or returns why not.
    pub(super) fn admit(&self) -> Result<Ticket, AppendError> {
        if let Some(reason) = self.published.failure() {
            return Err(AppendError::Refusing(reason));
        }
        let admitted = self.judge(|admission| admission.admit(Instant::now()));
        admitted.map_err(AppendError::Refusing)
    }

    /// Applies `note` to the admission, and publishes and logs the outcome.
    pub(super) fn judge<T>(&self, note: impl FnOnce(&mut Admission) -> T) -> T {
        let mut admission = self.admission.lock();
        let was_open = admission.refusal().is_none();
        let noted = note(&mut admission);
        // Under the lock, so that an older judgment never follows a newer one.
        match admission.refusal() {
            Some(reason) => self.set_writability(Writability::Refusing(reason.to_owned())),
            None if was_open => {}
            None => self.set_writability(Writability::Writable),
        }
        noted
    }

    /// Notes why events are not followed, or with none that they are.
    pub(super) fn note_not_followed(&self, reason: Option<String>) {
        let not_followed = &self.not_followed;
        *not_followed.write() = reason;
        self.changed.notify_one();
    }

    pub(super) fn set_writability(&self, new: Writability) {
        self.published.set_writability(new);
    }
}

/// Whether the stream's leader reaches a majority. A leader that is cut off still answers for a
/// while, but neither stores records nor knows the end of the log.
pub(super) fn reaches_majority(info: &Info) -> bool {
    let others = info
        .cluster
        .as_ref()
        .map_or(&[][..], |cluster| &cluster.replicas);
    let has_leader = info
        .cluster
        .as_ref()
        .is_none_or(|cluster| cluster.leader.is_some());
    // A leader that has just stepped down has heard of no peer, and reports a time of zero.
    let is_reached = |peer: &&PeerInfo| {
        let was_heard = peer.current || !peer.active.is_zero();
        was_heard && !peer.offline && peer.active < REPLICA_SILENT_FOR
    };
    let reached = others.iter().filter(is_reached).count();
    has_leader && 2 * (1 + reached) > 1 + others.len()
}

pub(super) fn millis(nanoseconds: i128) -> UnixMillis {
    UnixMillis::new(i64::try_from(nanoseconds / 1_000_000).unwrap_or_default())
}
