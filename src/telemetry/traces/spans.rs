//! The spans of a trace that has ended, and their place in the queue.

use std::time::{Duration, Instant, SystemTime};

use futures_util::future::BoxFuture;
use http::HeaderValue;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    IdGenerator as _, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample as _, SpanData,
    SpanEvents, SpanLinks,
};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::recording::{Recording, Value};
use super::{Sink, TRACEPARENT};

/// Spans that wait for the receiver; more are dropped.
pub(super) const QUEUE_SPANS: usize = 2048;
/// Places of the queue that spans of unverified senders leave to others.
const RESERVED_SPANS: usize = QUEUE_SPANS / 2;
/// For the receiver to take the last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes spans, and puts them into the queue.
#[derive(Debug)]
pub(super) struct Spans {
    pub(super) queue: mpsc::Sender<SpanData>,
    /// Of traces without a parent.
    pub(super) sampler: Sampler,
    pub(super) ids: RandomIdGenerator,
    pub(super) scope: InstrumentationScope,
    pub(super) dropped: Counter,
    /// Cancelled to have everything sent.
    pub(super) ending: CancellationToken,
    /// Cancelled when everything is.
    pub(super) ended: CancellationToken,
}

impl Sink for Spans {
    fn take(&self, recording: Recording) {
        let ended = Instant::now();
        let reserved = if recording.is_trusted {
            0
        } else {
            RESERVED_SPANS
        };
        let Some(spans) = self.spans_of(recording, ended) else {
            return;
        };
        let count = spans.len();
        let has_room = self.queue.capacity() >= reserved + count;
        let places = has_room.then(|| self.queue.try_reserve_many(count));
        let Some(Ok(places)) = places else {
            self.dropped.inc_by(count as u64);
            return;
        };
        for (place, span) in places.zip(spans) {
            place.send(span);
        }
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.ending.cancel();
            if timeout(FLUSH_TIMEOUT, self.ended.cancelled())
                .await
                .is_err()
            {
                tracing::warn!("the receiver of traces did not take the last spans within 1 s");
            }
        })
    }
}

impl Spans {
    /// The span of the whole, and one for each step; none if the trace is not sampled.
    fn spans_of(&self, recording: Recording, ended: Instant) -> Option<Vec<SpanData>> {
        let parent = recording.traceparent.as_ref().and_then(parent);
        let trace_id = match &parent {
            Some(parent) => parent.trace_id(),
            None => self.ids.new_trace_id(),
        };
        let is_sampled = match &parent {
            Some(parent) => parent.is_sampled(),
            None => self.samples(trace_id, recording.name),
        };
        if !is_sampled {
            return None;
        }
        let at = |instant: Instant| {
            recording.began + instant.saturating_duration_since(recording.started)
        };
        let ends = recording.steps.iter().skip(1).map(|(_, begins)| *begins);
        let ends = ends.chain([ended]);
        let root_id = self.ids.new_span_id();
        let mut spans = vec![SpanData {
            parent_span_id: parent
                .as_ref()
                .map_or(SpanId::INVALID, SpanContext::span_id),
            parent_span_is_remote: parent.is_some(),
            span_kind: SpanKind::Server,
            status: match recording.is_fault {
                true => Status::error(""),
                false => Status::Unset,
            },
            ..self.span(trace_id, root_id, recording.began, at(ended))
        }];
        for ((name, begins), end) in recording.steps.iter().zip(ends) {
            spans.push(SpanData {
                parent_span_id: root_id,
                name: (*name).into(),
                ..self.span(trace_id, self.ids.new_span_id(), at(*begins), at(end))
            });
        }
        let attributes = recording.attributes.into_iter().map(to_key_value);
        spans[0].attributes = attributes.collect();
        spans[0].name = recording.name.into();
        Some(spans)
    }

