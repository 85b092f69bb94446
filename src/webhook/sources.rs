//! The accepted sources, which can be replaced while webhooks arrive.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::metrics::Metrics;
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

type ByName = HashMap<String, Verifier>;

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
        let replacement: ByName = sources.iter().map(by_name).collect();
        let pins = |source: &Source| (source.name.clone(), source.instance_id.clone());
        let mut current = self.current.write();
        self.pins.set(sources.iter().map(pins));
        let former = std::mem::replace(&mut *current, replacement);
        for added in current.keys().filter(|name| !former.contains_key(*name)) {
            self.metrics.expect_source(added);
        }
        for removed in former.keys().filter(|name| !current.contains_key(*name)) {
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
        judge: impl FnOnce(&Verifier) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let current = self.current.read();
        judge(current.get(name).ok_or(Refusal::UnknownSource)?)
    }
}
