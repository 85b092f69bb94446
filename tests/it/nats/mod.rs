//! The log on NATS, with real servers.

mod away;
mod cluster;
mod gateways;
mod log;
mod place;
mod readme;
mod security;
mod server;
mod start_up;

pub(crate) use log::JetStream;
pub(crate) use place::Place;
