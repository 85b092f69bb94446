//! The composition root: opens the log, binds every listener, connects the modules, and stops
//! them in the right order.

mod announce;
mod certificates;
mod config;
mod controls;
pub mod file;
mod open;
mod otlp;
mod reload;
mod run;
mod systemd;

pub use announce::{announce, seconds, shown_duration};
pub use certificates::Certificates;
pub(crate) use config::NO_NATS;
pub use config::{Config, DoorConfig, LogConfig, PortConfig};
pub use controls::Controls;
pub use open::{Addresses, Gateway};
pub(crate) use open::{open_embedded, open_log};
pub(crate) use otlp::NO_OTLP;
pub use otlp::{OtlpConfig, OtlpEndpoint};
pub use reload::{InForce, Reload, Reloaded, restart_to_take_up};
pub use run::RunError;
pub use systemd::{Recovery, ready};
