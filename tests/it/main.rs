//! Everything that Clerkcast promises, against the real binary, real files and real
//! sockets. A test's name is the guarantee that it holds.

#![expect(
    clippy::disallowed_methods,
    reason = "the runtime of a test ends its tasks, and a test may compare with the clock"
)]

mod access;
mod architecture;
mod backup;
mod calls;
mod cells;
mod changelog;
mod child;
mod churn;
mod client;
mod clock;
mod commands;
mod configuration;
mod conformance;
mod copy;
mod crash;
mod decoding;
mod deliveries;
mod dependencies;
mod deployment;
mod fanout;
mod faults;
mod fidelity;
mod files;
mod filters;
mod golden;
mod guarantees;
mod harness;
mod hostile;
mod index;
mod inspect;
mod interop;
mod laws;
mod listing;
mod log_file;
#[path = "../support/memory_log.rs"]
mod memory_log;
mod metrics;
mod nats;
mod observability;
mod operations;
mod overload;
mod packages;
mod power_cut;
mod preload;
mod printing;
mod prose;
mod queries;
mod readme;
mod refused;
mod reopen;
mod restore;
mod retention;
mod sealing;
mod segments;
mod shell;
mod snippets;
mod soak;
mod steps;
mod subscribe;
mod subscriptions;
mod systemd;
mod tail;
mod terminal;
mod tls;
mod traces;
mod verify;
mod version;
mod voice;
mod wal;
mod webhook;
mod worker;
