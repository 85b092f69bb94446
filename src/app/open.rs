//! Opening a gateway: the log, the certificates and every listener.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::certificates::Certificates;
use super::config::{Config, LogConfig};
use super::controls::{self, Controls};
use super::otlp;
use crate::access::{self, Access};
use crate::clerk::{self, catalog};
use crate::doors::grpc;
use crate::event::SteadyClock;
use crate::fanout::Fanout;
use crate::intake::Intake;
#[cfg(feature = "nats")]
use crate::log::jetstream::JetStreamLog;
use crate::log::sqlite::{self, SqliteLog};
use crate::log::{self, Log};
use crate::net::{self, Listener};
use crate::subscriptions::{self, Clock, Subscriptions, Surroundings};
use crate::telemetry::traces::Traces;
use crate::{fanout, intake, ops, telemetry, webhook};

/// File descriptors for everything but connections on the two public ports.
const DESCRIPTORS_RESERVED: usize = 256;

/// A gateway whose log is open and whose listeners are bound, so that nothing is left to fail at
/// start-up.
#[derive(Debug)]
pub struct Gateway {
    pub(super) config: Config,
    pub(super) log: Arc<dyn Log>,
    pub(super) registry: Registry,
    pub(super) http: Listener,
    pub(super) grpc: Listener,
    pub(super) admin: Listener,
    pub(super) controls: Controls,
    pub(super) webhook_metrics: webhook::Metrics,
    pub(super) intake: Intake,
    pub(super) access_metrics: access::Metrics,
    pub(super) feed: JoinHandle<()>,
    pub(super) subscriptions: Subscriptions,
    /// Keeps what is known of subscriptions up to date.
    pub(super) keeping: JoinHandle<()>,
    pub(super) traces: Traces,
    pub(super) drain: CancellationToken,
    pub(super) recovered_in: Duration,
}

/// The addresses that a gateway listens on.
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
        clerk::build_tables();
        let mut registry = Registry::default();
        telemetry::register_process(&mut registry);
        let own = registry.sub_registry_with_prefix("clerkcast");
        telemetry::register_build(own);
        telemetry::register_panics(own);
        let net_metrics = net::Metrics::register(own);
        let log_metrics = log::Metrics::register(own);
        let mut certificates = Certificates::default();
        let http_tls = certificates.load("http", &config.http.tls, b"http/1.1", &net_metrics)?;
        let grpc_tls = certificates.load("grpc", &config.grpc.tls, b"h2", &net_metrics)?;
        let (http_connections, grpc_connections) = connections_max(&config);
        let opening = Instant::now();
        let log = open_log(config.log.clone(), log_metrics).await?;
        let recovered_in = opening.elapsed();
        let http = bind("--http-listen", config.http.listen).await?;
        let http_limits = webhook::limits(http_connections);
        let grpc = bind("--grpc-listen", config.grpc.listen).await?;
        let grpc_limits = grpc::limits(grpc_connections);
        let admin = bind("--admin-listen", config.admin).await?;
        let traces = otlp::traces(config.otlp.as_ref(), own).await?;
        let drain = CancellationToken::new();
        let (fanout, feed) = Fanout::start(
            log.clone(),
            config.fanout.clone(),
            fanout::Metrics::register(own),
            drain.clone(),
        );
        let access = Access::new(config.access.clone());
        let clock = SteadyClock::start();
        let (subscriptions, keeping) = Subscriptions::start(
            Surroundings {
                log: log.clone(),
                fanout: fanout.clone(),
                clock: Clock::new(move || clock.now()),
                limits: subscriptions::Limits::default(),
                metrics: subscriptions::Metrics::register(own),
                drain: drain.clone(),
            },
            access.clone(),
            config.subscriptions.clone(),
        );
        let webhook_metrics = webhook::Metrics::register(own);
        let intake_metrics = intake::Metrics::register(own);
        let pins = intake::Pins::default();
        let controls = Controls {
            access,
            certificates,
            sources: webhook::Sources::new(
                &config.webhook.sources,
                pins.clone(),
                webhook_metrics.clone(),
            ),
            fanout,
            log: log.clone(),
            grpc_metrics: grpc::Metrics::register(own),
            metrics: controls::Metrics::register(own),
        };
        controls
            .grpc_metrics
            .expect_principals(config.access.names());
        let intake = Intake::new(log.clone(), pins, intake_metrics);
        Ok(Self {
            http: Listener::new("http", http, http_limits, net_metrics.clone()).with_tls(http_tls),
            grpc: Listener::new("grpc", grpc, grpc_limits, net_metrics).with_tls(grpc_tls),
            admin: Listener::new("admin", admin, ops::limits(), net::Metrics::default()),
            log,
            access_metrics: access::Metrics::register(own),
            registry,
            controls,
            webhook_metrics,
            intake,
            feed,
            subscriptions,
            keeping,
            traces,
            drain,
            recovered_in,
            config,
        })
    }

    /// The addresses, with the ports that the system chose where 0 was asked for.
    ///
    /// # Errors
    /// When the system does not report one.
    pub fn addresses(&self) -> anyhow::Result<Addresses> {
        Ok(Addresses {
            http: self.http.local_addr()?,
            grpc: self.grpc.local_addr()?,
            admin: self.admin.local_addr()?,
        })
    }

    /// The parts that can be replaced while the gateway runs.
    #[must_use]
    pub fn controls(&self) -> Controls {
        self.controls.clone()
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
        #[cfg(not(feature = "nats"))]
        LogConfig::Nats(_) => anyhow::bail!(super::config::NO_NATS),
        #[cfg(feature = "nats")]
        LogConfig::Nats(config) => {
            let opening = JetStreamLog::open_declaring(config, metrics, is_declared);
            Arc::new(Box::pin(opening).await?)
        }
    })
}

/// How many connections each port may have open. Each needs a file descriptor, and the log needs
/// some of its own.
fn connections_max(config: &Config) -> (usize, usize) {
    let (http, grpc) = (config.http.connections_max, config.grpc.connections_max);
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
