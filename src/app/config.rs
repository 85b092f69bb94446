//! The configuration of a gateway, checked and by component.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::otlp::OtlpConfig;
use crate::access::AccessConfig;
use crate::doors::grpc::Exposure;
use crate::net::CertificateFiles;
use crate::telemetry::Level;
use crate::{fanout, log, subscriptions, webhook};

const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// The configuration of a gateway.
#[derive(Debug)]
pub struct Config {
    /// How webhooks are received, and from which sources.
    pub webhook: webhook::Config,
    /// How events are distributed.
    pub fanout: fanout::Config,
    /// How many subscriptions the log keeps.
    pub subscriptions: subscriptions::Config,
    /// The log.
    pub log: LogConfig,
    /// What callers without credentials may use.
    pub doors: DoorConfig,
    /// Who may subscribe.
    pub access: AccessConfig,
    /// The port for webhooks.
    pub http: PortConfig,
    /// The port for subscribers.
    pub grpc: PortConfig,
    /// Where probes and metrics are served.
    pub admin: SocketAddr,
    /// How long a graceful stop may take.
    pub drain_timeout: Duration,
    /// The log level.
    pub log_level: Level,
    /// Where traces are sent, if they are.
    pub otlp: Option<OtlpConfig>,
}

/// A public port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Its address.
    pub listen: SocketAddr,
    /// The certificate, if the port speaks TLS.
    pub tls: Option<CertificateFiles>,
    /// Maximum number of open connections.
    pub connections_max: usize,
}

/// What callers without credentials may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorConfig {
    /// Who may ask for health.
    pub health: Exposure,
    /// Who may ask for reflection.
    pub reflection: Exposure,
    /// Whether callers without credentials may subscribe although principals are configured,
    /// or subscribers connect from other machines.
    pub allows_anonymous: bool,
}

/// The error of a build without the feature, if NATS is configured.
pub(crate) const NO_NATS: &str = "this build has no NATS support; build with --features nats";

/// The kind of log, and its configuration.
#[derive(Clone, Debug)]
pub enum LogConfig {
    /// In a file of this machine.
    Embedded(log::sqlite::Config),
    /// In a stream that gateways share.
    Nats(log::jetstream::Config),
}

impl Default for Config {
    fn default() -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            webhook: webhook::Config::default(),
            fanout: fanout::Config::default(),
            subscriptions: subscriptions::Config::default(),
            log: LogConfig::Embedded(log::sqlite::Config::default()),
            doors: DoorConfig::default(),
            access: AccessConfig::default(),
            http: PortConfig {
                listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080),
                tls: None,
                connections_max: 4096,
            },
            grpc: PortConfig {
                listen: SocketAddr::new(loopback, 50051),
                tls: None,
                connections_max: 10_000,
            },
            admin: SocketAddr::new(loopback, 9090),
            drain_timeout: DRAIN_TIMEOUT,
            log_level: Level::default(),
            otlp: None,
        }
    }
}

/// The log as `config check` shows it.
impl fmt::Display for LogConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(config) => {
                write!(formatter, "embedded in {}", config.data_dir.display())
            }
            Self::Nats(config) => write!(formatter, "nats in stream {}", config.stream),
        }
    }
}

impl LogConfig {
    /// How long and how many bytes of events are kept.
    #[must_use]
    pub fn retention(&self) -> (Option<Duration>, Option<u64>) {
        match self {
            Self::Embedded(config) => (config.retain_for, config.retain_bytes),
            Self::Nats(config) => (config.retain_for, config.retain_bytes),
        }
    }
}
