//! For operators: liveness, readiness and metrics over HTTP on the admin port.

mod admin;
mod server;

pub use admin::{Probes, router};
pub use server::{limits, serve};
