//! What the gRPC side counts beside what the fan-out does.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

use super::code::{CODES, code_name};
use super::path::{HEALTH_WATCH, REFLECTION, REFLECTION_ALPHA, method_of};
use crate::api::reason;
use crate::event::numbers::saturating;
use crate::proto;
use crate::telemetry::metrics::{family, gauge};

/// Methods of the services that other crates answer.
const OTHER_METHODS: [&str; 5] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    HEALTH_WATCH,
    REFLECTION,
    REFLECTION_ALPHA,
];
/// The label of every method that does not exist.
const UNKNOWN_METHOD: &str = "other";
/// Reasons for which a caller is not known.
const UNKNOWN_CALLER: [&str; 3] = [
    reason::NO_CREDENTIALS,
    reason::UNKNOWN_TOKEN,
    reason::UNKNOWN_CERTIFICATE,
];
/// Codes whose problems have no reason; the code is the label.
const WITHOUT_REASON: [Code; 2] = [Code::Unimplemented, Code::DeadlineExceeded];

/// Why an answer was made and not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values as they are shown")]
pub(super) enum Unsent {
    not_read,
    gave_way,
    policy,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnsentLabel {
    reason: Unsent,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabel {
    principal: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    method: String,
    code: &'static str,
}

/// The calls of one method, by code. Each counter is looked up once.
#[derive(Debug)]
pub(super) struct MethodCalls {
    method: String,
    by_code: [OnceLock<Counter>; CODES],
    calls: Family<CallLabel, Counter>,
}

impl MethodCalls {
    fn new(method: &str, calls: &Family<CallLabel, Counter>) -> Arc<Self> {
        Arc::new(Self {
            method: method.to_owned(),
            by_code: [const { OnceLock::new() }; CODES],
            calls: calls.clone(),
        })
    }

    pub(super) fn count(&self, code: Code) {
        if let Some(counter) = self.counter(code) {
            counter.inc();
        }
    }

    fn counter(&self, code: Code) -> Option<&Counter> {
        let counter = self.by_code.get(usize::try_from(code as i32).ok()?)?;
        Some(counter.get_or_init(|| {
            self.calls.get_or_create_owned(&CallLabel {
                method: self.method.clone(),
                code: code_name(code),
            })
        }))
    }
}

/// The gRPC side's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Arc<HashMap<String, Arc<MethodCalls>>>,
    unknown_calls: Arc<MethodCalls>,
    refused: Family<RefusalLabel, Counter>,
    unread_bytes: Gauge,
    unsent: Family<UnsentLabel, Counter>,
}

impl Metrics {
    /// Declares the metrics. What has a known set of labels counts from 0.
    pub fn register(registry: &mut Registry) -> Self {
        let calls = family(
            registry,
            "grpc_calls",
            "Calls that ended, by method (other where there is none such) and code; a call that its caller gave up is CANCELLED",
        );
        let metrics = Self {
            calls: Arc::new(methods(&calls)),
            unknown_calls: MethodCalls::new(UNKNOWN_METHOD, &calls),
            refused: family(
                registry,
                "grpc_calls_refused",
                "Calls answered with an error, by principal (empty where the caller is not known) and reason",
            ),
            unread_bytes: gauge(
                registry,
                ("grpc_unread_answer", Unit::Bytes),
                "Answers that callers have not read yet",
            ),
            unsent: family(
                registry,
                "grpc_answers_dropped",
                "Answers dropped before they were sent, by reason",
            ),
        };
        for reason in [Unsent::not_read, Unsent::gave_way, Unsent::policy] {
            let _zero = metrics.unsent.get_or_create(&UnsentLabel { reason });
        }
        for method in metrics.calls.values() {
            let _zero = method.counter(Code::Ok);
        }
        for reason in UNKNOWN_CALLER {
            metrics.refusals("", reason).inc_by(0);
        }
        metrics
    }

    /// Has the refusals of these principals count from 0: the first must be an increase. Those
    /// of principals that were removed stay, since a counter must not vanish.
    pub fn expect_principals<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let known_callers = |reason: &&&str| !UNKNOWN_CALLER.contains(*reason);
        for name in names {
            for reason in reason::ALL.iter().filter(known_callers) {
                self.refusals(name, reason).inc_by(0);
            }
            for code in WITHOUT_REASON {
                self.refusals(name, code_name(code)).inc_by(0);
            }
        }
    }

    /// What counts the calls of the method that a path names.
    pub(super) fn calls(&self, path: &str) -> Arc<MethodCalls> {
        let known = self.calls.get(path);
        Arc::clone(known.unwrap_or(&self.unknown_calls))
    }

    pub(super) fn count_refused(&self, principal: &str, reason: &str) {
        self.refusals(principal, reason).inc();
    }

    fn refusals(&self, principal: &str, reason: &str) -> Counter {
        self.refused.get_or_create_owned(&RefusalLabel {
            principal: principal.to_owned(),
            reason: reason.to_ascii_lowercase(),
        })
    }

    pub(super) fn set_unread(&self, bytes: usize) {
        self.unread_bytes.set(saturating(bytes));
    }

    pub(super) fn count_unsent(&self, reason: Unsent) {
        self.unsent.get_or_create(&UnsentLabel { reason }).inc();
    }
}

/// The methods of all services, by path.
fn methods(calls: &Family<CallLabel, Counter>) -> HashMap<String, Arc<MethodCalls>> {
    let mut methods = HashMap::new();
    for service in proto::DESCRIPTORS.services() {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            methods.insert(path, MethodCalls::new(method.name(), calls));
        }
    }
    for path in OTHER_METHODS {
        methods.insert(path.to_owned(), MethodCalls::new(method_of(path), calls));
    }
    methods
}
