//! One `Receive` stream: what a worker is handed, pulled by its connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::delivery::{ReceiveOptions, WorkerFrame};
use super::seats::{Seat, Served};
use super::shared::Shared;
use super::status::Status;
use super::step_error::StepError;

/// An open `Receive` stream. Its leases outlive it, except for deliveries that were never taken
/// from it: these are released when it is dropped.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    seat: Seat,
    /// The first frame, until it is taken.
    started: Option<Box<Status>>,
    heartbeat_interval: Duration,
    last_frame: Instant,
    has_ended: bool,
}

impl Worker {
    /// Opens a stream whose place is taken.
    pub(super) fn new(
        shared: Arc<Shared>,
        (seat, status): (Seat, Status),
        options: &ReceiveOptions,
    ) -> Self {
        Self {
            shared,
            seat,
            started: Some(Box::new(status)),
            heartbeat_interval: options.heartbeat_interval,
            last_frame: Instant::now(),
            has_ended: false,
        }
    }

    /// What comes next; nothing once the stream has ended as asked. Cancel-safe. A call of it
    /// means that the connection has room.
    ///
    /// # Errors
    /// When the subscription is deleted, stops or has to be moved. The stream is over.
    pub async fn next(&mut self) -> Option<Result<WorkerFrame, StepError>> {
        if self.has_ended {
            return None;
        }
        let frame = match self.started.take() {
            Some(status) => Some(Ok(WorkerFrame::Started(status))),
            None => self.wait().await,
        };
        self.last_frame = Instant::now();
        self.has_ended = !matches!(frame, Some(Ok(_)));
        frame
    }

    async fn wait(&self) -> Option<Result<WorkerFrame, StepError>> {
        let drain = &self.shared.surroundings.drain;
        let seats = &self.shared.seats;
        loop {
            if drain.is_cancelled() {
                return Some(Err(StepError::Draining));
            }
            match self.seat.serve() {
                Served::Delivery(delivery) => {
                    return Some(Ok(WorkerFrame::Delivery(delivery)));
                }
                Served::Changed(condition) => {
                    return Some(Ok(WorkerFrame::Heartbeat(condition)));
                }
                Served::Ended(Ok(())) => return None,
                Served::Ended(Err(error)) => return Some(Err(error)),
                Served::Waiting => {}
            }
            let heartbeat_due = self.last_frame + self.heartbeat_interval;
            tokio::select! {
                () = self.seat.woken() => {}
                () = drain.cancelled() => {}
                () = sleep_until(heartbeat_due) => {
                    if let Some(condition) = seats.condition() {
                        return Some(Ok(WorkerFrame::Heartbeat(condition)));
                    }
                }
            }
        }
    }
}
