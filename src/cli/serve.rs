//! `clerkcast serve`: from flags, environment and file to a running gateway.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures_util::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::nats::NatsArgs;
use super::ports::PortArgs;
use super::retention::{Retention, RetentionArgs};
use super::secrets::{self, LEGACY_VARIABLE};
use super::{Failure, reload, units};
use crate::access::Principals;
use crate::app::{Addresses, Config, FileConfig, Gateway, LogConfig, SourceConfig};
use crate::grpc::Door;
use crate::log::sqlite;
use crate::net::CertificateFiles;
use crate::ops::{self, LogFormat};
use crate::webhook::{self, SigningSecret};

const SIGNAL_REPEATS_WITHIN: Duration = Duration::from_millis(250);
/// Smaller than a few of the largest events, a ring would hold none of them long enough.
const RING_BYTES_MIN: u64 = 4 << 20;
/// A typed event with its payload stays below gRPC's default limit of 4 MiB.
const BODY_BYTES_LIMIT_MAX: u64 = 512 << 10;

/// A flag wins over its environment variable, that over the configuration file, that
/// over the default.
#[derive(Clone, Debug, Default, Args)]
#[expect(
    clippy::doc_markdown,
    reason = "shown as help, where backticks are noise"
)]
pub(super) struct ServeArgs {
    /// Configuration file (TOML): the same keys as these flags, with underscores, and [[sources]]
    #[arg(long, env = "CLERKCAST_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Where webhooks are received [default: 0.0.0.0:8080]
    #[arg(long, env = "CLERKCAST_HTTP_LISTEN", value_name = "ADDRESS", value_parser = units::address)]
    pub(super) http_listen: Option<SocketAddr>,

    /// Where subscribers connect [default: 127.0.0.1:50051]
    #[arg(long, env = "CLERKCAST_GRPC_LISTEN", value_name = "ADDRESS", value_parser = units::address)]
    pub(super) grpc_listen: Option<SocketAddr>,

    /// Let callers without credentials subscribe, also where principals are configured or
    /// subscribers connect from other machines
    #[arg(long, env = "CLERKCAST_GRPC_ALLOW_ANONYMOUS", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    grpc_allow_anonymous: Option<bool>,

    /// What callers without credentials may ask beside: `health`, `reflection`, both
    /// separated by a comma, or `none` [default: health,reflection]
    #[arg(long, env = "CLERKCAST_GRPC_OPEN", value_name = "LIST")]
    grpc_open: Option<String>,

    /// Where /healthz, /readyz and /metrics are served [default: 127.0.0.1:9090]
    #[arg(long, env = "CLERKCAST_ADMIN_LISTEN", value_name = "ADDRESS", value_parser = units::address)]
    pub(super) admin_listen: Option<SocketAddr>,

    /// Where the log is kept [default: ./clerkcast-data]
    #[arg(long, env = "CLERKCAST_DATA_DIR", value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,

    /// Signing secret of the default source, `whsec_…`; several separated by spaces or
    /// commas. Better set in CLERK_WEBHOOK_SIGNING_SECRET (also read: CLERKCAST_SIGNING_SECRET,
    /// CLERK_WEBHOOK_SECRET), since other users of this machine can see a command line
    #[arg(long, value_name = "SECRET")]
    pub(super) signing_secret: Option<String>,

    /// The Clerk instance (`ins_…`) that the default source's events must name
    #[arg(long, env = "CLERKCAST_INSTANCE_ID", value_name = "ID")]
    instance_id: Option<String>,

    #[command(flatten)]
    retention: RetentionArgs,

    /// The largest webhook body that is accepted, at most 512KiB [default: 512KiB]
    #[arg(long, env = "CLERKCAST_BODY_LIMIT", value_name = "SIZE")]
    body_limit: Option<String>,

    /// How long a webhook body may take to arrive [default: 10s]
    #[arg(long, env = "CLERKCAST_BODY_TIMEOUT", value_name = "DURATION")]
    body_timeout: Option<String>,

    /// Bytes of webhook bodies on their way into the log at once; beyond, 503 [default: 64MiB]
    #[arg(long, env = "CLERKCAST_IN_FLIGHT_LIMIT", value_name = "SIZE")]
    in_flight_limit: Option<String>,

    /// Memory for recent events, shared by all subscribers [default: 64MiB]
    #[arg(long, env = "CLERKCAST_RING_SIZE", value_name = "SIZE")]
    ring_size: Option<String>,

    /// Subscriptions open at once [default: 10000]
    #[arg(long, env = "CLERKCAST_MAX_SUBSCRIBERS", value_name = "N")]
    max_subscribers: Option<usize>,

