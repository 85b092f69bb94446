//! The configuration file: read whole, with its lines, and checked table by table.
//!
//! ```text
//!   file ─► reading ─► document ─┬─► options, by key
//!                                ├─► sources ◄── secrets (file, environment, other files)
//!                                └─► principals
//! ```
//!
//! The commands declare the options, and know what their values mean.

mod document;
mod masking;
mod principals;
mod problem;
mod reading;
mod secrets;
mod sources;

pub use document::{Document, Key, Kind};
pub use masking::without_marked_secrets;
pub use principals::check as check_principals;
pub use problem::{Place, Problem, Report};
pub use reading::{check_whole, read, read_again, warning_at_start};
pub use secrets::{
    Environment, FILE_SUFFIX, LEGACY_VARIABLE, SecretText, VARIABLES, add as add_secrets,
    of_variable, read_file,
};
pub use sources::{ConfiguredSources, check as check_sources};
