//! The table of rooms in `lib.rs`, as the tests compare it with the imports.

/// Every room may name these two.
pub(super) const FREE: [&str; 2] = ["event", "telemetry"];

/// The rooms that a room may name, and the crates that it may not name.
pub(super) const ALLOWED: &[(&str, &[&str], &[&str])] = &[
    ("event", &[], &["axum", "tonic", "hyper"]),
    ("telemetry", &[], &["axum", "tonic", "hyper"]),
    ("proto", &[], &[]),
    ("files", &[], &["axum", "tonic", "hyper", "tokio"]),
    ("net", &["files"], &["axum", "tonic"]),
    ("log", &[], &["axum", "tonic", "serde_json"]),
    ("filter", &[], &["axum", "tonic", "tokio"]),
    ("clerk", &["proto"], &["axum", "tonic", "tokio"]),
    ("access", &["clerk", "filter"], &["axum", "tonic", "hyper"]),
    ("intake", &["clerk", "log"], &["axum", "tonic"]),
    ("webhook", &["intake", "net"], &["tonic"]),
    ("copy", &["intake", "log", "proto"], &["axum", "tonic"]),
    (
        "fanout",
        &["access", "clerk", "filter", "log", "proto"],
        &["axum", "tonic"],
    ),
    (
        "subscriptions",
        &["access", "clerk", "fanout", "filter", "log"],
        &["axum", "tonic", "hyper"],
    ),
    (
        "api",
        &[
            "access",
            "clerk",
            "fanout",
            "filter",
            "log",
            "proto",
            "subscriptions",
        ],
        &["axum", "tonic", "hyper"],
    ),
    ("doors", &["access", "api", "net", "proto"], &["axum"]),
    (
        "ops",
        &["fanout", "log", "net", "subscriptions"],
        &["tonic"],
    ),
    (
        "app",
        &[
            "access",
            "api",
            "clerk",
            "copy",
            "doors",
            "fanout",
            "files",
            "filter",
            "intake",
            "log",
            "net",
            "ops",
            "proto",
            "subscriptions",
            "webhook",
        ],
        &[],
    ),
    (
        "cli",
        &[
            "access",
            "api",
            "app",
            "clerk",
            "copy",
            "doors",
            "fanout",
            "files",
            "filter",
            "intake",
            "log",
            "net",
            "ops",
            "proto",
            "subscriptions",
            "webhook",
        ],
        &[],
    ),
    ("main", &["cli"], &[]),
];

/// Crates that only these rooms may name.
pub(super) const RESERVED: &[(&str, &[&str])] = &[
    ("anyhow", &["app"]),
    ("clerkcast_client", &["cli", "proto"]),
    ("mimalloc", &["main"]),
];

/// The arrows that exist. One that is new or gone changes this list, on purpose.
pub(super) const ARROWS: &[(&str, &[&str])] = &[
    ("net", &["files"]),
    ("clerk", &["proto"]),
    ("access", &["clerk", "filter"]),
    ("intake", &["clerk", "log"]),
    ("webhook", &["intake", "net"]),
    ("copy", &["intake", "log", "proto"]),
    ("fanout", &["access", "clerk", "filter", "log", "proto"]),
    (
        "subscriptions",
        &["access", "clerk", "fanout", "filter", "log"],
    ),
    (
        "api",
        &[
            "access",
            "clerk",
            "fanout",
            "filter",
            "log",
            "proto",
            "subscriptions",
        ],
    ),
    ("doors", &["access", "api", "net", "proto"]),
    ("ops", &["fanout", "log", "net", "subscriptions"]),
    (
        "app",
        &[
            "access",
            "api",
            "clerk",
            "doors",
            "fanout",
            "files",
            "filter",
            "intake",
            "log",
            "net",
            "ops",
            "subscriptions",
            "webhook",
        ],
    ),
    (
        "cli",
        &[
            "access",
            "api",
            "app",
            "clerk",
            "copy",
            "doors",
            "fanout",
            "filter",
            "log",
            "net",
            "proto",
            "subscriptions",
            "webhook",
        ],
    ),
    ("main", &["cli"]),
];

/// Files that know neither time nor waiting.
pub(super) const PURE: &[&str] = &[
    "fanout::ring",
    "fanout::index",
    "filter",
    "subscriptions::ack_id",
    "subscriptions::cell",
    "subscriptions::key",
    "subscriptions::machine",
    "subscriptions::name",
    "subscriptions::rooms",
    "subscriptions::settings",
    "subscriptions::state",
    "subscriptions::step::draft",
    "subscriptions::step::holders",
];
