//! The subscriber that reconnects.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic::metadata::{Ascii, MetadataValue};
#[cfg(feature = "tls")]
use tonic::transport::ClientTlsConfig;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::fault::{self, Fault};
use crate::proto::v1::event_service_client::EventServiceClient;
use crate::proto::v1::subscribe_request::Start;
use crate::proto::v1::subscribe_response::Kind;
use crate::proto::v1::{SubscribeRequest, SubscribeResponse};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Streams that broke in the same way without any progress; the next one would too.
const BROKEN_IN_A_ROW_MAX: u32 = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An event with its payload may reach 4 MiB, which is gRPC's default limit.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// A stream that misses this many heartbeats in a row counts as dead.
const HEARTBEATS_MISSED_MAX: u32 = 3;
/// Maximum heartbeat interval that a gateway can announce; a larger one is not believed.
const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(86_400);
/// Maximum silence until `Started` announces the heartbeat interval.
const SILENCE_MAX_AT_START: Duration = Duration::from_secs(60);

/// Why a subscriber cannot go on, even by reconnecting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one.
    #[error(
        "{0:?} is not the address of a gateway, such as http://127.0.0.1:50051; with TLS, https://"
    )]
    Address(String),
    /// The token cannot be sent.
    #[error("invalid token: unexpected characters")]
    Token,
    /// A certificate or key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The first connection failed by what waiting cannot mend.
    #[error("cannot connect by TLS: {0}")]
    TlsFailed(String),
    /// The gateway refused the request, and would again.
    #[error("the gateway refused the subscription: {} ({:?})", .0.message(), .0.code())]
    Refused(Box<Status>),
}

/// What a subscriber is doing about its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Waiting to try again.
    Lost {
        /// What happened.
        reason: String,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The stream is open.
    Open,
}

/// A subscription that survives lost connections and restarts of the gateway: it
/// resumes after the last frame that [`Subscriber::next`] returned.
#[derive(Debug)]
pub struct Subscriber {
    endpoint: Endpoint,
    client: EventServiceClient<Channel>,
    request: SubscribeRequest,
    stream: Option<Streaming<SubscribeResponse>>,
    silence_max: Duration,
    backoff: Duration,
    broken_in_a_row: u32,
    events_left: Option<i64>,
    authorization: Option<MetadataValue<Ascii>>,
    /// Whether the stream that is open has shown itself by a frame.
    is_open: bool,
    was_open: bool,
    watcher: fn(&Connection),
}

impl Subscriber {
    /// A subscriber to the gateway at `address`: `http://` or `grpc://`, with TLS `https://` or
    /// `grpcs://`; without a scheme, none. It connects when first asked for a frame.
    ///
    /// # Errors
    /// When `address` is not one.
    pub fn new(address: &str, request: SubscribeRequest) -> Result<Self, Error> {
        let endpoint = endpoint(address)?;
        Ok(Self {
            client: client(&endpoint),
            endpoint,
            events_left: Some(request.max_events).filter(|most| *most > 0),
            request,
            stream: None,
            silence_max: SILENCE_MAX_AT_START,
            backoff: BACKOFF_MIN,
            broken_in_a_row: 0,
            authorization: None,
            is_open: false,
            was_open: false,
            watcher: |_| {},
        })
    }

