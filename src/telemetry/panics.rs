//! Panics: counted, and logged with a limit, since callers may cause them.

use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::log_limit::LogLimit;
use super::metrics::declare;

/// One counter for the process, because a panic hook is the process's.
static PANICS: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Registers the metric.
pub fn register_panics(registry: &mut Registry) {
    declare(
        registry,
        "panics",
        "Panics; each ended the call or the task that it happened in, and is a fault of this program",
        PANICS.clone(),
    );
}

/// Makes panics log lines: at most ten a second, without a backtrace.
pub(super) fn report() {
    let lines = LogLimit::default();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.inc();
        let Some(unlogged) = lines.admit() else {
            return;
        };
        let location = panic.location().map(ToString::to_string);
        // A formatted message may quote its input, such as a part of a body.
        let literal = panic.payload().downcast_ref::<&str>();
        tracing::error!(
            location = location.unwrap_or_default(),
            reason = literal.copied().unwrap_or_default(),
            unlogged = (unlogged > 0).then_some(unlogged),
            "a thread panicked"
        );
    }));
}
