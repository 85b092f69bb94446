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
use super::traces::TraceOptions;
use super::webhook::WebhookOptions;
use crate::app::file::{Document, Key};

/// The options of each component, and their heading in the help, in the order of the help.
const COMPONENTS: [(&str, &[Declaration]); 10] = [
    ("Webhooks", WebhookOptions::KEYS),
    ("Subscribers", DoorOptions::KEYS),
    ("Subscribers", FanoutOptions::KEYS),
    ("Subscribers", SubscriptionOptions::KEYS),
    ("Log", LogOptions::KEYS),
    ("Log", RetentionOptions::KEYS),
    ("NATS", NatsOptions::KEYS),
    ("TLS and ports", PortOptions::KEYS),
    ("Observability", LoggingOptions::KEYS),
    ("Observability", TraceOptions::KEYS),
];

/// All options, in the order of the help.
pub static OPTIONS: LazyLock<Vec<Declaration>> = LazyLock::new(|| {
    let mut all: Vec<Declaration> = Vec::new();
    for groups in COMPONENTS.chunk_by(|(group, _), (next, _)| group == next) {
        let options = groups.iter().flat_map(|(group, options)| {
            let declared = options.iter();
            declared.map(|option| Declaration { group, ..*option })
        });
        let mut options: Vec<Declaration> = options.collect();
        options.sort_by_key(|option| option.order);
        all.extend(options);
    }
    all
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
