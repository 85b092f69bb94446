//! Panics: counted, and logged like anything else that strangers may bring about.

use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::log_limit::LogLimit;
use super::metrics::declare;

/// Of the process, since that is what a panic hook belongs to.
static PANICS: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Declares the metric.
pub fn register_panics(registry: &mut Registry) {
    declare(
        registry,
        "panics",
        "Panics; each ended the call or the task that it happened in, and is a fault of this program",
        PANICS.clone(),
    );
}

/// From here on, panics are log lines: ten a second, without a backtrace.
pub(super) fn report() {
    let lines = LogLimit::default();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.inc();
        let Some(unlogged) = lines.admit() else {
            return;
        };
        let location = panic.location().map(ToString::to_string);
        // One that was put together may quote what it choked on, such as a part of a body.
        let literal = panic.payload().downcast_ref::<&str>();
        tracing::error!(
            location = location.unwrap_or_default(),
            reason = literal.copied().unwrap_or_default(),
            unlogged = (unlogged > 0).then_some(unlogged),
            "a thread panicked"
        );
    }));
}
