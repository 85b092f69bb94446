//! How subscriptions are kept.

/// The configuration of subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The most subscriptions in the log; another one is refused.
    pub subscriptions_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            subscriptions_max: 100,
        }
    }
}
