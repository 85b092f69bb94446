//! For operators: liveness, readiness and metrics over HTTP on the admin port, and the
//! logs' format.

mod admin;
mod line_limit;
mod panics;
mod telemetry;

pub use admin::{Probes, router};
pub use line_limit::LineLimit;
pub use panics::register_panics;
pub use telemetry::{Level, LevelControl, LogFormat, init};
