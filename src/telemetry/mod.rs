//! What the process reports about itself: log lines, metrics, traces, its version, and a count of
//! panics.
//!
//! Every module may use this one, which uses no other but [`crate::event`].

mod init;
mod log_limit;
pub mod metrics;
mod optional_gauge;
mod panics;
mod process;
pub mod traces;
mod version;

pub use init::{Level, LevelControl, LogFormat, init};
pub use log_limit::LogLimit;
pub use panics::register_panics;
pub use process::register_process;
pub use version::{COMMIT, VERSION, VERSION_AND_COMMIT, register_build};
