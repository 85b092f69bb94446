//! What is counted of the events that are taken in: drift.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::clerk::{Drift, DriftKind};
use crate::telemetry::metrics::family;

/// Distinct fields counted by name. Their names are the senders' words; what is beyond
/// is counted as `other`.
const DRIFT_FIELDS_MAX: usize = 500;

/// The metadata that a browser may write (Clerk, "User metadata"); a backend writes the others.
const OF_USERS: &str = "unsafe_metadata";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DriftLabel {
    event_type: &'static str,
    field: String,
    kind: DriftName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values as they are shown")]
enum DriftName {
    unknown_field,
    unexpected_value,
}

/// The intake's metrics; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    drift: Family<DriftLabel, Counter>,
    drift_fields: Arc<Mutex<HashSet<String>>>,
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        Self {
            drift: family(
                registry,
                "event_drift",
                "Fields of accepted events that the proto files do not know or could not hold, by type and field; they remain in payload_json",
            ),
            drift_fields: Arc::default(),
        }
    }

    pub(super) fn count_drift(&self, event_type: &'static str, drift: &[Drift]) {
        for departure in drift {
            let kind = match departure.kind {
                DriftKind::UnknownField => DriftName::unknown_field,
                DriftKind::UnexpectedValue => DriftName::unexpected_value,
            };
            let label = DriftLabel {
                event_type,
                field: self.bounded(&departure.path),
                kind,
            };
            self.drift.get_or_create(&label).inc();
        }
    }

    fn bounded(&self, path: &str) -> String {
        let path = &without_words_of_users(path);
        let mut fields = self.drift_fields.lock();
        // Inside metadata, a key may be anything, such as an address.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte);
        let is_shown = path.len() <= 200 && path.bytes().all(is_plain);
        if fields.len() < DRIFT_FIELDS_MAX && is_shown {
            fields.insert(path.to_owned());
        }
        if fields.contains(path) {
            path.to_owned()
        } else {
            "other".to_owned()
        }
    }
}

/// The path up to what an application's users name themselves, and could fill the metric with.
fn without_words_of_users(path: &str) -> String {
    match path.split_once(OF_USERS) {
        Some((above, below)) if below.starts_with(['.', '[']) => format!("{above}{OF_USERS}"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_users_are_no_labels() {
        for (path, shown) in [
            (
                "data.unsafe_metadata.tel_15551234567",
                "data.unsafe_metadata",
            ),
            ("data.unsafe_metadata[3].a", "data.unsafe_metadata"),
            ("data.unsafe_metadata", "data.unsafe_metadata"),
            ("data.unsafe_metadata_2", "data.unsafe_metadata_2"),
            ("data.public_metadata.plan", "data.public_metadata.plan"),
        ] {
            assert_eq!(without_words_of_users(path), shown);
        }
    }
}