    /// How long a graceful stop may take [default: 20s]
    #[arg(long, env = "CLERKCAST_DRAIN_TIMEOUT", value_name = "DURATION")]
    drain_timeout: Option<String>,

    #[command(flatten)]
    nats: NatsArgs,

    #[command(flatten)]
    ports: PortArgs,

    /// How log lines look [default: text]
    #[arg(long, env = "CLERKCAST_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,

    /// What is logged: error, warn, info, debug, or per module as in `info,clerkcast::webhook=debug` [default: info]
    #[arg(long, env = "CLERKCAST_LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
}

/// Start-up as a checklist: telemetry, configuration, open and bind, announce, run.
pub(super) async fn run(args: ServeArgs) -> Result<(), Failure> {
    let file = args.start_logging("info")?;
    let config = args.check(&file)?;
    let stop = stop_signal()?;
    let sources = config.sources.clone();
    let schemes = Schemes::of(&config);
    let gateway = Gateway::open(config).await.map_err(Failure::failed)?;
    let addresses = gateway.addresses().map_err(Failure::failed)?;
    announce(addresses, schemes, &sources);
    let (access, certificates) = (gateway.access(), gateway.certificates());
    let reload = reload::on_hangup(args, sources, addresses.grpc, access, certificates)?;
    let outcome = gateway.run(stop).await.map_err(Failure::failed);
    reload.abort();
    outcome
}

impl ServeArgs {
    /// Reads the configuration file, and logs from here on as it or the flags say.
    pub(super) fn start_logging(&self, level: &str) -> Result<FileConfig, Failure> {
        let file = match &self.config {
            Some(path) => FileConfig::read(path).map_err(Failure::usage)?,
            None => FileConfig::default(),
        };
        let chosen = self.log_level.as_deref().or(file.log_level.as_deref());
        let format = self.log_format.or(file.log_format).unwrap_or_default();
        ops::init(format, chosen.unwrap_or(level)).map_err(Failure::Usage)?;
        Ok(file)
    }

    /// The default source's secrets, unparsed, and where they are from.
    pub(super) fn default_secrets(&self) -> Option<(&'static str, String)> {
        secrets::find(self.signing_secret.as_deref())
    }

    /// Merges and checks everything, without touching the disk or the network.
    pub(super) fn check(&self, file: &FileConfig) -> Result<Config, Failure> {
        let text = |flag: &Option<String>, key: &Option<String>, default: &str| {
            let given = flag.clone().or_else(|| key.clone());
            given.unwrap_or_else(|| default.to_owned())
        };
        let address =
            |flag: Option<SocketAddr>, key: Option<SocketAddr>, default: ([u8; 4], u16)| {
                flag.or(key).unwrap_or_else(|| default.into())
            };
        let retention = self.retention.check(file)?;
        let body_limit = text(&self.body_limit, &file.body_limit, "512KiB");
        let body_limit = named("--body-limit", units::bytes(&body_limit))?;
        if body_limit > BODY_BYTES_LIMIT_MAX {
            return Err(Failure::Usage(
                "--body-limit: the most is 512KiB, so that a typed event stays below gRPC's limit of 4 MiB".to_owned(),
            ));
        }
        let max_subscribers = self.max_subscribers.or(file.max_subscribers);
        let in_flight = text(&self.in_flight_limit, &file.in_flight_limit, "64MiB");
        let ring = text(&self.ring_size, &file.ring_size, "64MiB");
        let body_timeout = text(&self.body_timeout, &file.body_timeout, "10s");
        let drain_timeout = text(&self.drain_timeout, &file.drain_timeout, "20s");
        let in_flight = named("--in-flight-limit", units::bytes(&in_flight))?;
        let ring = named("--ring-size", units::bytes(&ring))?;
        let body_timeout = named("--body-timeout", units::duration(&body_timeout))?;
        for (wrong, why) in [
            (body_limit == 0, "--body-limit: must be more than 0"),
            (
                body_timeout.is_zero(),
                "--body-timeout: must be more than 0s",
            ),
            (
                max_subscribers == Some(0),
                "--max-subscribers: must be more than 0",
            ),
            (
                in_flight < body_limit,
                "--in-flight-limit: must be at least --body-limit",
            ),
            (
                ring < RING_BYTES_MIN,
                "--ring-size: the least is 4MiB, for a few of the largest events",
            ),
        ] {
            if wrong {
                return Err(Failure::Usage(why.to_owned()));
            }
        }
        let sources = self.sources(file)?;
        let grpc_listen = address(self.grpc_listen, file.grpc_listen, ([127, 0, 0, 1], 50051));
        let principals = self.principals(file, &sources)?;
        self.check_exposure(file, grpc_listen, &principals)?;
        let ports = self.ports.check(file)?;
        check_certificates(ports.grpc_tls.as_ref(), grpc_listen, &principals)?;
        let open = text(&self.grpc_open, &file.grpc_open, "health,reflection");
        let open = named("--grpc-open", Open::parse(&open))?;
        Ok(Config {
            http_listen: address(self.http_listen, file.http_listen, ([0, 0, 0, 0], 8080)),
            grpc_listen,
            http_tls: ports.http_tls,
            grpc_tls: ports.grpc_tls,
            http_connections_max: ports.http_connections_max,
            grpc_connections_max: ports.grpc_connections_max,
            allow_list: ports.allow_list,
            principals,
            grpc_health: open.health,
            grpc_reflection: open.reflection,
            admin_listen: address(self.admin_listen, file.admin_listen, ([127, 0, 0, 1], 9090)),
            log: self.log(file, &retention)?,
            sources,
            body_bytes_max: size("--body-limit", body_limit)?,
            body_timeout,
            in_flight_bytes_max: size("--in-flight-limit", in_flight)?,
            ring_bytes_max: size("--ring-size", ring)?,
            subscribers_max: max_subscribers.unwrap_or(10_000),
            drain_timeout: named("--drain-timeout", units::duration(&drain_timeout))?,
        })
    }

