//! All options of the gateway.

use std::sync::LazyLock;

use super::declaration::Declaration;
use super::doors::DoorOptions;
use super::fanout::FanoutOptions;
use super::log::{LogOptions, RetentionOptions};
use super::logging::LoggingOptions;
use super::nats::NatsOptions;
use super::ports::PortOptions;
use super::subscriptions::SubscriptionOptions;
use super::webhook::WebhookOptions;
use crate::app::file::{Document, Key};

const COMPONENTS: [&[Declaration]; 9] = [
    WebhookOptions::KEYS,
    PortOptions::KEYS,
    LogOptions::KEYS,
    RetentionOptions::KEYS,
    NatsOptions::KEYS,
    FanoutOptions::KEYS,
    SubscriptionOptions::KEYS,
    DoorOptions::KEYS,
    LoggingOptions::KEYS,
];

/// All options, in the order of the help.
pub static OPTIONS: LazyLock<Vec<Declaration>> = LazyLock::new(|| {
    let mut options = COMPONENTS.concat();
    options.sort_by_key(|option| option.order);
    options
});

/// The options that the file may set.
static FILE_KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let options = OPTIONS.iter().filter(|option| option.is_in_file());
    let keys = options.map(|option| Key {
        name: option.key,
        kind: option.kind,
    });
    keys.collect()
});

/// Reads the text of a configuration file, which messages call `name`.
#[must_use]
pub fn parse(name: &str, text: &str) -> Document {
    Document::parse(name, text, &FILE_KEYS)
}
