//! What the process reports about itself: log lines, metrics, and a count of panics.
//!
//! Any module may use it; it knows none.

mod init;
mod log_limit;
pub mod metrics;
mod panics;

pub use init::{Level, LevelControl, LogFormat, init};
pub use log_limit::LogLimit;
pub use panics::register_panics;
