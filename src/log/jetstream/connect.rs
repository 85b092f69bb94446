//! The connection to NATS: opened once, with a deadline, and from then on reopened without one.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::Info;
use async_nats::jetstream::{Context, ContextBuilder};
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::bucket;
use super::config::{Config, Login, Missing, Security, ServerUrl};
use super::mismatches::Mismatches;
use super::servers::ServerChoice;
use super::stream::{self, Unusable};
use crate::event::numbers::saturating;
use crate::log::error::ReadError;

/// Maximum time to connect at the start.
const STARTED_WITHIN: Duration = Duration::from_secs(10);
/// Maximum time for the API to answer a request.
pub(super) const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// Maximum time for the stream to acknowledge a record.
pub(super) const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);
/// Maximum number of records published and not acknowledged yet; more are refused as overload.
const OUTSTANDING_MAX: usize = 4096;
/// Size of a message with the largest body, its typed form and their envelope.
const MESSAGE_BYTES_MAX: usize = 4_000_000;
/// Maximum delay between attempts to connect, because other servers may be restarting too.
const RECONNECT_DELAY_MAX: Duration = Duration::from_millis(500);
/// Interval between pings. After two without an answer, the client tries another server.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// Why the log could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// A file of [`Security`] cannot be used.
    #[error("cannot use the file of --nats-credentials: {0}")]
    Credentials(String),
    /// No server answered in time.
    #[error(
        "cannot use NATS at {servers} within 10 s: {reason}; check that the servers run with JetStream on (`nats-server -js`), that --nats-url names them, and --nats-credentials and --nats-tls-…"
    )]
    Unreachable {
        /// Their URLs.
        servers: String,
        /// The last error.
        reason: String,
    },
    /// The servers answer, and do not let the gateway in.
    #[error(
        "NATS at {servers} refuses the gateway: {reason}; check the user and password or the token in --nats-url, or else --nats-credentials or --nats-tls-cert"
    )]
    Refused {
        /// Their URLs.
        servers: String,
        /// The last error.
        reason: String,
    },
    /// The stream cannot be made.
    #[error("cannot create the stream {stream}: {reason}")]
    NotCreated {
        /// Its name.
        stream: String,
        /// The server's error.
        reason: String,
    },
    /// There is no such stream.
    #[error("there is no stream {0}")]
    NoStream(String),
    /// The stream's settings are not the configured ones.
    #[error("{0}")]
    Mismatch(Mismatches),
    /// The end of the log cannot be read.
    #[error("cannot read the end of the stream: {0}")]
    Unreadable(#[from] ReadError),
}

/// A connection, and the stream at its other end.
pub(super) struct Connected {
    pub(super) client: Client,
    /// For requests to the API.
    pub(super) context: Context,
    /// For records.
    pub(super) publisher: Context,
    pub(super) info: Info,
    /// The bucket of the cells.
    pub(super) bucket: Option<Info>,
}

/// Connects, and finds or creates the stream. Notifies `changed` when the connection is lost or
/// restored.
pub(super) async fn connect(
    config: &Config,
    changed: &Arc<Notify>,
    choice: &Arc<ServerChoice>,
) -> Result<Connected, OpenError> {
    let deadline = Instant::now() + STARTED_WITHIN;
    let mut last = Failed::ForNow("no answer".to_owned());
    loop {
        let attempt = timeout_at(deadline, Box::pin(attempt(config, changed, choice))).await;
        match attempt {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(Failed::ForGood(error))) => return Err(error),
            Ok(Err(failed)) => last = failed,
            Err(_late) => {}
        }
        if Instant::now() + RECONNECT_DELAY_MAX >= deadline {
            return Err(last.into_error(config));
        }
        sleep(RECONNECT_DELAY_MAX / 2).await;
    }
}

enum Failed {
    ForNow(String),
    /// Another server may have other users, or this one soon, while they are being changed.
    Refused(String),
    ForGood(OpenError),
}

impl Failed {
    fn of_connecting(error: &ConnectError) -> Self {
        let reason = error.to_string();
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                Self::Refused(reason)
            }
            _ => Self::ForNow(reason),
        }
    }

    fn into_error(self, config: &Config) -> OpenError {
        let servers = config.servers.iter().map(ServerUrl::to_string);
        let servers = servers.collect::<Vec<_>>().join(", ");
        match self {
            Self::ForNow(reason) => OpenError::Unreachable { servers, reason },
            Self::Refused(reason) => OpenError::Refused { servers, reason },
            Self::ForGood(error) => error,
        }
    }
}

