//! Reading bodies within bounds: of the bytes of one, of its time, and of the bytes that all
//! have on their way into the log.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{timeout, timeout_at};

use super::response::Refusal;
use crate::event::numbers::saturating;

/// How long a delivery waits for others to make room. Refusing at once would cost much of
/// what accepting does, and have all come again; Svix waits for 15 s.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);
/// For the rest of a refused body to arrive.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads the bodies of deliveries.
#[derive(Debug)]
pub(super) struct BodyReader {
    bytes_max: usize,
    timeout: Duration,
    in_flight: Semaphore,
    in_flight_bytes: Gauge,
}

impl BodyReader {
    pub(super) fn new(
        bytes_max: usize,
        timeout: Duration,
        in_flight_bytes_max: usize,
        in_flight_bytes: Gauge,
    ) -> Self {
        Self {
            bytes_max,
            timeout,
            in_flight: Semaphore::new(in_flight_bytes_max.min(Semaphore::MAX_PERMITS)),
            in_flight_bytes,
        }
    }

    /// A body that announces too much is refused before it is sent.
    pub(super) fn check_announced_length(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        match announced {
            Some(length) if length > self.bytes_max => Err(Refusal::BodyTooLarge(self.bytes_max)),
            _ => Ok(()),
        }
    }

    /// Charges what has arrived, not what is announced: an announcement costs the sender
    /// nothing. Only who holds nothing yet waits for room, so that none wait for each other;
    /// nearly all bodies arrive in one piece.
    pub(super) async fn read(&self, body: &mut Body) -> Result<(Bytes, InFlight<'_>), Refusal> {
        let mut body = Limited::new(body, self.bytes_max);
        let mut bytes = BytesMut::new();
        let mut in_flight = InFlight::new(self.in_flight_bytes.clone());
        let mut deadline = Instant::now() + self.timeout;
        while let Some(chunk) = self.next_chunk(&mut body, deadline).await? {
            let charge = saturating(chunk.len());
            let permit = if bytes.is_empty() {
                let waiting_since = Instant::now();
                let permit = timeout(ROOM_TIMEOUT, self.in_flight.acquire_many(charge)).await;
                deadline += waiting_since.elapsed();
                permit.ok().and_then(Result::ok)
            } else {
                self.in_flight.try_acquire_many(charge).ok()
            };
            in_flight.add(permit.ok_or(Refusal::Busy)?);
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes.freeze(), in_flight))
    }

    async fn next_chunk(
        &self,
        body: &mut Limited<&mut Body>,
        deadline: Instant,
    ) -> Result<Option<Bytes>, Refusal> {
        loop {
            let next = timeout_at(deadline.into(), body.frame())
                .await
                .map_err(|_| Refusal::BodyTooSlow(self.timeout))?;
            let Some(received) = next else {
                return Ok(None);
            };
            let frame = received.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Refusal::BodyTooLarge(self.bytes_max)
                } else {
                    Refusal::BodyCutShort
                }
            })?;
            // What is not data are trailers.
            if let Ok(chunk) = frame.into_data() {
                return Ok(Some(chunk));
            }
        }
    }

    /// Takes what is left of a refused body from the connection, keeping nothing: closing it
    /// with bytes unread would reset it, and the sender might never see the answer.
    pub(super) async fn discard(&self, body: Body, refusal: &Refusal) {
        if matches!(refusal, Refusal::BodyTooSlow(_) | Refusal::BodyCutShort) {
            return;
        }
        let mut body = Limited::new(body, self.bytes_max);
        let discarding = async { while let Some(Ok(_)) = body.frame().await {} };
        let _given_up = timeout(DISCARD_TIMEOUT, discarding).await;
    }
}

/// The part of the budget that one body holds until it is answered.
pub(super) struct InFlight<'a> {
    permits: Option<SemaphorePermit<'a>>,
    gauge: Gauge,
}

impl<'a> InFlight<'a> {
    fn new(gauge: Gauge) -> Self {
        Self {
            permits: None,
            gauge,
        }
    }

    fn add(&mut self, permit: SemaphorePermit<'a>) {
        self.gauge.inc_by(permits_as_bytes(&permit));
        match &mut self.permits {
            Some(permits) => permits.merge(permit),
            None => self.permits = Some(permit),
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let held = self.permits.as_ref().map_or(0, permits_as_bytes);
        self.gauge.dec_by(held);
    }
}

fn permits_as_bytes(permits: &SemaphorePermit<'_>) -> i64 {
    saturating(permits.num_permits())
}
