//! Every option of the gateway, declared once: its key in the file, its flag and variable,
//! its default, what a reload does about it, and its help.

use std::sync::LazyLock;

use super::settings::Origin;

/// An option. `http_listen` is the key in the file, `--http-listen` the flag and
/// `CLERKCAST_HTTP_LISTEN` the variable.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// Its key.
    pub key: &'static str,
    /// What a value is.
    pub kind: Kind,
    /// What a value is called in the help.
    pub value_name: &'static str,
    /// Its value where none is given; empty where there is none.
    pub default: &'static str,
    /// What SIGHUP does about it.
    pub at_reload: AtReload,
    /// Where it can be written.
    pub place: Place,
    /// Its help.
    pub help: &'static str,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
}

/// What SIGHUP does about an option that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtReload {
    /// Takes it up.
    TakenUp,
    /// Takes it up where the log is the embedded one.
    TakenUpByEmbeddedLog,
    /// Takes it up while the port speaks TLS before and after.
    TakenUpByTls,
    /// Reports that it needs a restart.
    NeedsRestart,
}

/// Where an option can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As a flag, a variable and a key of the file; also of `copy`.
    EverywhereAndCopy,
    /// As a flag, a variable and a key of the file.
    Everywhere,
    /// As a flag and a variable.
    NotInFile,
    /// As a flag; its variables have names of their own.
    FlagOnly,
}

impl Declaration {
    /// Its flag, without the dashes.
    #[must_use]
    pub fn flag(&self) -> &'static str {
        self.names().0
    }

    /// Its environment variable.
    #[must_use]
    pub fn variable(&self) -> &'static str {
        self.names().1
    }

    fn names(&self) -> (&'static str, &'static str) {
        static NAMES: LazyLock<Vec<(&str, String, String)>> = LazyLock::new(|| {
            let names = OPTIONS.iter().map(|option| {
                let flag = option.key.replace('_', "-");
                let variable = format!("CLERKCAST_{}", option.key.to_uppercase());
                (option.key, flag, variable)
            });
            names.collect()
        });
        let found = NAMES.iter().find(|(key, ..)| *key == self.key);
        found.map_or(("", ""), |(_, flag, variable)| (flag, variable))
    }

    /// Whether it can be a key of the file.
    #[must_use]
    pub fn is_in_file(&self) -> bool {
        matches!(self.place, Place::Everywhere | Place::EverywhereAndCopy)
    }

    /// Where its default is from.
    pub(super) fn default(&self) -> Option<(&'static str, Origin)> {
        (!self.default.is_empty()).then_some((self.default, Origin::Default))
    }
}

/// The declaration of a key.
pub(super) fn declaration(key: &str) -> Option<&'static Declaration> {
    OPTIONS.iter().find(|option| option.key == key)
}

const fn option(
    key: &'static str,
    value_name: &'static str,
    default: &'static str,
    help: &'static str,
) -> Declaration {
    Declaration {
        key,
        kind: Kind::Text,
        value_name,
        default,
        at_reload: AtReload::NeedsRestart,
        place: Place::Everywhere,
        help,
    }
}

