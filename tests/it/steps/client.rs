//! A worker as a test drives it.

use std::time::Duration;

use clerkcast::event::Position;
use clerkcast::subscriptions::{
    AckId, Delivery, Outcome, ReceiveOptions, Report, Running, StepError, Worker, WorkerFrame,
};
use tokio::time::timeout;

/// Longer than anything that a test expects to happen by itself.
const PATIENCE: Duration = Duration::from_secs(600);

/// An open stream.
pub(super) struct Client {
    running: Running,
    pub(super) worker: Worker,
}

pub(super) fn report(ack_id: AckId, outcome: Outcome) -> Report {
    Report {
        ack_id,
        outcome,
        reason: "as asked".to_owned(),
    }
}

pub(super) const FAILED: Outcome = Outcome::Failed { delay: None };

impl Client {
    pub(super) async fn open(running: &Running, options: ReceiveOptions) -> Self {
        let mut worker = running.receive(options).await.expect("opened");
        let first = worker.next().await;
        assert!(matches!(first, Some(Ok(WorkerFrame::Started(_)))));
        Self {
            running: running.clone(),
            worker,
        }
    }

    /// The next frame, whenever it comes.
    pub(super) async fn frame(&mut self) -> Option<Result<WorkerFrame, StepError>> {
        let frame = timeout(PATIENCE, self.worker.next()).await;
        frame.expect("a frame")
    }

    /// The next delivery; heartbeats are passed over.
    pub(super) async fn delivery(&mut self) -> Delivery {
        let next = async {
            loop {
                match self.worker.next().await {
                    Some(Ok(WorkerFrame::Delivery(delivery))) => return *delivery,
                    Some(Ok(WorkerFrame::Heartbeat(_))) => {}
                    other => panic!("not a delivery: {other:?}"),
                }
            }
        };
        timeout(PATIENCE, next).await.expect("a delivery")
    }

    /// Deliveries until none comes for a second.
    pub(super) async fn deliveries(&mut self) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        while let Ok(frame) = timeout(Duration::from_secs(1), self.worker.next()).await {
            match frame {
                Some(Ok(WorkerFrame::Delivery(delivery))) => deliveries.push(*delivery),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            }
        }
        deliveries
    }

    /// The next delivery, if it comes in time, and those that are there with it.
    pub(super) async fn deliveries_within(&mut self, patience: Duration) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        let mut patience = patience;
        while let Ok(frame) = timeout(patience, self.worker.next()).await {
            match frame {
                Some(Ok(WorkerFrame::Delivery(delivery))) => {
                    deliveries.push(*delivery);
                    patience = Duration::ZERO;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            }
        }
        deliveries
    }

    /// How the stream ends, after what was given to it before.
    pub(super) async fn ending(&mut self) -> Result<(), StepError> {
        loop {
            match self.frame().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    }

    /// Reports an outcome, which must be recorded.
    pub(super) async fn settle(&self, delivery: &Delivery, outcome: Outcome) {
        let lost = self.try_settle(delivery, outcome).await;
        assert_eq!(lost.expect("stored"), []);
    }

    pub(super) async fn try_settle(
        &self,
        delivery: &Delivery,
        outcome: Outcome,
    ) -> Result<Vec<AckId>, StepError> {
        let report = report(delivery.grant.ack_id, outcome);
        self.running.settle(vec![report]).await
    }

    pub(super) async fn settle_all(&self, deliveries: &[Delivery], outcome: Outcome) {
        let ack_ids = deliveries.iter().map(|delivery| delivery.grant.ack_id);
        let reports = ack_ids.map(|ack_id| report(ack_id, outcome));
        let lost = self.running.settle(reports.collect()).await;
        assert_eq!(lost.expect("stored"), []);
    }
}

pub(super) fn positions(deliveries: &[Delivery]) -> Vec<u64> {
    let positions = deliveries.iter().map(position);
    positions.map(Position::number).collect()
}

pub(super) fn position(delivery: &Delivery) -> Position {
    delivery.grant.ack_id.position
}