    fn samples(&self, trace_id: TraceId, name: &str) -> bool {
        let kind = SpanKind::Server;
        let sampler = &self.sampler;
        let result = sampler.should_sample(None, trace_id, name, &kind, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    /// A span of this process, within a trace that is sampled.
    fn span(&self, trace_id: TraceId, id: SpanId, start: SystemTime, end: SystemTime) -> SpanData {
        let (flags, state) = (TraceFlags::SAMPLED, TraceState::NONE);
        SpanData {
            span_context: SpanContext::new(trace_id, id, flags, false, state),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "".into(),
            start_time: start,
            end_time: end,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

fn to_key_value((key, value): (&'static str, Value)) -> KeyValue {
    match value {
        Value::Text(text) => KeyValue::new(key, text),
        Value::Number(number) => KeyValue::new(key, number),
    }
}

/// The span that a header names, if it is well-formed. `tracestate`, which may hold any text, is
/// left out.
fn parent(traceparent: &HeaderValue) -> Option<SpanContext> {
    let header = Header(traceparent.to_str().ok()?);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &header);
    let parent = context.span().span_context().clone();
    parent.is_valid().then_some(parent)
}

/// The one header that is read.
struct Header<'a>(&'a str);

impl Extractor for Header<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::traces::{Attribute, Trace, Traces};
    use http::HeaderMap;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn queue(ratio: f64) -> (Traces, Counter, mpsc::Receiver<SpanData>) {
        let (queue, received) = mpsc::channel(QUEUE_SPANS);
        let dropped = Counter::default();
        let spans = Spans {
            queue,
            sampler: Sampler::TraceIdRatioBased(ratio),
            ids: RandomIdGenerator::default(),
            scope: InstrumentationScope::default(),
            dropped: dropped.clone(),
            ending: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        (Traces::new(spans), dropped, received)
    }

    fn headers(traceparent: &str) -> HeaderMap {
        let value = traceparent.parse().expect("a value");
        HeaderMap::from_iter([(http::HeaderName::from_static(TRACEPARENT), value)])
    }

    fn trusted(traces: &Traces, traceparent: &str) -> Trace {
        let mut trace = traces.begin("POST");
        trace.trust(&headers(traceparent));
        trace
    }

    fn all(received: &mut mpsc::Receiver<SpanData>) -> Vec<SpanData> {
        std::iter::from_fn(|| received.try_recv().ok()).collect()
    }

    #[test]
    fn steps_lie_within_their_trace_one_after_the_other() {
        let (traces, _, mut received) = queue(1.0);
        let mut trace = traces.begin("POST");
        for step in ["verify", "decode", "append"] {
            trace.step(step);
        }
        trace.set(Attribute::HttpStatus(503));
        trace.end();
        let spans = all(&mut received);
        let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["POST", "verify", "decode", "append"]);
        let root = &spans[0];
        assert_eq!(root.parent_span_id, SpanId::INVALID);
        assert_eq!(root.status, Status::error(""));
        for step in &spans[1..] {
            assert_eq!(step.parent_span_id, root.span_context.span_id());
            assert_eq!(step.span_context.trace_id(), root.span_context.trace_id());
            assert!(step.attributes.is_empty());
        }
        for pair in spans[1..].windows(2) {
            assert_eq!(pair[0].end_time, pair[1].start_time);
        }
        assert!(root.start_time <= spans[1].start_time);
        assert_eq!(root.end_time, spans[3].end_time);
    }

    #[test]
    fn a_fault_of_the_gateway_is_an_error_and_a_refusal_is_not() {
        let (traces, _, mut received) = queue(1.0);
        for (attribute, is_error) in [
            (Attribute::HttpStatus(200), false),
            (Attribute::HttpStatus(400), false),
            (Attribute::HttpStatus(503), true),
            (Attribute::GrpcStatus(0), false),
            (Attribute::GrpcStatus(5), false),
            (Attribute::GrpcStatus(13), true),
            (Attribute::GrpcStatus(14), true),
        ] {
            let mut trace = traces.begin("POST");
            trace.set(attribute);
            trace.end();
            let [span] = &all(&mut received)[..] else {
                panic!("one span");
            };
            let is_marked = span.status != Status::Unset;
            assert_eq!(is_marked, is_error, "{attribute:?}");
        }
    }

    #[test]
    fn only_a_trusted_sender_names_the_parent() {
        let (traces, _, mut received) = queue(1.0);
        trusted(&traces, PARENT).end();
        let [span] = &all(&mut received)[..] else {
            panic!("one span");
        };
        let trace_id = span.span_context.trace_id().to_string();
        assert_eq!(trace_id, "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
        assert!(span.parent_span_is_remote);
        traces.begin("POST").end();
        for malformed in [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            trusted(&traces, malformed).end();
        }
        let others = all(&mut received);
        assert_eq!(others.len(), 7);
        for span in others {
            assert_eq!(span.parent_span_id, SpanId::INVALID);
            assert!(span.span_context.trace_id().to_string() != trace_id);
        }
    }

    #[test]
    fn a_trace_with_a_parent_follows_it_and_others_the_ratio() {
        let (traces, dropped, mut received) = queue(0.0);
        traces.begin("POST").end();
        trusted(&traces, &PARENT.replace("-01", "-00")).end();
        assert!(all(&mut received).is_empty());
        trusted(&traces, PARENT).end();
        assert_eq!(all(&mut received).len(), 1);
        assert_eq!(dropped.get(), 0);
        let (traces, _, mut received) = queue(0.5);
        for _ in 0..1000 {
            traces.begin("POST").end();
        }
        let sampled = all(&mut received).len();
        assert!((300..700).contains(&sampled), "{sampled}");
    }

    #[test]
    fn spans_beyond_the_queue_are_dropped_and_counted() {
        let (traces, dropped, mut received) = queue(1.0);
        let take = |is_trusted: bool| {
            let mut trace = traces.begin("POST");
            if is_trusted {
                trace.trust(&HeaderMap::new());
            }
            trace.step("verify");
        };
        // Callers that were not verified leave half of it to others.
        for _ in 0..QUEUE_SPANS {
            take(false);
        }
        assert_eq!(dropped.get(), (QUEUE_SPANS + RESERVED_SPANS) as u64);
        for _ in 0..QUEUE_SPANS {
            take(true);
        }
        assert_eq!(dropped.get(), 2 * (QUEUE_SPANS + RESERVED_SPANS) as u64);
        assert_eq!(all(&mut received).len(), QUEUE_SPANS);
        take(true);
        assert_eq!(all(&mut received).len(), 2);
    }
}
