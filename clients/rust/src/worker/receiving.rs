//! The task that receives: one stream at a time, into a buffer that [`super::Worker::next`]
//! empties.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Status, Streaming};

use super::Notice;
use super::delivery::{Delivery, Lease, Message};
use crate::error::Error;
use crate::gateway::Gateway;
use crate::proto::v1;
use crate::proto::v1::receive_response::Kind;
use crate::proto::v1::{ReceiveRequest, ReceiveResponse, ReceiveStarted};
use crate::retry::{Connection, Retry, Wait};
use crate::silence::{SILENCE_MAX_AT_START, silence, silence_max};
use crate::watcher::Watcher;

/// As the gateway takes an unset `heartbeat_interval`.
const HEARTBEAT_INTERVAL_DEFAULT: Duration = Duration::from_secs(15);
/// As the gateway takes an unset `ack_deadline`.
const ACK_DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
/// Half of the shortest `ack_deadline`.
const EXTEND_INTERVAL_MIN: Duration = Duration::from_millis(500);

/// What was received and waits to be handled. The gateway bounds it: it hands out at most
/// `max_outstanding` events, and what one stream left here is given back before the next.
#[derive(Debug, Default)]
pub(super) struct Shared {
    buffer: Mutex<Buffer>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Buffer {
    deliveries: VecDeque<Delivery>,
    /// Set once nothing more comes; the error is returned once.
    ended: Option<Result<(), Error>>,
}

impl Shared {
    /// The next event; none once nothing more comes.
    pub(super) async fn next(&self) -> Result<Option<Delivery>, Error> {
        loop {
            let mut buffer = self.buffer.lock().await;
            while let Some(mut delivery) = buffer.deliveries.pop_front() {
                // Dropped otherwise, which gives it back.
                if delivery.begin(Instant::now()) {
                    return Ok(Some(delivery));
                }
            }
            if let Some(ended) = &mut buffer.ended {
                return std::mem::replace(ended, Ok(())).map(|()| None);
            }
            drop(buffer);
            self.changed.notified().await;
        }
    }

    async fn push(&self, delivery: Delivery) {
        self.buffer.lock().await.deliveries.push_back(delivery);
        self.changed.notify_one();
    }

    /// Gives back what nothing has begun with, and returns how many those are.
    pub(super) async fn give_back(&self) -> usize {
        let unbegun = std::mem::take(&mut self.buffer.lock().await.deliveries);
        unbegun.len()
    }

    async fn end(&self, ended: Result<(), Error>) {
        self.buffer.lock().await.ended = Some(ended);
        self.changed.notify_one();
    }
}

/// The task.
#[derive(Debug)]
pub(super) struct Receiving {
    incoming: Incoming,
    /// How many deliveries are still wanted; none means no limit.
    events_left: Option<i64>,
    ack_deadline: Duration,
    handling_max: Duration,
    outbox: mpsc::UnboundedSender<Message>,
    watcher: Watcher<Notice>,
}

/// The stream, opened when needed.
#[derive(Debug)]
struct Incoming {
    gateway: Gateway,
    request: ReceiveRequest,
    stream: Option<Streaming<ReceiveResponse>>,
    silence_max: Duration,
}

impl Receiving {
    pub(super) fn new(
        gateway: Gateway,
        request: ReceiveRequest,
        handling_max: Duration,
        outbox: mpsc::UnboundedSender<Message>,
        watcher: Watcher<Notice>,
    ) -> Self {
        let asked = request.heartbeat_interval;
        let interval = asked.and_then(|interval| Duration::try_from(interval).ok());
        Self {
            events_left: Some(request.max_events).filter(|most| *most > 0),
            incoming: Incoming {
                gateway,
                stream: None,
                silence_max: silence_max(interval.unwrap_or(HEARTBEAT_INTERVAL_DEFAULT)),
                request,
            },
            ack_deadline: ACK_DEADLINE_DEFAULT,
            handling_max,
            outbox,
            watcher,
        }
    }

    /// Receives until it is stopped, refused, or at the end that the request asked for.
    pub(super) async fn run(
        mut self,
        shared: Arc<Shared>,
        mut stopped: watch::Receiver<bool>,
        mut refused: oneshot::Receiver<Error>,
    ) {
        let ended = tokio::select! {
            biased;
            () = is_stopped(&mut stopped) => {
                self.drain(&shared).await;
                Ok(())
            }
            error = &mut refused => {
                // No outcome of it could be sent.
                shared.give_back().await;
                error.map_or(Ok(()), Err)
            }
            ended = self.receive(&shared) => ended,
        };
        shared.end(ended).await;
    }

