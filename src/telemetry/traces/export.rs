//! The thread that sends spans. It has a runtime of its own, so that neither encoding nor a
//! receiver that hangs holds up a webhook, or the end of the process.

use std::fmt;
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::trace::{RandomIdGenerator, Sampler, SpanData, SpanExporter};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::spans::{QUEUE_SPANS, Spans};
use super::{Metrics, Traces};

const THREAD: &str = "otlp";
/// Spans that are sent at once.
const BATCH_SPANS: usize = 512;
/// How long a span waits for others.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// How often the queue is looked at meanwhile. It is not waited for: each span would then wake
/// this thread, which its sender pays for.
const BATCH_TICK: Duration = Duration::from_millis(20);
/// For the receiver to take a batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval between two lines about a receiver that takes nothing.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// Begins to send traces, those without a parent in this ratio, by the exporter that `build`
/// makes on the sending thread.
///
/// # Errors
/// When the thread does not start or the exporter cannot be made.
pub async fn start<E, B>(build: B, ratio: f64, metrics: &Metrics) -> Result<Traces, String>
where
    E: SpanExporter + 'static,
    B: FnOnce() -> Result<E, String> + Send + 'static,
{
    let (queue, received) = mpsc::channel(QUEUE_SPANS);
    let (report, reported) = oneshot::channel();
    let dropped = metrics.dropped.clone();
    let ending = CancellationToken::new();
    let ended = CancellationToken::new();
    let sending = Sending {
        queue: received,
        dropped: dropped.clone(),
        ending: ending.clone(),
        failures: Failures::default(),
    };
    let has_ended = ended.clone();
    let send = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string());
        let exporter = runtime.and_then(|runtime| {
            let entered = runtime.enter();
            let exporter = build()?;
            drop(entered);
            Ok((runtime, exporter))
        });
        match exporter {
            Ok((runtime, exporter)) => {
                let _gave_up = report.send(Ok(()));
                runtime.block_on(sending.run(&exporter));
                has_ended.cancel();
            }
            Err(error) => {
                let _gave_up = report.send(Err(error));
            }
        }
    };
    let thread = std::thread::Builder::new().name(THREAD.to_owned());
    thread.spawn(send).map_err(|error| error.to_string())?;
    reported.await.map_err(|error| error.to_string())??;
    Ok(Traces::new(Spans {
        queue,
        sampler: Sampler::TraceIdRatioBased(ratio),
        ids: RandomIdGenerator::default(),
        scope: InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
        dropped,
        ending,
        ended,
    }))
}

/// What the thread has at hand.
struct Sending {
    queue: mpsc::Receiver<SpanData>,
    dropped: Counter,
    ending: CancellationToken,
    failures: Failures,
}

impl Sending {
    /// Sends spans until the process ends.
    async fn run(mut self, exporter: &impl SpanExporter) {
        while let Some(batch) = self.next_batch().await {
            let count = batch.len() as u64;
            let sent = timeout(EXPORT_TIMEOUT, exporter.export(batch)).await;
            match sent {
                Ok(Ok(())) => {
                    if let Some(lost) = self.failures.note_success() {
                        tracing::info!(lost, "traces are sent again");
                    }
                }
                Ok(Err(error)) => self.lose(count, &error),
                Err(_) => self.lose(count, &"it did not answer within 10 s"),
            }
        }
    }

    fn lose(&mut self, spans: u64, error: &dyn fmt::Display) {
        self.dropped.inc_by(spans);
        if let Some(spans) = self.failures.note(spans, Instant::now()) {
            tracing::warn!(spans, %error, "traces cannot be sent; these spans are lost");
        }
    }

    /// The next spans; none once the process ends and the queue is empty.
    async fn next_batch(&mut self) -> Option<Vec<SpanData>> {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            _count = self.queue.recv_many(&mut batch, BATCH_SPANS) => {}
            () = self.ending.cancelled() => {}
        }
        let deadline = Instant::now() + BATCH_DELAY;
        while batch.len() < BATCH_SPANS && !self.queue.is_closed() && Instant::now() < deadline {
            let waiting = timeout(BATCH_TICK, self.ending.cancelled()).await;
            while batch.len() < BATCH_SPANS
                && let Ok(span) = self.queue.try_recv()
            {
                batch.push(span);
            }
            if waiting.is_ok() {
                break;
            }
        }
        (!batch.is_empty()).then_some(batch)
    }
}

/// When to log about a receiver that takes nothing: at once, then once a minute, and when it
/// takes spans again after such a line.
#[derive(Default)]
struct Failures {
    logged: Option<Instant>,
    /// Whether the last line was about a failure.
    is_failing: bool,
    unlogged_spans: u64,
}

impl Failures {
    /// Counts lost spans. Returns how many to log, if a line is due.
    fn note(&mut self, spans: u64, now: Instant) -> Option<u64> {
        self.unlogged_spans += spans;
        let is_due = |logged: Instant| now.duration_since(logged) >= LINE_INTERVAL;
        if !self.logged.is_none_or(is_due) {
            return None;
        }
        self.logged = Some(now);
        self.is_failing = true;
        Some(std::mem::take(&mut self.unlogged_spans))
    }

    /// Returns how many spans to log as lost meanwhile, if the last line was about a failure.
    fn note_success(&mut self) -> Option<u64> {
        let was_failing = std::mem::take(&mut self.is_failing);
        was_failing.then(|| std::mem::take(&mut self.unlogged_spans))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_fails_is_logged_once_a_minute() {
        let mut failures = Failures::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(failures.note_success(), None);
        assert_eq!(failures.note(4, after(0)), Some(4));
        assert_eq!(failures.note(5, after(1)), None);
        assert_eq!(failures.note(6, after(59)), None);
        assert_eq!(failures.note(7, after(60)), Some(18));
        assert_eq!(failures.note(8, after(61)), None);
        assert_eq!(failures.note_success(), Some(8));
        // A receiver that answers now and then causes no more lines.
        for second in 62..120 {
            assert_eq!(failures.note(1, after(second)), None);
            assert_eq!(failures.note_success(), None);
        }
        assert_eq!(failures.note(1, after(120)), Some(59));
    }
}
