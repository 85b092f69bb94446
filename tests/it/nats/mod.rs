//! The log on NATS, with real servers.

mod away;
mod cells;
mod cluster;
mod fleet;
mod foreign;
mod gateways;
mod histories;
mod links;
mod log;
pub(crate) mod place;
mod readme;
mod restored;
mod searches;
mod security;
pub(crate) mod server;
mod settings;
mod start_up;

pub(crate) use log::JetStream;
pub(crate) use place::Place;