    fn log(&self, file: &FileConfig, retention: &Retention) -> Result<LogConfig, Failure> {
        if let Some(stream) = self.nats.check(file, retention)? {
            return Ok(LogConfig::Nats(stream));
        }
        let data_dir = self.data_dir.clone().or_else(|| file.data_dir.clone());
        Ok(LogConfig::Embedded(sqlite::Config {
            data_dir: data_dir.unwrap_or_else(|| PathBuf::from("clerkcast-data")),
            retain_for: retention.retain_for,
            retain_bytes: retention.retain_bytes,
        }))
    }

    /// Who may subscribe.
    pub(super) fn principals(
        &self,
        file: &FileConfig,
        sources: &[SourceConfig],
    ) -> Result<Principals, Failure> {
        let names = sources.iter().map(|source| source.name.clone()).collect();
        let checked = file.principals(&names, self.allows_anonymous(file));
        checked.map_err(Failure::usage)
    }

    pub(super) fn allows_anonymous(&self, file: &FileConfig) -> bool {
        let allowed = self.grpc_allow_anonymous.or(file.grpc_allow_anonymous);
        allowed.unwrap_or(false)
    }

    /// Events are not offered to a network unless somebody said to whom.
    pub(super) fn check_exposure(
        &self,
        file: &FileConfig,
        grpc_listen: SocketAddr,
        principals: &Principals,
    ) -> Result<(), Failure> {
        if principals.anonymous.is_none() || grpc_listen.ip().is_loopback() {
            return Ok(());
        }
        if !self.allows_anonymous(file) {
            return Err(Failure::Usage(format!(
                "--grpc-listen {grpc_listen} is in reach of other machines, and nothing says who may subscribe: list [[principals]] in --config (`clerkcast token new NAME` prints one), or pass --grpc-allow-anonymous to let everyone in who can connect"
            )));
        }
        tracing::warn!(
            address = %grpc_listen,
            "callers without credentials may subscribe from other machines, since --grpc-allow-anonymous is set"
        );
        Ok(())
    }

    /// The file's sources, and the default one from the flag or the environment.
    fn sources(&self, file: &FileConfig) -> Result<Vec<SourceConfig>, Failure> {
        let mut sources = file.sources().map_err(Failure::usage)?;
        if let Some((origin, text)) = self.default_secrets() {
            if origin == LEGACY_VARIABLE {
                tracing::warn!(
                    "{LEGACY_VARIABLE} is the older name; set CLERK_WEBHOOK_SIGNING_SECRET"
                );
            }
            let secrets = named(origin, SigningSecret::parse_list(&text))?;
            match sources
                .iter_mut()
                .find(|source| source.name == webhook::DEFAULT_SOURCE)
            {
                Some(default) => default.secrets.extend(secrets),
                None => sources.push(SourceConfig {
                    name: webhook::DEFAULT_SOURCE.to_owned(),
                    secrets,
                    instance_id: None,
                }),
            }
        }
        let default = sources
            .iter_mut()
            .find(|source| source.name == webhook::DEFAULT_SOURCE);
        match (default, &self.instance_id) {
            (Some(default), Some(id)) => default.instance_id = Some(id.clone()),
            (None, Some(_)) => {
                return Err(Failure::Usage(
                    "--instance-id is for the default source, which has no signing secret"
                        .to_owned(),
                ));
            }
            _ => {}
        }
        if sources.is_empty() {
            return Err(Failure::Usage(
                "no signing secret: set CLERK_WEBHOOK_SIGNING_SECRET to the Signing Secret (whsec_…) of the endpoint's page under Webhooks in the Clerk dashboard, or list [[sources]] in --config; to try things out, run `clerkcast dev`".to_owned(),
            ));
        }
        Ok(sources)
    }
}