impl Declaration {
    const fn of(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    const fn at_reload(self, at_reload: AtReload) -> Self {
        Self { at_reload, ..self }
    }

    const fn in_place(self, place: Place) -> Self {
        Self { place, ..self }
    }
}

/// All options, in the order of the help.
pub const OPTIONS: &[Declaration] = &[
    option(
        "http_listen",
        "ADDRESS",
        "0.0.0.0:8080",
        "Where webhooks are received",
    ),
    option(
        "grpc_listen",
        "ADDRESS",
        "127.0.0.1:50051",
        "Where subscribers connect",
    ),
    option(
        "grpc_allow_anonymous",
        "BOOL",
        "",
        "Allow callers without credentials to subscribe, even if principals are configured or subscribers connect from other machines",
    )
    .of(Kind::Switch),
    option(
        "grpc_open",
        "LIST",
        "health,reflection",
        "Services open to callers without credentials: `health`, `reflection`, both separated by a comma, or `none`",
    ),
    option(
        "admin_listen",
        "ADDRESS",
        "127.0.0.1:9090",
        "Where /healthz, /readyz and /metrics are served",
    ),
    option(
        "data_dir",
        "DIR",
        "./clerkcast-data",
        "Where the log is kept",
    ),
    option(
        "signing_secret",
        "SECRET",
        "",
        "Signing secret of the default source, `whsec_…`; several separated by spaces or commas. Better set in CLERK_WEBHOOK_SIGNING_SECRET (also read: CLERKCAST_SIGNING_SECRET, CLERK_WEBHOOK_SECRET) or in a file that CLERK_WEBHOOK_SIGNING_SECRET_FILE names, since other users of this machine can see a command line",
    )
    .in_place(Place::FlagOnly),
    option(
        "instance_id",
        "ID",
        "",
        "The Clerk instance (`ins_…`) that the default source's events must name",
    )
    .in_place(Place::NotInFile),
    option(
        "retain_for",
        "DURATION",
        "30d",
        "Remove events that are older; `off` keeps them",
    )
    .at_reload(AtReload::TakenUpByEmbeddedLog)
    .in_place(Place::EverywhereAndCopy),
    option(
        "retain_bytes",
        "SIZE",
        "10GiB",
        "Remove the oldest events while the log is larger; `off` for no limit",
    )
    .at_reload(AtReload::TakenUpByEmbeddedLog)
    .in_place(Place::EverywhereAndCopy),
    option(
        "body_limit",
        "SIZE",
        "512KiB",
        "The largest webhook body that is accepted, at most 512KiB",
    ),
    option(
        "body_timeout",
        "DURATION",
        "10s",
        "How long a webhook body may take to arrive",
    ),
    option(
        "in_flight_limit",
        "SIZE",
        "64MiB",
        "Bytes of webhook bodies on their way into the log at once; beyond, 503",
    ),
    option(
        "ring_size",
        "SIZE",
        "64MiB",
        "Memory for recent events, shared by all subscribers",
    ),
    option(
        "max_subscribers",
        "N",
        "10000",
        "Subscriptions open at once",
    )
    .of(Kind::Number),
    option(
        "drain_timeout",
        "DURATION",
        "20s",
        "How long a graceful stop may take",
    ),
    option(
        "log",
        "KIND",
        "embedded",
        "Where the log is: `embedded`, in a file under --data-dir, or `nats`, in a stream of NATS JetStream that gateways share",
    )
    .in_place(Place::EverywhereAndCopy),
    option(
        "nats_url",
        "URLS",
        "",
        "Servers of NATS, nats://HOST:PORT or tls://HOST:PORT, several separated by commas",
    )
    .in_place(Place::EverywhereAndCopy),
    option(
        "nats_credentials",
        "FILE",
        "",
        "Credentials for NATS, a file as `nsc` makes it",
    )
    .in_place(Place::EverywhereAndCopy),
    option(
        "nats_tls_ca",
        "FILE",
        "",
        "Authorities that vouch for the servers of NATS, beside the system's (PEM)",
    )
    .in_place(Place::EverywhereAndCopy),
    option(
        "nats_tls_cert",
        "FILE",
        "",
        "Certificate to show to the servers of NATS (PEM)",
    )
    .in_place(Place::EverywhereAndCopy),
    option("nats_tls_key", "FILE", "", "Its private key (PEM)").in_place(Place::EverywhereAndCopy),
    option(
        "nats_stream",
        "NAME",
        "CLERKCAST",
        "The stream that is the log; created if it does not exist",
    )
    .in_place(Place::EverywhereAndCopy),
    option(
        "nats_subject_prefix",
        "PREFIX",
        "clerk",
        "First part of its subjects: PREFIX.SOURCE.TYPE",
    )
    .in_place(Place::EverywhereAndCopy),
    option(
        "nats_replicas",
        "N",
        "1",
        "Servers that keep a copy of the stream; 3 survive the loss of one",
    )
    .of(Kind::Number)
    .in_place(Place::EverywhereAndCopy),
    option(
        "nats_duplicate_window",
        "DURATION",
        "28h",
        "Deduplication window, at least 28h; ids are kept in the servers' memory",
    )
    .in_place(Place::EverywhereAndCopy),
    option(
        "http_tls_cert",
        "FILE",
        "",
        "Speak HTTPS to webhooks, with this certificate (PEM, followed by its chain); read again when it changes",
    )
    .at_reload(AtReload::TakenUpByTls),
    option("http_tls_key", "FILE", "", "Its private key (PEM)").at_reload(AtReload::TakenUpByTls),
    option(
        "http_max_connections",
        "N",
        "4096",
        "Webhook connections open at once; beyond, the oldest that has delivered nothing signed is closed",
    )
    .of(Kind::Number),
    option(
        "http_allow_from",
        "LIST",
        "",
        "Answer webhooks from these networks only, others 403: CIDRs or addresses, and `svix` for the addresses that Svix publishes, separated by commas",
    ),
    option(
        "http_trusted_proxies",
        "LIST",
        "",
        "Networks of your own reverse proxies, whose X-Forwarded-For is believed",
    ),
    option(
        "grpc_tls_cert",
        "FILE",
        "",
        "Speak TLS to subscribers, with this certificate (PEM, followed by its chain); read again when it changes",
    )
    .at_reload(AtReload::TakenUpByTls),
    option("grpc_tls_key", "FILE", "", "Its private key (PEM)").at_reload(AtReload::TakenUpByTls),
    option(
        "grpc_tls_client_ca",
        "FILE",
        "",
        "Authorities whose client certificates are taken as credentials (PEM)",
    )
    .at_reload(AtReload::TakenUpByTls),
    option(
        "grpc_max_connections",
        "N",
        "10000",
        "gRPC connections open at once; beyond, the oldest without a known caller is closed",
    )
    .of(Kind::Number),
    option(
        "log_format",
        "FORMAT",
        "text",
        "Format of log lines: `text`, or `json` for machines",
    ),
    option(
        "log_level",
        "LEVEL",
        "info",
        "What is logged: error, warn, info, debug, or per module as in `info,clerkcast::webhook=debug`",
    )
    .at_reload(AtReload::TakenUp),
];
