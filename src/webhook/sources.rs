//! The accepted sources, which can be replaced while webhooks arrive.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::metrics::{Metrics, SourceMetrics};
use super::response::Refusal;
use super::secret::SigningSecret;
use super::verify::Verifier;
use crate::intake::Pins;

/// One Clerk instance whose webhooks are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name, in the URL and in `Event.source`.
    pub name: String,
    /// Its signing secrets.
    pub secrets: Vec<SigningSecret>,
    /// The instance that its bodies must name, if they name one.
    pub instance_id: Option<String>,
}

impl Source {
    /// Its secrets, each by the start of its key's SHA-256.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        let secrets = self.secrets.iter();
        secrets.map(SigningSecret::fingerprint).collect()
    }
}

/// The accepted sources by name; clones share them.
#[derive(Clone, Debug)]
pub struct Sources {
    current: Arc<RwLock<ByName>>,
    pins: Pins,
    metrics: Metrics,
}

type ByName = HashMap<String, AcceptedSource>;

/// What verifies and counts the deliveries of an accepted source.
#[derive(Debug)]
pub(super) struct AcceptedSource {
    pub(super) verifier: Verifier,
    pub(super) metrics: Arc<SourceMetrics>,
}

impl Sources {
    /// Accepts the webhooks of these, each pinned to its instance.
    #[must_use]
    pub fn new(sources: &[Source], pins: Pins, metrics: Metrics) -> Self {
        let accepted = Self {
            current: Arc::default(),
            pins,
            metrics,
        };
        accepted.replace(sources);
        accepted
    }

    /// Accepts the webhooks of these from now on, and of no other. When it returns, nothing is
    /// verified with a former secret any more, not even a body that was on its way.
    pub fn replace(&self, sources: &[Source]) {
        let by_name = |source: &Source| (source.name.clone(), Verifier::new(&source.secrets));
        let verifiers: HashMap<String, Verifier> = sources.iter().map(by_name).collect();
        let pins = |source: &Source| (source.name.clone(), source.instance_id.clone());
        let mut current = self.current.write();
        self.pins.set(sources.iter().map(pins));
        let mut former = std::mem::take(&mut *current);
        for (name, verifier) in verifiers {
            let metrics = match former.remove(&name) {
                Some(kept) => kept.metrics,
                None => Arc::new(self.metrics.expect_source(&name)),
            };
            current.insert(name, AcceptedSource { verifier, metrics });
        }
        for removed in former.keys() {
            self.metrics.forget_source(removed);
        }
    }

    /// Fails unless the source is accepted.
    pub(super) fn check(&self, name: &str) -> Result<(), Refusal> {
        self.with(name, |_| Ok(()))
    }

    /// Judges a delivery by its source. The source stays in force meanwhile, so that
    /// [`Sources::replace`] waits for the judgment.
    pub(super) fn with<T>(
        &self,
        name: &str,
        judge: impl FnOnce(&AcceptedSource) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let current = self.current.read();
        judge(current.get(name).ok_or(Refusal::UnknownSource)?)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_delivery_on_its_way_shows_no_age_of_a_source_that_was_removed() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let source = |name: &str| Source {
            name: name.to_owned(),
            secrets: Vec::new(),
            instance_id: None,
        };
        let sources = Sources::new(&[source("eu")], Pins::default(), metrics);
        let look_up = || sources.with("eu", |accepted| Ok(Arc::clone(&accepted.metrics)));
        let shown = || {
            let mut text = String::new();
            encode(&mut text, &registry).expect("a string");
            let has_age = text.contains("last_accepted_timestamp_seconds{source=\"eu\"} ");
            let count = |count| text.contains(&format!("accepted_total{{source=\"eu\"}} {count}"));
            (has_age, (0..9).find(|number| count(*number)))
        };
        let on_its_way = look_up().expect("accepted");
        on_its_way.count_accepted(None);
        sources.replace(&[source("eu"), source("us")]);
        look_up().expect("accepted").count_accepted(None);
        assert_eq!(shown(), (true, Some(2)));
        sources.replace(&[source("us")]);
        on_its_way.count_accepted(None);
        assert_eq!(shown(), (false, Some(3)));
        sources.replace(&[source("eu")]);
        look_up().expect("accepted").count_accepted(None);
        assert_eq!(shown(), (true, Some(4)));
    }
}
