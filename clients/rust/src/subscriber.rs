//! The subscriber that reconnects.

use std::time::Duration;

use tokio::time::{sleep, timeout};
#[cfg(feature = "tls")]
use tonic::transport::ClientTlsConfig;
use tonic::{Status, Streaming};

use crate::error::Error;
use crate::gateway::Gateway;
use crate::proto::v1::subscribe_request::Start;
use crate::proto::v1::subscribe_response::Kind;
use crate::proto::v1::{SubscribeRequest, SubscribeResponse};
use crate::retry::{Connection, Retry, Wait};
use crate::silence::{SILENCE_MAX_AT_START, silence, silence_max};
use crate::watcher::Watcher;

/// A stream of events that survives lost connections and restarts of the gateway: it
/// resumes after the last frame that [`Subscriber::next`] returned.
#[derive(Debug)]
pub struct Subscriber {
    gateway: Gateway,
    request: SubscribeRequest,
    stream: Option<Streaming<SubscribeResponse>>,
    silence_max: Duration,
    retry: Retry,
    events_left: Option<i64>,
    /// Whether the stream that is open has shown itself by a frame.
    is_open: bool,
    watcher: Watcher<Connection>,
}

impl Subscriber {
    /// A subscriber to the gateway at `address`, as [`Gateway::new`] takes it. It connects when
    /// first asked for a frame.
    ///
    /// # Errors
    /// When `address` is not one.
    pub fn new(address: &str, request: SubscribeRequest) -> Result<Self, Error> {
        Ok(Self::of(Gateway::new(address)?, request))
    }

    /// A subscriber to this gateway. It connects when first asked for a frame.
    #[must_use]
    pub fn of(gateway: Gateway, request: SubscribeRequest) -> Self {
        Self {
            events_left: Some(request.max_events).filter(|most| *most > 0),
            request,
            stream: None,
            silence_max: SILENCE_MAX_AT_START,
            retry: Retry::new(gateway.is_tls()),
            gateway,
            is_open: false,
            watcher: Watcher::default(),
        }
    }

    /// Speaks TLS in this way: with a CA of your own, or a client certificate.
    ///
    /// # Errors
    /// When a certificate or key is not one.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ClientTlsConfig) -> Result<Self, Error> {
        self.gateway = self.gateway.tls(tls)?;
        Ok(self)
    }

    /// Shows this bearer token, which `clerkcast token new` made, to the gateway.
    ///
    /// # Errors
    /// When it is not one: it holds characters that a header cannot carry.
    pub fn token(mut self, token: &str) -> Result<Self, Error> {
        self.gateway = self.gateway.token(token)?;
        Ok(self)
    }

    /// Calls `watcher` whenever the connection is lost or open again.
    #[must_use]
    pub fn watch(mut self, watcher: impl Fn(&Connection) + Send + Sync + 'static) -> Self {
        self.watcher = Watcher::new(watcher);
        self
    }

    /// The next frame; none once the stream has ended as the request asked. Asking for
    /// the next frame confirms that the one before is handled. It can be dropped and called
    /// again, as in `select!`.
    ///
    /// # Errors
    /// When the gateway refuses the stream for good.
    pub async fn next(&mut self) -> Result<Option<SubscribeResponse>, Error> {
        loop {
            if self.events_left == Some(0) {
                return Ok(None);
            }
            match self.advance().await {
                Ok(Some(frame)) => {
                    self.note(&frame);
                    return Ok(Some(frame));
                }
                Ok(None) if self.request.stop_when_caught_up => return Ok(None),
                // An end that was not asked for, such as a proxy's.
                Ok(None) => {
                    self.lost(Status::unavailable("the stream ended")).await?;
                }
                Err(status) => self.lost(status).await?,
            }
        }
    }

    /// The next frame of the open stream, which is opened first if it is not open.
    async fn advance(&mut self) -> Result<Option<SubscribeResponse>, Status> {
        if self.stream.is_none() {
            let mut request = self.request.clone();
            request.max_events = self.events_left.unwrap_or(request.max_events);
            let mut client = self.gateway.events();
            let opened = timeout(SILENCE_MAX_AT_START, client.subscribe(request)).await;
            self.stream = Some(opened.map_err(|_| silence())??.into_inner());
            self.is_open = false;
        }
        let Some(stream) = &mut self.stream else {
            return Ok(None);
        };
        let message = timeout(self.silence_max, stream.message()).await;
        let frame = message.map_err(|_| silence())??;
        if frame.is_some() && !self.is_open {
            self.is_open = true;
            self.retry.answered();
            self.watcher.report(&Connection::Open);
        }
        Ok(frame)
    }

    /// From here on, a reconnection resumes after this frame.
    fn note(&mut self, frame: &SubscribeResponse) {
        // `Started` alone is not progress: a gateway may open streams and fail each.
        if !matches!(frame.kind, Some(Kind::Started(_))) {
            self.retry.progressed();
        }
        self.request.start = Some(Start::AfterCursor(frame.cursor.clone()));
        match &frame.kind {
            Some(Kind::Event(_)) => {
                self.events_left = self.events_left.map(|left| left - 1);
            }
            Some(Kind::Started(started)) => {
                let interval = started
                    .heartbeat_interval
                    .and_then(|interval| Duration::try_from(interval).ok());
                if let Some(interval) = interval {
                    self.silence_max = silence_max(interval);
                }
            }
            _ => {}
        }
    }

    /// Waits before the next attempt.
    async fn lost(&mut self, status: Status) -> Result<(), Error> {
        let Wait { reason, retry_in } = self.retry.wait(status)?;
        self.stream = None;
        self.watcher.report(&Connection::Lost { reason, retry_in });
        sleep(retry_in).await;
        Ok(())
    }
}
