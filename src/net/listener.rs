//! Accepts connections, and hands over those whose first bytes arrive in time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::connection::{Connection, Peer, Stream, WriteStall};
use super::metrics::{Metrics, Slot};
use super::tls::{Tls, certificate_names};
use super::trust::{Trust, UnprovenConnections};
use crate::telemetry::LogLimit;

/// Maximum time for the TLS handshake and the first bytes.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept, such as with too many open files, because a retry at once would
/// spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds of a port.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of open connections.
    pub connections_max: usize,
    /// How many bytes a connection has to send before it is served.
    pub opening_bytes: usize,
    /// Maximum time that the other end may read nothing of what is written to it.
    pub write_timeout: Option<Duration>,
}

/// A bound port, which accepts connections.
#[derive(Debug)]
pub struct Listener {
    port: &'static str,
    tcp: TcpListener,
    tls: Option<Tls>,
    limits: Limits,
    metrics: Metrics,
    open: Gauge,
    handshakes: JoinSet<Option<Connection>>,
    unproven: UnprovenConnections,
    refusals_logged: Arc<LogLimit>,
}

impl Listener {
    /// Accepts connections of `tcp`. Logs and metrics call the port `port`.
    #[must_use]
    pub fn new(port: &'static str, tcp: TcpListener, limits: Limits, metrics: Metrics) -> Self {
        Self {
            port,
            tcp,
            tls: None,
            limits,
            open: metrics.open(port),
            metrics,
            handshakes: JoinSet::new(),
            unproven: UnprovenConnections::default(),
            refusals_logged: Arc::default(),
        }
    }

    /// Speaks TLS only, if there is a certificate.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// When the system does not report it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    pub(super) fn port(&self) -> &'static str {
        self.port
    }

    /// Returns the next connection whose first bytes have arrived. It can be dropped and called
    /// again, as in `select!`.
    pub async fn accept(&mut self) -> Connection {
        loop {
            tokio::select! {
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, address)) => self.open(stream, address),
                    Err(error) => {
                        tracing::warn!(port = self.port, %error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(opened) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = opened {
                        return connection;
                    }
                }
            }
        }
    }

    fn open(&mut self, stream: TcpStream, address: SocketAddr) {
        let open = usize::try_from(self.open.get()).unwrap_or(0);
        if open >= self.limits.connections_max {
            self.refuse("limit", address, "too many connections");
            if !self.unproven.give_up_oldest() {
                return;
            }
        }
        let trust = Trust::default();
        self.unproven.push(&trust, open);
        let handshake = Handshake {
            port: self.port,
            tls: self.tls.clone(),
            limits: self.limits,
            metrics: self.metrics.clone(),
            refusals_logged: Arc::clone(&self.refusals_logged),
            slot: Slot::take(&self.open),
            address,
            trust,
        };
        self.handshakes.spawn(handshake.run(stream));
    }

    fn refuse(&self, reason: &'static str, address: SocketAddr, what: &str) {
        self.metrics.count_refused(self.port, reason);
        if let Some(unlogged) = self.refusals_logged.admit() {
            tracing::warn!(
                port = self.port,
                peer = %address,
                limit = self.limits.connections_max,
                unlogged = (unlogged > 0).then_some(unlogged),
                "{what}: closing the oldest unauthenticated connection, or rejecting this one"
            );
        }
    }
}

/// A connection whose first bytes have not arrived yet.
struct Handshake {
    port: &'static str,
    tls: Option<Tls>,
    limits: Limits,
    metrics: Metrics,
    refusals_logged: Arc<LogLimit>,
    slot: Slot,
    address: SocketAddr,
    trust: Trust,
}

impl Handshake {
    async fn run(self, stream: TcpStream) -> Option<Connection> {
        // Small frames should not wait for more; a socket without this option works as well.
        let _unset = stream.set_nodelay(true);
        let given_up = self.trust.given_up().clone();
        let handshake = timeout(HANDSHAKE_TIMEOUT, self.open(stream));
        let Ok(opened) = given_up.run_until_cancelled(handshake).await? else {
            self.metrics.count_refused(self.port, "silent");
            return None;
        };
        match opened {
            Ok((stream, names, first)) => Some(Connection {
                stream,
                first,
                peer: Peer {
                    address: self.address,
                    certificate_names: names,
                    trust: self.trust,
                },
                given_up: Box::pin(given_up.cancelled_owned()),
                stall: WriteStall::new(self.limits.write_timeout),
                _slot: self.slot,
            }),
            Err(error) => {
                self.log_failure(&error);
                None
            }
        }
    }

    async fn open(&self, stream: TcpStream) -> io::Result<(Stream, Arc<[String]>, Bytes)> {
        let (mut stream, names) = match &self.tls {
            None => (Stream::Plain(stream), Arc::default()),
            Some(tls) => {
                let stream = TlsAcceptor::from(tls.current()).accept(stream).await?;
                let (_, session) = stream.get_ref();
                let names = session.peer_certificates().map(certificate_names);
                (Stream::Tls(Box::new(stream)), names.unwrap_or_default())
            }
        };
        let first = first_bytes(&mut stream, self.limits.opening_bytes).await?;
        Ok((stream, names, first))
    }

    /// Logs a failed TLS handshake as a warning. A client that hangs up is only worth a debug
    /// line.
    fn log_failure(&self, error: &io::Error) {
        if self.tls.is_none() || error.kind() != io::ErrorKind::InvalidData {
            tracing::debug!(port = self.port, peer = %self.address, %error, "a connection broke");
            return;
        }
        self.metrics.count_refused(self.port, "tls");
        if let Some(unlogged) = self.refusals_logged.admit() {
            tracing::warn!(
                port = self.port,
                peer = %self.address,
                %error,
                unlogged = (unlogged > 0).then_some(unlogged),
                "TLS handshake failed"
            );
        }
    }
}

async fn first_bytes(stream: &mut (impl AsyncRead + Unpin), count: usize) -> io::Result<Bytes> {
    let mut first = BytesMut::with_capacity(count.max(64));
    while first.len() < count {
        if stream.read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(first.freeze())
}