    /// Speaks TLS in this way: with a CA of your own, or a client certificate.
    ///
    /// # Errors
    /// When a certificate or key is not one.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ClientTlsConfig) -> Result<Self, Error> {
        let endpoint = self.endpoint.tls_config(tls);
        self.endpoint = endpoint.map_err(|error| Error::Tls(causes(&error)))?;
        self.client = client(&self.endpoint);
        Ok(self)
    }

    /// Shows this bearer token, which `clerkcast token new` made, to the gateway.
    ///
    /// # Errors
    /// When it is not one: it holds characters that a header cannot carry.
    pub fn token(mut self, token: &str) -> Result<Self, Error> {
        let mut value = format!("Bearer {}", token.trim())
            .parse::<MetadataValue<Ascii>>()
            .map_err(|_| Error::Token)?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    /// Calls `watcher` whenever the connection is lost or open again.
    #[must_use]
    pub fn watch(mut self, watcher: fn(&Connection)) -> Self {
        self.watcher = watcher;
        self
    }

    /// The next frame; none once the stream has ended as the request asked. Asking for
    /// the next frame confirms that the one before is handled. It can be dropped and called
    /// again, as in `select!`.
    ///
    /// # Errors
    /// When the gateway refuses the subscription for good.
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
                Ok(None) => self.lost(&Status::unavailable("the stream ended")).await,
                Err(status) => match self.first_fault(&status) {
                    Fault::Tls(text) => return Err(Error::TlsFailed(text)),
                    Fault::NoGrpc => self.lost(&status).await,
                    Fault::Other if self.can_be_mended(&status) => self.lost(&status).await,
                    Fault::Other => return Err(Error::Refused(Box::new(status))),
                },
            }
        }
    }

    /// The next frame of the open stream, which is opened first if it is not open.
    async fn advance(&mut self) -> Result<Option<SubscribeResponse>, Status> {
        if self.stream.is_none() {
            let mut request = self.request.clone();
            request.max_events = self.events_left.unwrap_or(request.max_events);
            let mut request = Request::new(request);
            if let Some(authorization) = &self.authorization {
                let metadata = request.metadata_mut();
                metadata.insert("authorization", authorization.clone());
            }
            let opened = timeout(SILENCE_MAX_AT_START, self.client.subscribe(request)).await;
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
            self.was_open = true;
            (self.watcher)(&Connection::Open);
        }
        Ok(frame)
    }

    /// What the failure shows about the address. Once a stream was open, the address is right.
    fn first_fault(&self, status: &Status) -> Fault {
        if self.was_open {
            Fault::Other
        } else {
            fault::of(status)
        }
    }

    /// From here on, a reconnection resumes after this frame.
    fn note(&mut self, frame: &SubscribeResponse) {
        // `Started` alone is not progress: a gateway may open streams and fail each.
        if !matches!(frame.kind, Some(Kind::Started(_))) {
            self.backoff = BACKOFF_MIN;
            self.broken_in_a_row = 0;
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

    /// What reconnecting can mend. A connection that breaks off shows as one of several
    /// codes, depending on where it broke; so does a frame that cannot be decoded, which
    /// would come again and again.
    fn can_be_mended(&mut self, status: &Status) -> bool {
        match status.code() {
            Code::Unavailable
            | Code::Cancelled
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::ResourceExhausted => true,
            Code::Unknown | Code::Internal => {
                self.broken_in_a_row += 1;
                self.broken_in_a_row < BROKEN_IN_A_ROW_MAX
            }
            _ => false,
        }
    }

    /// Waits before the next attempt.
    async fn lost(&mut self, status: &Status) {
        self.stream = None;
        let details = status.get_error_details();
        let asked = details.retry_info().and_then(|info| info.retry_delay);
        let retry_in = asked.unwrap_or_default().max(self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        let mut reason = reason(status);
        if self.first_fault(status) == Fault::NoGrpc {
            let hint = match self.endpoint.uri().scheme_str() {
                Some("https") => "if the gateway does not speak TLS, use http://",
                _ => "if the gateway speaks TLS, use https://",
            };
            reason = format!("{reason}; does this port speak gRPC? {hint}");
        }
        (self.watcher)(&Connection::Lost { reason, retry_in });
        sleep(retry_in).await;
    }
}

fn client(endpoint: &Endpoint) -> EventServiceClient<Channel> {
    let channel = endpoint.connect_lazy();
    EventServiceClient::new(channel).max_decoding_message_size(FRAME_BYTES_MAX)
}

/// The address with the scheme that HTTP knows it by.
#[must_use]
pub fn with_scheme(address: &str) -> String {
    match address.split_once("://") {
        Some(("grpc", rest)) => format!("http://{rest}"),
        Some(("grpcs", rest)) => format!("https://{rest}"),
        Some(_) => address.to_owned(),
        None => format!("http://{address}"),
    }
}

fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let invalid = || Error::Address(address.to_owned());
    let endpoint = Endpoint::from_shared(with_scheme(address))
        .map_err(|_| invalid())?
        .connect_timeout(CONNECT_TIMEOUT);
    match endpoint.uri().scheme_str() {
        Some("http") => Ok(endpoint),
        #[cfg(feature = "tls")]
        Some("https") => {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint.tls_config(tls).map_err(|_| invalid())
        }
        #[cfg(not(feature = "tls"))]
        Some("https") => Err(Error::Tls(
            "this build has no TLS support; build with the feature tls".to_owned(),
        )),
        _ => Err(invalid()),
    }
}

/// The status's message, and what caused it.
fn reason(status: &Status) -> String {
    let mut text = status.message().to_owned();
    if let Some(cause) = std::error::Error::source(status) {
        append(&mut text, cause);
    }
    text
}

#[cfg(feature = "tls")]
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    append(&mut text, error);
    text
}

/// Each cause once: the transport's errors repeat themselves.
fn append(text: &mut String, error: &dyn std::error::Error) {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            let separator = if text.is_empty() { "" } else { ": " };
            *text = format!("{text}{separator}{next}");
        }
        cause = error.source();
    }
}

/// How long a stream may say nothing.
fn silence_max(heartbeat_interval: Duration) -> Duration {
    heartbeat_interval.min(HEARTBEAT_INTERVAL_MAX) * HEARTBEATS_MISSED_MAX + CONNECT_TIMEOUT
}

fn silence() -> Status {
    Status::unavailable("the stream fell silent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_heartbeat_interval_gives_a_silence_that_ends() {
        let seconds = Duration::from_secs;
        assert_eq!(silence_max(seconds(15)), seconds(55));
        assert_eq!(silence_max(Duration::ZERO), CONNECT_TIMEOUT);
        assert_eq!(silence_max(Duration::MAX), seconds(3 * 86_400 + 10));
    }
}
