//! Clerkcast: a gRPC event-distribution gateway for Clerk.
//!
//! ```text
//!   producers                                   readers
//!   webhook ◄─POST─ Clerk
//!      └───────────┐
//!   copy ──────────┴─► intake ─► log ◄── fanout ◄────────┬── api ◄── doors: grpc ──► services
//!                                 ▲        ▲             │    requests, answers; no transport
//!                                 └── subscriptions ◄────┘
//!                                     places that the gateway keeps
//! ```
//!
//! The gateway receives Clerk's webhooks, verifies them, appends each event once to a durable,
//! ordered log, and streams the log to subscribers as typed protobuf messages. The log is the
//! only thing between producers and readers: a producer does not know the readers, and a reader
//! does not know the producers. Another source of events is one more producer. Another way to
//! serve them is one more reader, or one more *door*, which is a transport such as gRPC.
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
//! 3. [`log::Append::append`] commits event and payload in one transaction, together with
//!    all other events that are waiting. Only then does the webhook answer 200. What finds
//!    events by type or user is written later, once for hundreds of them.
//! 4. The committed batch reaches the feed of [`fanout`], which puts it into the *ring*, the
//!    newest events in memory, and wakes the subscribers whose filters match one of its events.
//! 5. The first of these encodes one *frame* per event, a message as it is sent, for all of
//!    them. Each subscriber clones the frames that it wants when its connection has room, and
//!    [`doors::grpc`] sends them as they are.
//!
//! # Rooms
//!
//! A top-level module is a *room*. A room may name the rooms of its row in this table, and
//! `event` and `telemetry`, which are free for all. It may not name the crates of its row.
//! Rooms form no circle, and neither do the files within one. Besides:
//!
//! * The ring, the filter, the index of waiting subscribers, and the state and the steps of
//!   subscriptions are pure: they have no clock and do not name tokio.
//! * In `fanout`, only frames name `proto`.
//! * Only `app` names `anyhow`, only `cli` and `proto` name `clerkcast_client`, and only `main`
//!   names `mimalloc`.
//!
//! A test reads every form of import, and holds the rooms to this.
//!
//! | room | may name | may not name the crates |
//! |-|-|-|
//! | `event` | – | `axum`, `tonic`, `hyper` |
//! | `telemetry` | – | `axum`, `tonic`, `hyper` |
//! | `proto` | – | – |
//! | `files` | – | `axum`, `tonic`, `hyper`, `tokio` |
//! | `net` | `files` | `axum`, `tonic` |
//! | `log` | – | `axum`, `tonic`, `serde_json` |
//! | `filter` | – | `axum`, `tonic`, `tokio` |
//! | `clerk` | `proto` | `axum`, `tonic`, `tokio` |
//! | `access` | `clerk`, `filter` | `axum`, `tonic`, `hyper` |
//! | `intake` | `clerk`, `log` | `axum`, `tonic` |
//! | `webhook` | `intake`, `net` | `tonic` |
//! | `copy` | `intake`, `log`, `proto` | `axum`, `tonic` |
//! | `fanout` | `access`, `clerk`, `filter`, `log`, `proto` | `axum`, `tonic` |
//! | `subscriptions` | `access`, `clerk`, `fanout`, `filter`, `log` | `axum`, `tonic`, `hyper` |
//! | `api` | `access`, `clerk`, `fanout`, `filter`, `log`, `proto`, `subscriptions` | `axum`, `tonic`, `hyper` |
//! | `doors` | `access`, `api`, `net`, `proto` | `axum` |
//! | `ops` | `fanout`, `log`, `net`, `subscriptions` | `tonic` |
//! | `app` | `access`, `api`, `clerk`, `copy`, `doors`, `fanout`, `files`, `filter`, `intake`, `log`, `net`, `ops`, `proto`, `subscriptions`, `webhook` | – |
//! | `cli` | `access`, `api`, `app`, `clerk`, `copy`, `doors`, `fanout`, `files`, `filter`, `intake`, `log`, `net`, `ops`, `proto`, `subscriptions`, `webhook` | – |
//! | `main` | `cli` | – |

pub mod event;
pub mod proto;

pub mod log;

pub mod access;
pub mod api;
pub mod clerk;
pub mod fanout;
pub mod filter;
pub mod subscriptions;

pub mod doors;
pub mod files;
pub mod intake;
pub mod net;
pub mod ops;
pub mod telemetry;
pub mod webhook;

pub mod app;
pub mod cli;
pub mod copy;