    async fn receive(&mut self, shared: &Shared) -> Result<(), Error> {
        let mut retry = Retry::new(self.incoming.gateway.is_tls());
        while self.events_left != Some(0) {
            let status = match self.incoming.next(self.events_left).await {
                Ok(Some(frame)) => {
                    self.take(frame, shared, &mut retry).await;
                    continue;
                }
                Ok(None) if self.incoming.request.stop_when_handled => return Ok(()),
                // An end that was not asked for, such as a proxy's.
                Ok(None) => Status::unavailable("the stream ended"),
                Err(status) => status,
            };
            self.incoming.stream = None;
            let given_back = i64::try_from(shared.give_back().await).unwrap_or_default();
            self.events_left = self.events_left.map(|left| left + given_back);
            let Wait { reason, retry_in } = retry.wait(status)?;
            let lost = Connection::Lost { reason, retry_in };
            self.watcher.report(&Notice::Connection(lost));
            sleep(retry_in).await;
        }
        Ok(())
    }

    async fn take(&mut self, frame: ReceiveResponse, shared: &Shared, retry: &mut Retry) {
        match frame.kind {
            Some(Kind::Started(started)) => {
                // Not progress: a gateway may open streams and fail each.
                retry.answered();
                self.ack_deadline = ack_deadline(&started).unwrap_or(ACK_DEADLINE_DEFAULT);
                self.watcher.report(&Notice::Connection(Connection::Open));
                self.watcher.report(&Notice::Started(Box::new(started)));
            }
            Some(Kind::Delivery(delivery)) => {
                retry.progressed();
                self.events_left = self.events_left.map(|left| left - 1);
                shared.push(self.delivery(delivery)).await;
            }
            Some(Kind::Heartbeat(heartbeat)) => {
                retry.progressed();
                self.watcher.report(&Notice::Heartbeat(heartbeat));
            }
            None => {}
        }
    }

    fn delivery(&self, frame: v1::Delivery) -> Delivery {
        let interval = interval(self.ack_deadline, time_left(frame.deadline));
        let lease = Lease {
            interval,
            // Half of the lease is certain, also where it is not extended.
            until: Instant::now() + self.handling_max.max(interval),
            is_lost: Arc::new(AtomicBool::new(false)),
        };
        Delivery::new(frame, lease, self.outbox.clone())
    }

    /// Gives back what has arrived, so that other workers need not wait for its deadline.
    async fn drain(&mut self, shared: &Shared) {
        if let Some(mut stream) = self.incoming.stream.take() {
            while let Ok(Ok(Some(frame))) = timeout(Duration::ZERO, stream.message()).await {
                if let Some(Kind::Delivery(delivery)) = frame.kind {
                    shared.push(self.delivery(delivery)).await;
                }
            }
        }
        shared.give_back().await;
    }
}

impl Incoming {
    async fn next(&mut self, events_left: Option<i64>) -> Result<Option<ReceiveResponse>, Status> {
        if self.stream.is_none() {
            let mut request = self.request.clone();
            request.max_events = events_left.unwrap_or_default();
            let mut client = self.gateway.subscriptions();
            let opened = timeout(SILENCE_MAX_AT_START, client.receive(request)).await;
            self.stream = Some(opened.map_err(|_| silence())??.into_inner());
        }
        let Some(stream) = &mut self.stream else {
            return Ok(None);
        };
        timeout(self.silence_max, stream.message())
            .await
            .map_err(|_| silence())?
    }
}

/// Returns once the worker stops, or is dropped.
async fn is_stopped(stopped: &mut watch::Receiver<bool>) {
    let _stopped_or_dropped = stopped.wait_for(|stopped| *stopped).await;
}

fn ack_deadline(started: &ReceiveStarted) -> Option<Duration> {
    let deadline = started.subscription.as_ref()?.ack_deadline?;
    Duration::try_from(deadline)
        .ok()
        .filter(|time| !time.is_zero())
}

/// How long until `deadline`, if both clocks agree.
#[expect(
    clippy::disallowed_methods,
    reason = "the deadline is a time of day, and this crate has no clock of its own"
)]
fn time_left(deadline: Option<Timestamp>) -> Option<Duration> {
    let deadline = SystemTime::try_from(deadline?).ok()?;
    deadline.duration_since(SystemTime::now()).ok()
}

/// How often a lease is extended: twice within the subscription's `ack_deadline`, and twice
/// within what is left of this one, where the setting has become shorter since the stream began.
/// Clocks that differ make it more often, never more rarely.
fn interval(ack_deadline: Duration, left: Option<Duration>) -> Duration {
    let shorter = left.unwrap_or_default().min(ack_deadline);
    (shorter / 2).max(EXTEND_INTERVAL_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_extended_twice_within_its_deadline_whatever_the_clocks_are() {
        let seconds = Duration::from_secs;
        assert_eq!(interval(seconds(30), Some(seconds(30))), seconds(15));
        assert_eq!(interval(seconds(30), Some(seconds(90))), seconds(15));
        assert_eq!(interval(seconds(30), Some(seconds(8))), seconds(4));
        assert_eq!(interval(seconds(30), None), EXTEND_INTERVAL_MIN);
        assert_eq!(interval(seconds(1), Some(seconds(1))), EXTEND_INTERVAL_MIN);
    }
}
