//! Takes events into the log, whatever produced them.
//!
//! ```text
//!   webhook ─┐
//!            ├─► Submission ─► decode ─► pin of the instance ─► append (dedupe, fsync)
//!   copy ────┘
//! ```
//!
//! A producer hands in what it trusts: the webhook a delivery that it verified, an import the
//! content of an archive. The *pin* of a source is the Clerk instance that its bodies must name.
//! What this module does not know: HTTP, signatures, subscribers.

mod metrics;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::clerk;
use crate::event::UnixMillis;
use crate::log::{Append, Entry};
use crate::telemetry::traces::{Attribute, Trace};

pub use crate::log::{AppendError, Appended};
pub use metrics::Metrics;

/// An event as a producer hands it in.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The configured source that it is from.
    pub source: String,
    /// The `svix-id`, unique per source.
    pub id: String,
    /// `svix-timestamp`: when the delivery was signed.
    pub send_time: UnixMillis,
    /// When the delivery arrived.
    pub receive_time: UnixMillis,
    /// The body, byte for byte as it was signed.
    pub body: Bytes,
}

/// Why an event was not taken in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The body names another Clerk instance than the source's.
    #[error("the body is of instance {found}, and the source is of {expected}")]
    OtherInstance {
        /// The instance that the source is pinned to.
        expected: String,
        /// The instance that the body names.
        found: String,
    },
    /// The log did not make it durable.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// The instances that bodies must name, by source; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Pins {
    instances: Arc<RwLock<HashMap<String, String>>>,
}

impl Pins {
    /// Pins each of `sources` to its instance, or to none. Sources that are not among them keep
    /// their pins, because deliveries of a source that was removed may be on their way.
    pub fn set(&self, sources: impl IntoIterator<Item = (String, Option<String>)>) {
        let mut instances = self.instances.write();
        for (source, instance) in sources {
            match instance {
                Some(instance) => instances.insert(source, instance),
                None => instances.remove(&source),
            };
        }
    }

