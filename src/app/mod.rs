//! The composition root: opens the log, binds every listener, wires the modules, and
//! takes them down in the right order.
//!
//! ```text
//!   stop:  not ready ─► streams end with UNAVAILABLE ─► webhooks in flight are answered
//!          ─► log closed ─► exit 0          (a deadline, and a second signal, cut it short)
//! ```

mod announce;
mod certificates;
pub mod config;
mod reload;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::clerk::catalog;
use crate::doors::grpc;
use crate::fanout::Fanout;
use crate::log::jetstream::JetStreamLog;
use crate::log::sqlite::{self, SqliteLog};
use crate::log::{self, Log, Writability};
use crate::net::{self, Listener};
use crate::{fanout, ops, telemetry, webhook};

pub use announce::{announce, seconds};
pub use certificates::Certificates;
pub use config::{Config, LogConfig, SourceConfig};
pub use reload::{InForce, Reload};

/// How often retention looks for what may go.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
/// File descriptors for everything but connections on the two public ports.
const DESCRIPTORS_RESERVED: usize = 256;

/// A gateway whose log is open and whose listeners are bound: from here on, nothing is
/// left to fail at start-up.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    log: Arc<dyn Log>,
    registry: Registry,
    http: Listener,
    grpc: Listener,
    admin: TcpListener,
    controls: Controls,
    webhook_metrics: webhook::Metrics,
    grpc_metrics: grpc::Metrics,
    feed: JoinHandle<()>,
    drain: CancellationToken,
    recovered_in: Duration,
}

/// What can be replaced while the gateway runs; clones share it.
#[derive(Clone, Debug)]
pub struct Controls {
    access: Access,
    certificates: Certificates,
    sources: webhook::Sources,
    fanout: Fanout,
    log: Arc<dyn Log>,
    metrics: reload::Metrics,
}

/// Why a gateway ended by itself; the process should exit non-zero.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The log failed for good, and has logged why.
    #[error("the log failed permanently: {0}; restart to recover")]
    Log(String),
    /// A server did.
    #[error(transparent)]
    Server(anyhow::Error),
}

/// Where a gateway listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For webhooks.
    pub http: SocketAddr,
    /// For subscribers.
    pub grpc: SocketAddr,
    /// For operators.
    pub admin: SocketAddr,
}

impl Gateway {
    /// Opens the log and binds the listeners.
    ///
    /// # Errors
    /// When the data directory, a certificate or an address cannot be used.
    pub async fn open(config: Config) -> anyhow::Result<Self> {
        let mut registry = Registry::with_prefix("clerkcast");
        telemetry::register_panics(&mut registry);
        let net_metrics = net::Metrics::register(&mut registry);
        let log_metrics = log::Metrics::register(&mut registry);
        let mut certificates = Certificates::default();
        let http_tls = certificates.load("http", &config.http_tls, b"http/1.1", &net_metrics)?;
        let grpc_tls = certificates.load("grpc", &config.grpc_tls, b"h2", &net_metrics)?;
        let (http_connections, grpc_connections) = connections_max(&config);
        let opening = Instant::now();
        let log = open_log(config.log.clone(), log_metrics).await?;
        let recovered_in = opening.elapsed();
        let http = bind("--http-listen", config.http_listen).await?;
        let http_limits = webhook::limits(http_connections);
        let grpc = bind("--grpc-listen", config.grpc_listen).await?;
        let grpc_limits = grpc::limits(grpc_connections);
        let admin = bind("--admin-listen", config.admin_listen).await?;
        let drain = CancellationToken::new();
        let (fanout, feed) = Fanout::start(
            Arc::clone(&log),
            config.fanout(),
            fanout::Metrics::register(&mut registry),
            drain.clone(),
        );
        let webhook_metrics = webhook::Metrics::register(&mut registry);
        let controls = Controls {
            access: Access::new(config.principals.clone()),
            certificates,
            sources: webhook::Sources::new(config.webhook_sources(), webhook_metrics.clone()),
            fanout,
            log: Arc::clone(&log),
            metrics: reload::Metrics::register(&mut registry),
        };
        Ok(Self {
            http: Listener::new("http", http, http_limits, net_metrics.clone()).with_tls(http_tls),
            grpc: Listener::new("grpc", grpc, grpc_limits, net_metrics).with_tls(grpc_tls),
            admin,
            log,
            grpc_metrics: grpc::Metrics::register(&mut registry),
            registry,
            controls,
            webhook_metrics,
            feed,
            drain,
            recovered_in,
            config,
        })
    }

