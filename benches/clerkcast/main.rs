//! What Clerkcast costs: tables of figures, each beside a baseline that runs in the same
//! invocation, in turn with it, several times. The tables show medians, and the spread of
//! the ratios.
//!
//! ```text
//! cargo bench                    all tables
//! cargo bench -- ingest replay   some of them
//! ```
//!
//! The tables `nats` and `subscriptions` start nats-servers, which `tests/tools/install` brings.
//!
//! Clients run on the same machine and take their share of it, on both sides alike. Keep
//! other work off the machine meanwhile.

#![expect(
    clippy::disallowed_methods,
    reason = "the runtime of a table ends its tasks"
)]

mod backlog;
mod backup;
mod cells;
mod fan_out;
mod filters;
mod growth;
mod ingest;
mod latency;
mod memory;
mod nats;
mod overload;
mod replay;
mod scrape;
mod selective;
mod subscriptions;
mod support;
mod traces;

use support::process;

const TABLES: [&str; 16] = [
    "ingest",
    "fan-out",
    "selective",
    "replay",
    "latency",
    "memory",
    "backlog",
    "backup",
    "cells",
    "subscriptions",
    "growth",
    "overload",
    "filters",
    "scrape",
    "nats",
    "traces",
];

#[tokio::main]
async fn main() {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    // Cargo's own.
    names.retain(|name| name != "--bench");
    if let [flag, role] = names.as_slice()
        && flag == process::ROLE
    {
        return process::play(role).await;
    }
    if let Some(unknown) = names.iter().find(|name| !TABLES.contains(&name.as_str())) {
        eprintln!(
            "there is no table {unknown}; there are {}",
            TABLES.join(", ")
        );
        std::process::exit(2);
    }
    for table in TABLES {
        if !names.is_empty() && !names.iter().any(|name| name == table) {
            continue;
        }
        match table {
            "ingest" => ingest::run().await,
            "fan-out" => fan_out::run().await,
            "selective" => selective::run().await,
            "replay" => replay::run().await,
            "latency" => latency::run().await,
            "memory" => memory::run().await,
            "backlog" => backlog::run().await,
            "backup" => backup::run().await,
            "cells" => cells::run().await,
            "subscriptions" => subscriptions::run().await,
            "growth" => growth::run().await,
            "overload" => overload::run().await,
            "filters" => filters::run().await,
            "scrape" => scrape::run().await,
            "nats" => nats::run().await,
            "traces" => traces::run().await,
            other => unreachable!("{other} is not in TABLES"),
        }
    }
}