async fn attempt(
    config: &Config,
    changed: &Arc<Notify>,
    choice: &Arc<ServerChoice>,
) -> Result<Connected, Failed> {
    let options = options(config, changed, choice)
        .await
        .map_err(Failed::ForGood)?;
    let servers = config.servers.iter().map(|server| server.address.clone());
    let client = options
        .connect(servers.collect::<Vec<_>>())
        .await
        .map_err(|error| Failed::of_connecting(&error))?;
    let payload_max = client.max_payload();
    if payload_max < MESSAGE_BYTES_MAX {
        tracing::warn!(
            payload_max,
            "the largest events do not fit the servers' max_payload and will be refused; set it to 4MB"
        );
    }
    let context = ContextBuilder::new()
        .timeout(ANSWERED_WITHIN)
        .build(client.clone());
    let publisher = ContextBuilder::new()
        .timeout(ACKNOWLEDGED_WITHIN)
        .max_ack_inflight(OUTSTANDING_MAX)
        .backpressure_on_inflight(false)
        .build(client.clone());
    let info = stream::find_or_create(&context, config)
        .await
        .map_err(|unusable| failed(unusable, &config.stream))?;
    stream::check(config, &info.config)
        .map_err(|mismatches| Failed::ForGood(OpenError::Mismatch(mismatches)))?;
    let bucket = match config.missing {
        Missing::Create => Some(open_bucket(&context, config).await?),
        Missing::Refuse => None,
    };
    Ok(Connected {
        client,
        context,
        publisher,
        info,
        bucket,
    })
}

/// Finds or creates the bucket of the cells.
async fn open_bucket(context: &Context, config: &Config) -> Result<Info, Failed> {
    let name = bucket::stream_name(config);
    let info = bucket::find_or_create(context, config)
        .await
        .map_err(|unusable| match failed(unusable, &name) {
            Failed::ForNow(reason) => {
                Failed::ForNow(format!("the stream {name}, which holds cells: {reason}"))
            }
            failed @ (Failed::Refused(_) | Failed::ForGood(_)) => failed,
        })?;
    bucket::check(config, &info.config)
        .map_err(|mismatches| Failed::ForGood(OpenError::Mismatch(mismatches)))?;
    Ok(info)
}

fn failed(unusable: Unusable, stream: &str) -> Failed {
    match unusable {
        Unusable::NotNow(reason) => Failed::ForNow(reason),
        Unusable::Absent => Failed::ForGood(OpenError::NoStream(stream.to_owned())),
        Unusable::Never(reason) => Failed::ForGood(OpenError::NotCreated {
            stream: stream.to_owned(),
            reason,
        }),
    }
}

async fn options(
    config: &Config,
    changed: &Arc<Notify>,
    choice: &Arc<ServerChoice>,
) -> Result<ConnectOptions, OpenError> {
    let changed = Arc::clone(changed);
    let (choosing, noting) = (Arc::clone(choice), Arc::clone(choice));
    let mut options = ConnectOptions::new()
        .name("clerkcast")
        .max_reconnects(None)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(ANSWERED_WITHIN)
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(20)
                .saturating_mul(saturating(attempts))
                .min(RECONNECT_DELAY_MAX)
        })
        .reconnect_to_server_callback(move |servers, _last| {
            let chosen = choosing.choose(&servers);
            async move { chosen }
        })
        .event_callback(move |event| {
            noting.note(&event);
            changed.notify_one();
            async {}
        });
    let Security {
        credentials,
        ca,
        certificate,
    } = &config.security;
    // The client shows the login of a URL to every server, also to discovered ones.
    options = match config.servers.iter().find_map(ServerUrl::login).cloned() {
        Some(Login::Token(token)) => options.token(token),
        Some(Login::User { name, password }) => options.user_and_password(name, password),
        None => options,
    };
    if let Some(file) = credentials {
        options = options
            .credentials_file(file)
            .await
            .map_err(|error| OpenError::Credentials(format!("{}: {error}", file.display())))?;
    }
    if let Some(file) = ca {
        options = options
            .add_root_certificates(file.clone())
            .require_tls(true);
    }
    if let Some((certificate, key)) = certificate {
        options = options
            .add_client_certificate(certificate.clone(), key.clone())
            .require_tls(true);
    }
    Ok(options)
}
