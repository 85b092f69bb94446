//! The options of the fan-out.

use super::check::Check;
use super::declaration::{self, Declaration, option, options};
use super::size::Size;
use super::value::Value;
use crate::fanout::Config;

/// Minimum size of the ring, a few of the largest events; a smaller ring would drop them at
/// once.
const RING_BYTES_MIN: Size = Size(4 << 20);

options! {
    /// The options of the fan-out.
    FanoutOptions {
        140 ring_size: Size = option(
            "SIZE",
            "Memory for recent events, shared by all subscribers",
        ).with_default("64MiB");
        150 max_subscribers: usize = option(
            "N",
            "Subscriptions open at once",
        ).with_default("10000");
    }
}

impl FanoutOptions {
    /// The fan-out's configuration, for a gateway with these sources.
    pub(super) fn config(self, check: &mut Check<'_>, sources: Vec<String>) -> Config {
        if self.ring_size.is_some_and(|size| size < RING_BYTES_MIN) {
            check.refuse(
                "ring_size",
                "must be at least 4MiB, so that it holds a few of the largest events",
            );
        }
        let default = Config::default();
        let subscribers_max = check.count("max_subscribers", self.max_subscribers);
        Config {
            ring_bytes_max: self.ring_size.map_or(default.ring_bytes_max, Size::bytes),
            subscribers_max: subscribers_max.unwrap_or(default.subscribers_max),
            sources,
        }
    }
}
