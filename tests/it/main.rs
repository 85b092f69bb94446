//! Everything that Clerkcast promises, against the real binary, real files and real
//! sockets. A test's name is the guarantee that it holds.

mod access;
mod architecture;
mod churn;
mod client;
mod clock;
mod commands;
mod configuration;
mod conformance;
mod copy;
mod crash;
mod decoding;
mod fanout;
mod faults;
mod fidelity;
mod guarantees;
mod harness;
mod hostile;
mod interop;
mod laws;
mod listing;
mod nats;
mod observability;
mod operations;
mod overload;
mod power_cut;
mod preload;
mod queries;
mod readme;
mod refused;
mod reopen;
mod restore;
mod retention;
mod subscribe;
mod tls;
mod webhook;
