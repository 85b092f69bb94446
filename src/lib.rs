//! Clerkcast: a gRPC event-distribution gateway for Clerk.
//!
//! ```text
//!   Clerk ──(Svix-signed POST)──► webhook ──► log ◄── fanout ◄── grpc ──(server stream)──► services
//! ```
//!
//! Those four modules and the arrows between them are the architecture. The log is the only thing
//! between the producer and the consumers: `webhook` never knows who listens, `grpc`
//! never knows who posted.
//!
//! # The way of one event
//!
//! 1. [`webhook`] reads the signing headers and the body, within bounds, and
//!    [`webhook::Verifier`] turns them into [`webhook::Verified`] bytes.
//! 2. [`clerk::decode`] writes the JSON as an encoded `Event`, field by field, and finds
//!    the ids that filters look at. It cannot fail.
//! 3. [`log::Append::append`] commits event, payload and indexes in one transaction that is
//!    shared with whatever else arrived, and only then the webhook is answered 200.
//! 4. The committed batch reaches the feed of [`fanout`], which puts it into the ring and
//!    wakes the subscriptions whose filters match one of its events.
//! 5. The first of them makes one frame per event, for all. Each clones what it wants when
//!    its connection has room, and [`doors::grpc`] sends it as it is.
//!
//! # Who may know whom
//!
//! ```text
//!   main → cli → app (opens, binds, wires, drains in order)
//!   edges       webhook/  grpc/  ops/           know HTTP and gRPC; cli/ knows terminals
//!   sockets     net/                            knows connections, TLS and their bounds
//!   domain      clerk/    access/  fanout/      know events, and who may receive them
//!   truth       log/                            knows bytes, positions, durability
//!   vocabulary  event     proto                 know nothing
//! ```
//!
//! `webhook` and `grpc` never import each other; `webhook` never imports `fanout`; `net`
//! does not know what is behind a port, and `access` no protocol; `log`
//! imports neither axum, tonic nor `serde_json`; the ring, the filter and the index of who
//! waits are pure, without tokio and without a clock; only `app` uses `anyhow`. A test reads the imports
//! and holds them to this.

pub mod event;
pub mod proto;

pub mod log;

pub mod access;
pub mod api;
pub mod clerk;
pub mod fanout;
pub mod filter;

pub mod doors;
pub mod intake;
pub mod net;
pub mod ops;
pub mod telemetry;
pub mod webhook;

pub mod app;
pub mod cli;
pub mod copy;