/// What the principals are recognised by has to reach the gateway, unread by others.
fn check_certificates(
    tls: Option<&CertificateFiles>,
    grpc_listen: SocketAddr,
    principals: &Principals,
) -> Result<(), Failure> {
    let identities = || principals.identities.iter();
    let verifies = tls.is_some_and(|files| files.client_ca.is_some());
    let by_certificate = identities().find(|it| !it.certificate_names.is_empty());
    match by_certificate {
        Some(identity) if !verifies => {
            return Err(Failure::Usage(format!(
                "principal {:?} has a client_certificate, and nothing verifies certificates: set --grpc-tls-client-ca, --grpc-tls-cert and --grpc-tls-key",
                identity.name
            )));
        }
        None if verifies => {
            return Err(Failure::Usage(
                "--grpc-tls-client-ca is set, and no principal is known by a certificate: set client_certificate in a [[principals]] table of --config (\"*\" is any certificate that the CA vouches for)".to_owned(),
            ));
        }
        _ => {}
    }
    let by_token = identities().any(|it| !it.token_hashes.is_empty());
    if by_token && tls.is_none() && !grpc_listen.ip().is_loopback() {
        tracing::warn!(
            address = %grpc_listen,
            "tokens and events cross the network in the clear: set --grpc-tls-cert and --grpc-tls-key, unless a proxy or service mesh encrypts them"
        );
    }
    Ok(())
}

/// Which services are open to everyone.
struct Open {
    health: Door,
    reflection: Door,
}

impl Open {
    fn parse(text: &str) -> Result<Self, String> {
        let mut open = Self {
            health: Door::Guarded,
            reflection: Door::Guarded,
        };
        if text == "none" {
            return Ok(open);
        }
        for name in text.split(',').map(str::trim) {
            match name {
                "health" => open.health = Door::Open,
                "reflection" => open.reflection = Door::Open,
                _ => {
                    return Err(format!(
                        "{name:?} is not one of `health`, `reflection` and `none`"
                    ));
                }
            }
        }
        Ok(open)
    }
}

pub(super) fn named<T>(
    name: &str,
    parsed: Result<T, impl std::fmt::Display>,
) -> Result<T, Failure> {
    parsed.map_err(|error| Failure::Usage(format!("{name}: {error}")))
}

fn size(name: &str, bytes: u64) -> Result<usize, Failure> {
    named(name, usize::try_from(bytes))
}

/// How the two ports are spoken to.
#[derive(Clone, Copy)]
struct Schemes {
    http: &'static str,
    grpc: &'static str,
}

impl Schemes {
    fn of(config: &Config) -> Self {
        Self {
            http: config.http_tls.as_ref().map_or("http", |_| "https"),
            grpc: config.grpc_tls.as_ref().map_or("grpc", |_| "grpcs"),
        }
    }
}

fn announce_sources(http: SocketAddr, scheme: &str, sources: &[SourceConfig]) {
    for source in sources {
        let path = webhook::path(&source.name);
        let fingerprints = source.secrets.iter().map(SigningSecret::fingerprint);
        let fingerprints: Vec<String> = fingerprints.collect();
        tracing::info!(
            source = %source.name,
            url = %format_args!("{scheme}://{http}{path}"),
            secrets = %fingerprints.join(","),
            instance_id = source.instance_id.as_deref().unwrap_or("any"),
            "source configured; secrets are shown by the start of their key's SHA-256"
        );
    }
}

fn announce(addresses: Addresses, schemes: Schemes, sources: &[SourceConfig]) {
    let Addresses { http, grpc, admin } = addresses;
    announce_sources(http, schemes.http, sources);
    tracing::info!(address = %http, "listening for webhooks on {}://{http}", schemes.http);
    tracing::info!(address = %grpc, "listening for subscribers on {}://{grpc}", schemes.grpc);
    tracing::info!(address = %admin, "listening for operators on http://{admin}");
}

/// Completes on SIGTERM or SIGINT; a second one exits at once.
pub(super) fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::Failed(error.to_string()));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tokio::spawn(async move {
            // `timeout` and some supervisors send the same signal twice at once.
            tokio::time::sleep(SIGNAL_REPEATS_WITHIN).await;
            while let Some(Some(())) = interrupt.recv().now_or_never() {}
            while let Some(Some(())) = terminate.recv().now_or_never() {}
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            tracing::warn!("second signal: exiting at once");
            std::process::exit(130);
        });
    })
}