    /// The addresses, with the ports that the system chose where 0 was asked for.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn addresses(&self) -> anyhow::Result<Addresses> {
        Ok(Addresses {
            http: self.http.local_addr()?,
            grpc: self.grpc.local_addr()?,
            admin: self.admin.local_addr()?,
        })
    }

    /// What can be replaced while the gateway runs.
    #[must_use]
    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }

    /// Serves until `stop` completes, then stops in order.
    ///
    /// # Errors
    /// When the log failed for good or a server did.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let (log, drain, feed) = (self.log, self.drain, self.feed);
        let Controls {
            access,
            certificates,
            sources,
            fanout,
            ..
        } = self.controls;
        let webhooks = webhook::router(
            self.config.webhook(sources),
            Arc::clone(&log),
            self.webhook_metrics,
            drain.clone(),
        );
        let services = grpc::Services {
            fanout: fanout.clone(),
            guard: grpc::Guard::new(access, self.grpc_metrics),
            health: self.config.grpc_health,
            reflection: self.config.grpc_reflection,
        };
        let admin = ops::router(ops::Probes {
            registry: self.registry,
            fanout: fanout.clone(),
            writability: log.writability(),
            drain: drain.clone(),
        });

        let mut grpc = tokio::spawn(grpc::serve(self.grpc, services, drain.clone()));
        let mut http = tokio::spawn(webhook::serve(self.http, webhooks, drain.clone()));
        // The admin port answers until the end: readiness is what tells of the drain.
        let admin = tokio::spawn(axum::serve(self.admin, admin).into_future());
        let retention = tokio::spawn(keep_retention(Arc::clone(&log)));
        let renewal = tokio::spawn(certificates.keep());

        let outcome = tokio::select! {
            () = stop => Ok(()),
            reason = log_failure(&*log) => Err(RunError::Log(reason)),
            ended = &mut grpc => Err(RunError::Server(ended_early(ended))),
            ended = &mut http => Err(RunError::Server(ended_alone("the webhook server", ended))),
            ended = feed => Err(RunError::Server(ended_alone("the fan-out", ended))),
        };
        tracing::info!(
            deadline = %seconds(self.config.drain_timeout),
            subscribers = fanout.subscribers().len(),
            reason = outcome.as_ref().err().map_or("signal", |_| "failure"),
            "draining"
        );
        drain.cancel();
        retention.abort();
        renewal.abort();
        // The gRPC side ends streams at once, and waits 5 s for streams that are not read.
        let drained = async {
            end_of(http).await;
            end_of(grpc).await;
        };
        if timeout(self.config.drain_timeout, drained).await.is_err() {
            tracing::warn!("some connections did not end within the deadline; closing them");
        }
        log.close().await;
        admin.abort();
        tracing::info!("stopped");
        outcome
    }
}

pub(crate) fn open_embedded(
    config: sqlite::Config,
    metrics: log::Metrics,
) -> anyhow::Result<Arc<SqliteLog>> {
    let log = SqliteLog::open_declaring(config, metrics, is_declared)?;
    Ok(Arc::new(log))
}

/// Types that the log always counts by their names.
fn is_declared(event_type: &str) -> bool {
    catalog::find(event_type).is_some()
}

pub(crate) async fn open_log(
    config: LogConfig,
    metrics: log::Metrics,
) -> anyhow::Result<Arc<dyn Log>> {
    Ok(match config {
        LogConfig::Embedded(config) => open_embedded(config, metrics)?,
        LogConfig::Nats(config) => {
            let opening = JetStreamLog::open_declaring(config, metrics, is_declared);
            Arc::new(Box::pin(opening).await?)
        }
    })
}

/// How many connections each port may have open. Each needs a file descriptor, and the
/// log needs some to go on.
fn connections_max(config: &Config) -> (usize, usize) {
    let (http, grpc) = (config.http_connections_max, config.grpc_connections_max);
    let allowed = net::raise_limit()
        .saturating_sub(DESCRIPTORS_RESERVED)
        .max(2);
    let wanted = http.saturating_add(grpc);
    if wanted <= allowed {
        return (http, grpc);
    }
    let part = |port: usize| (allowed.saturating_mul(port) / wanted).max(1);
    let (http, grpc) = (part(http), part(grpc));
    tracing::warn!(
        http_max_connections = http,
        grpc_max_connections = grpc,
        "the system allows this process too few open files for as many connections as are configured; raise its limit (ulimit -n, LimitNOFILE=)"
    );
    (http, grpc)
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; pass a free address with {flag} (port 0 picks one)")
    })
}

/// Waits for a task, which may have ended and been looked at before: a second look at its
/// result would panic.
async fn end_of<T>(task: JoinHandle<T>) {
    if !task.is_finished() {
        let _panicked = task.await;
    }
}

fn ended_alone(what: &str, ended: Result<(), JoinError>) -> anyhow::Error {
    match ended {
        Ok(()) => anyhow::anyhow!("{what} ended by itself"),
        Err(panic) => anyhow::anyhow!("{what} panicked: {panic}"),
    }
}

fn ended_early(ended: Result<Result<(), grpc::Error>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Err(error)) => anyhow::Error::from(error).context("the gRPC server failed"),
        Ok(Ok(())) => anyhow::anyhow!("the gRPC server ended by itself"),
        Err(panic) => anyhow::anyhow!("the gRPC server panicked: {panic}"),
    }
}

/// Completes when the log will never take writes again.
async fn log_failure(log: &dyn Log) -> String {
    let mut writability = log.writability();
    loop {
        if let Writability::Failed(reason) = &*writability.borrow_and_update() {
            return reason.clone();
        }
        if writability.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

async fn keep_retention(log: Arc<dyn Log>) {
    let mut ticks = tokio::time::interval(RETENTION_INTERVAL);
    loop {
        ticks.tick().await;
        if let Err(error) = log.apply_retention().await {
            tracing::warn!(%error, "retention could not remove old events; it is tried again");
        }
    }
}
