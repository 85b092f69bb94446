//! The flags of retention.

use std::time::Duration;

use clap::Args;

use super::serve::named;
use super::{Failure, units};
use crate::app::FileConfig;

/// A log smaller than this would be removed as fast as it is written.
const BYTES_MIN: u64 = 16 << 20;

/// What stays in the log.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct RetentionArgs {
    /// Remove events that are older; `off` keeps them [default: 30d]
    #[arg(long, env = "CLERKCAST_RETAIN_FOR", value_name = "DURATION")]
    retain_for: Option<String>,

    /// Remove the oldest events while the log is larger; `off` for no limit [default: 10GiB]
    #[arg(long, env = "CLERKCAST_RETAIN_BYTES", value_name = "SIZE")]
    retain_bytes: Option<String>,
}

/// The same, checked.
pub(super) struct Retention {
    pub(super) retain_for: Option<Duration>,
    pub(super) retain_bytes: Option<u64>,
}

impl RetentionArgs {
    pub(super) fn check(&self, file: &FileConfig) -> Result<Retention, Failure> {
        let retain_for = self.retain_for.as_ref().or(file.retain_for.as_ref());
        let retain_for = retain_for.map_or("30d", String::as_str);
        let retain_bytes = self.retain_bytes.as_ref().or(file.retain_bytes.as_ref());
        let retain_bytes = retain_bytes.map_or("10GiB", String::as_str);
        let retain_bytes = named("--retain-bytes", units::or_off(retain_bytes, units::bytes))?;
        if retain_bytes.is_some_and(|bytes| bytes < BYTES_MIN) {
            return Err(Failure::Usage(
                "--retain-bytes: the least is 16MiB".to_owned(),
            ));
        }
        Ok(Retention {
            retain_for: named("--retain-for", units::or_off(retain_for, units::duration))?,
            retain_bytes,
        })
    }
}
