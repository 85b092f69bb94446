//! The options of the gateway: from flags, variables and the file to a [`crate::app::Config`].
//!
//! ```text
//!   flags, variables ─┐
//!   file ─► Document ─┴─► Settings ─► check: values, by component ─► Config, or all problems
//! ```
//!
//! A component's options are declared in its file, each once, with `options!`: the flag, the
//! variable, the key of the file and the help come from that. `serve`, `config check` and a
//! reload take the same way, so that they agree.

mod all;
mod check;
mod config;
mod declaration;
mod default_source;
mod doors;
mod fanout;
mod flags;
mod limit;
mod load;
mod log;
mod logging;
mod nats;
mod period;
mod ports;
mod print;
mod restart;
mod settings;
mod size;
mod subscriptions;
mod traces;
mod value;
mod webhook;

pub use all::{OPTIONS, parse};
pub use config::{Checked, check, check_stream, check_with_files, logging};
pub use declaration::{AtReload, Declaration, OptionPlace};
pub use flags::{LogArgs, ServeArgs, refusal};
pub use limit::Limit;
pub use load::Loaded;
pub use period::Period;
pub use print::{Printed, printed};
pub use settings::{Given, Origin, Settings};
pub use size::Size;

#[cfg(all(test, feature = "nats"))]
mod tests;