    /// Refuses only a body that names another instance: Svix's ping and older bodies name
    /// none.
    fn check(&self, source: &str, found: Option<&str>) -> Result<(), Error> {
        let instances = self.instances.read();
        match (instances.get(source), found) {
            (Some(expected), Some(found)) if expected != found => Err(Error::OtherInstance {
                expected: expected.clone(),
                found: found.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// What became of an event that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// What the log did with it.
    pub appended: Appended,
    /// When it occurred, if its body says so.
    pub occur_time: Option<UnixMillis>,
}

/// An event, decoded.
struct Decoded {
    /// Its declared type.
    event_type: &'static str,
    occur_time: Option<UnixMillis>,
    drift: Vec<clerk::Drift>,
    /// What the log takes, unless the body is of another instance.
    entry: Result<Entry, Error>,
}

/// Decodes events and appends them to the log; clones share it.
#[derive(Clone, Debug)]
pub struct Intake {
    log: Arc<dyn Append>,
    pins: Pins,
    metrics: Metrics,
}

impl Intake {
    /// An intake of `log` that holds each source to its pin.
    #[must_use]
    pub fn new(log: Arc<dyn Append>, pins: Pins, metrics: Metrics) -> Self {
        Self { log, pins, metrics }
    }

    /// Decodes an event and makes it durable, unless its source and id are in the log already.
    /// Both are steps of the trace.
    ///
    /// # Errors
    /// When the body is of another instance, or the log does not take it.
    pub async fn accept(
        &self,
        submission: Submission,
        trace: &mut Trace,
    ) -> Result<Accepted, Error> {
        trace.step("decode");
        let decoded = self.decode(submission);
        trace.set(Attribute::EventType(decoded.event_type));
        trace.step("append");
        self.append(decoded).await
    }

    /// The same, but for the order: an event that is submitted before another one is before it
    /// in the log, whichever answer is awaited first.
    pub fn submit(
        &self,
        submission: Submission,
    ) -> impl Future<Output = Result<Accepted, Error>> + Send + use<'_> {
        self.append(self.decode(submission))
    }

    fn decode(&self, submission: Submission) -> Decoded {
        let envelope = clerk::Envelope {
            id: &submission.id,
            source: &submission.source,
            send_time: submission.send_time,
        };
        let decoded = clerk::decode(envelope, &submission.body);
        let instance_id = decoded.attributes.instance_id.as_deref();
        let check = self.pins.check(&submission.source, instance_id);
        Decoded {
            event_type: clerk::catalog::label(&decoded.attributes.event_type),
            occur_time: decoded.occur_time,
            drift: decoded.drift,
            entry: check.map(|()| Entry {
                id: submission.id,
                attributes: decoded.attributes,
                receive_time: submission.receive_time,
                event: decoded.event,
                decoding: clerk::decoding(),
                payload: submission.body,
            }),
        }
    }

    /// Hands the event to the log at once, and returns what waits for the answer.
    fn append(
        &self,
        decoded: Decoded,
    ) -> impl Future<Output = Result<Accepted, Error>> + Send + use<'_> {
        let Decoded {
            event_type,
            occur_time,
            drift,
            entry,
        } = decoded;
        let appending = entry.map(|entry| self.log.append(entry));
        async move {
            let appended = appending?.await?;
            if appended != Appended::Duplicate {
                self.metrics.count_drift(event_type, &drift);
            }
            Ok(Accepted {
                appended,
                occur_time,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use parking_lot::Mutex;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::event::Position;

    /// Keeps what is appended in the order of the calls.
    #[derive(Debug, Default)]
    struct Appends(Mutex<Vec<Entry>>);

    impl Append for Appends {
        fn append(&self, entry: Entry) -> BoxFuture<'static, Result<Appended, AppendError>> {
            let mut entries = self.0.lock();
            let appended = if entries.iter().any(|known| known.id == entry.id) {
                Appended::Duplicate
            } else {
                entries.push(entry);
                Appended::Committed(Position::new(entries.len() as u64))
            };
            Box::pin(std::future::ready(Ok(appended)))
        }
    }

    fn submission(source: &str, id: &str, body: &str) -> Submission {
        Submission {
            source: source.to_owned(),
            id: id.to_owned(),
            send_time: UnixMillis::new(1_000),
            receive_time: UnixMillis::new(2_000),
            body: Bytes::from(body.to_owned()),
        }
    }

    #[tokio::test]
    async fn a_pinned_source_refuses_only_bodies_of_another_instance() {
        let log = Arc::new(Appends::default());
        let pins = Pins::default();
        let intake = Intake::new(log.clone(), pins.clone(), Metrics::default());
        let pin = |instance: Option<&str>| {
            pins.set([("pinned".to_owned(), instance.map(str::to_owned))]);
        };
        let accept = async |source: &str, instance_id: Option<&str>| {
            let body = serde_json::json!({"type": "ping", "instance_id": instance_id});
            let id = log.0.lock().len().to_string();
            let submission = submission(source, &id, &body.to_string());
            intake.accept(submission, &mut Trace::default()).await
        };
        pin(Some("ins_1"));
        for (source, instance_id) in [
            ("pinned", Some("ins_1")),
            ("pinned", None),
            ("other", Some("ins_2")),
        ] {
            let accepted = accept(source, instance_id).await;
            assert!(accepted.is_ok(), "{source} {instance_id:?}");
        }
        let refused = accept("pinned", Some("ins_2")).await;
        assert!(matches!(
            refused,
            Err(Error::OtherInstance { expected, found }) if expected == "ins_1" && found == "ins_2"
        ));
        assert_eq!(log.0.lock().len(), 3);
        pins.set([("other".to_owned(), None)]);
        assert!(accept("pinned", Some("ins_2")).await.is_err());
        pin(None);
        assert!(accept("pinned", Some("ins_2")).await.is_ok());
    }

    #[tokio::test]
    async fn events_are_appended_in_the_order_of_their_submission() {
        let log = Arc::new(Appends::default());
        let intake = Intake::new(log.clone(), Pins::default(), Metrics::default());
        let first = intake.submit(submission("default", "msg_1", "{}"));
        let second = intake.submit(submission("default", "msg_2", "{}"));
        assert!(second.await.is_ok() && first.await.is_ok());
        let ids: Vec<String> = log.0.lock().iter().map(|entry| entry.id.clone()).collect();
        assert_eq!(ids, ["msg_1", "msg_2"]);
    }

    #[tokio::test]
    async fn drift_is_counted_once_per_event() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let log = Arc::new(Appends::default());
        let intake = Intake::new(log, Pins::default(), metrics);
        let body = r#"{"type":"user.deleted","data":{"id":"user_1"},"new_field":1}"#;
        for appended in [Appended::Committed(Position::new(1)), Appended::Duplicate] {
            let accepted = intake
                .accept(submission("default", "msg_1", body), &mut Trace::default())
                .await;
            assert_eq!(
                accepted.map(|accepted| accepted.appended).ok(),
                Some(appended)
            );
        }
        let mut text = String::new();
        encode(&mut text, &registry).expect("encodes");
        let counted = "event_drift_total{event_type=\"user.deleted\",field=\"new_field\",kind=\"unknown_field\"} 1\n";
        assert!(text.contains(counted), "{text}");
    }
}
