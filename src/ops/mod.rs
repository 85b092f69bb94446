//! For operators: liveness, readiness and metrics over HTTP on the admin port.

mod admin;

pub use admin::{Probes, router};
