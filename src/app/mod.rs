//! The composition root: opens the log, binds every listener, wires the modules, and
//! takes them down in the right order.

mod announce;
mod certificates;
pub mod config;
mod controls;
mod open;
mod reload;
mod run;

pub use announce::{announce, seconds};
pub use certificates::Certificates;
pub use config::{Config, LogConfig, SourceConfig};
pub use controls::Controls;
pub use open::{Addresses, Gateway};
pub(crate) use open::{open_embedded, open_log};
pub use reload::{InForce, Reload};
pub use run::RunError;
