//! What the process reports about itself: log lines, metrics, and a count of panics.
//!
//! Every module may use this one, which uses no other.

mod init;
mod log_limit;
pub mod metrics;
mod panics;

pub use init::{Level, LevelControl, LogFormat, init};
pub use log_limit::LogLimit;
pub use panics::register_panics;
