//! Clerkcast: a gRPC event-distribution gateway for Clerk.
//!
//! ```text
//!   producers                                   readers
//!   webhook ◄─POST─ Clerk
//!      └───────────┐
//!   copy ──────────┴─► intake ─► log ◄── fanout ◄── api ◄── doors: grpc ──► services
//!                                                 requests, answers; no transport
//! ```
//!
//! The log is the only thing between producers and readers: a producer never knows who
//! listens, a reader never knows who posted. Another source of events is one more producer,
//! another way to serve them one more reader or one more door.
//!
//! The command line, the protocol and the files are the stable interface of this crate; its
//! modules are not. A service that subscribes uses the crate `clerkcast-client`.
//!
//! # The way of one event
//!
//! 1. [`webhook`] reads the signing headers and the body, within bounds, and
//!    [`webhook::Verifier`] turns them into [`webhook::Verified`] bytes.
//! 2. [`intake`] decodes the JSON with [`clerk::decode`], field by field, into an encoded
//!    `Event`, and finds the ids that filters look at. Decoding cannot fail.
//! 3. [`log::Append::append`] commits event, payload and indexes in one transaction that is
//!    shared with whatever else arrived, and only then the webhook is answered 200.
//! 4. The committed batch reaches the feed of [`fanout`], which puts it into the ring and
//!    wakes the subscribers whose filters match one of its events.
//! 5. The first of them makes one frame per event, for all. Each clones what it wants when
//!    its connection has room, and [`doors::grpc`] sends it as it is.
//!
//! # Who may know whom
//!
//! A room may name the rooms beside it, and `event` and `telemetry`, which are free for all.
//! Rooms form no circle, and neither do the files within one. Besides: the log names neither
//! axum, tonic nor `serde_json`; `net` and the domain name neither axum nor tonic; the ring,
//! the filter and the index of waiting subscribers are pure, without tokio and without a
//! clock; in `fanout`, frames alone know the wire; only `app` uses `anyhow`. A test reads
//! every form of import and holds the rooms to this table.
//!
//! | room | may know |
//! |-|-|
//! | `event` | – |
//! | `telemetry` | – |
//! | `proto` | – |
//! | `net` | – |
//! | `log` | – |
//! | `filter` | – |
//! | `clerk` | `proto` |
//! | `access` | `clerk`, `filter` |
//! | `intake` | `clerk`, `log` |
//! | `webhook` | `intake`, `net` |
//! | `copy` | `intake`, `log`, `proto` |
//! | `fanout` | `access`, `clerk`, `filter`, `log`, `proto` |
//! | `api` | `access`, `clerk`, `fanout`, `filter`, `log`, `proto` |
//! | `doors` | `access`, `api`, `net`, `proto` |
//! | `ops` | `fanout`, `log`, `net` |
//! | `app` | `access`, `api`, `clerk`, `copy`, `doors`, `fanout`, `filter`, `intake`, `log`, `net`, `ops`, `proto`, `webhook` |
//! | `cli` | `access`, `api`, `app`, `clerk`, `copy`, `doors`, `fanout`, `filter`, `intake`, `log`, `net`, `ops`, `proto`, `webhook` |
//! | `main` | `cli` |

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
