//! The options of subscriptions.

use super::check::Check;
use super::declaration::{self, Declaration, option, options};
use super::value::Value;
use crate::subscriptions::Config;

options! {
    /// The options of subscriptions.
    SubscriptionOptions {
        155 max_subscriptions: usize = option(
            "N",
            "Subscriptions that the log keeps for groups of workers",
        ).with_default("100");
    }
}

impl SubscriptionOptions {
    /// The configuration of subscriptions.
    pub(super) fn config(self, check: &mut Check<'_>) -> Config {
        let default = Config::default();
        let subscriptions_max = check.count("max_subscriptions", self.max_subscriptions);
        Config {
            subscriptions_max: subscriptions_max.unwrap_or(default.subscriptions_max),
        }
    }
}
