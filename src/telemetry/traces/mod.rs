//! Traces: what became of one webhook or call, as spans of OpenTelemetry.
//!
//! ```text
//!   webhook, intake, doors ─► Trace ──ends──► Spans ─► queue ─► thread `otlp` ─► receiver
//!                             times,          at most 2,048     at most 512
//!                             attributes                        at once
//! ```
//!
//! A [`Trace`] notes times and attributes. Its spans are made when it ends, because only a
//! sender that was verified may name their parent. Where traces are off, a trace is empty and
//! notes nothing. Log lines neither carry spans nor become part of them.

#[cfg(feature = "otlp")]
mod export;
mod recording;
#[cfg(feature = "otlp")]
mod spans;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::HeaderMap;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::metrics::counter;

#[cfg(feature = "otlp")]
pub use export::start;
pub use recording::{Attribute, Recording};

const TRACEPARENT: &str = "traceparent";

/// What becomes of traces that have ended.
pub trait Sink: fmt::Debug + Send + Sync + 'static {
    /// Takes a trace that ends now. Never waits.
    fn take(&self, recording: Recording);

    /// Waits until what was taken is sent, for at most a second.
    fn flush(&self) -> BoxFuture<'_, ()>;
}

/// Begins traces; clones share where they go. By default, traces are off.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    sink: Option<Arc<dyn Sink>>,
}

impl Traces {
    /// Traces that `sink` takes.
    #[must_use]
    pub fn new(sink: impl Sink) -> Self {
        Self {
            sink: Some(Arc::new(sink)),
        }
    }

    /// Whether traces are on.
    #[must_use]
    pub fn are_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Begins a trace, if traces are on.
    #[must_use]
    pub fn begin(&self, name: &'static str) -> Trace {
        Trace(self.sink.as_ref().map(|sink| {
            Box::new(Active {
                sink: Arc::clone(sink),
                recording: Recording::begin(name),
            })
        }))
    }

    /// Waits until the traces that have ended are sent, for at most a second. What ends later
    /// is dropped.
    pub async fn flush(&self) {
        if let Some(sink) = &self.sink {
            sink.flush().await;
        }
    }
}

/// A trace under way, which ends when it is dropped; empty where traces are off.
#[derive(Debug, Default)]
pub struct Trace(Option<Box<Active>>);

#[derive(Debug)]
struct Active {
    sink: Arc<dyn Sink>,
    recording: Recording,
}

impl Trace {
    /// Begins a step of the work. The step before it ends.
    pub fn step(&mut self, name: &'static str) {
        if let Some(active) = &mut self.0 {
            active.recording.step(name);
        }
    }

    /// Adds an attribute.
    pub fn set(&mut self, attribute: Attribute<'_>) {
        if let Some(active) = &mut self.0 {
            active.recording.set(attribute);
        }
    }

    /// Notes that the sender is known. The trace becomes a part of the one that its headers
    /// name, if they name one.
    pub fn trust(&mut self, headers: &HeaderMap) {
        if let Some(active) = &mut self.0 {
            active.recording.trust(headers.get(TRACEPARENT).cloned());
        }
    }

    /// Ends it.
    pub fn end(self) {}
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Some(active) = self.0.take() {
            active.sink.take(active.recording);
        }
    }
}

/// The metrics of traces; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    #[cfg_attr(
        not(feature = "otlp"),
        expect(dead_code, reason = "stays at 0 in a build without traces")
    )]
    dropped: Counter,
}

impl Metrics {
    /// Declares them.
    pub fn register(registry: &mut Registry) -> Self {
        Self {
            dropped: counter(
                registry,
                "otlp_spans_dropped",
                "Spans that were not sent, since the queue was full or the receiver did not take them",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_that_is_off_is_one_empty_word() {
        assert_eq!(size_of::<Trace>(), size_of::<usize>());
        let mut trace = Traces::default().begin("POST");
        trace.step("verify");
        trace.trust(&HeaderMap::new());
        trace.set(Attribute::Source("default"));
        assert!(trace.0.is_none());
    }
}
