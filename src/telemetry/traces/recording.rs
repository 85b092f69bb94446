//! What a trace has noted when it ends.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use http::HeaderValue;

/// An attribute of a trace. There are no others: no payload, no address, no other id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute<'a> {
    /// The configured source of a webhook.
    Source(&'a str),
    /// The declared type of an event.
    EventType(&'static str),
    /// What became of a webhook.
    Outcome(&'static str),
    /// The `svix-id` of a webhook that was verified.
    MessageId(&'a str),
    /// The name of a known caller.
    Principal(&'a str),
    /// The status that a webhook was answered with.
    HttpStatus(u16),
    /// The code that a call ended with.
    GrpcStatus(i32),
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(Cow<'static, str>),
    Number(i64),
}

/// Codes that report a fault of the gateway and not of the caller, as OpenTelemetry sees it:
/// `UNKNOWN`, `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`.
const FAULTS: [i32; 6] = [2, 4, 12, 13, 14, 15];
const HTTP_FAULT_MIN: u16 = 500;

impl Attribute<'_> {
    fn named(self) -> (&'static str, Value) {
        let text = |text: &str| Value::Text(Cow::Owned(text.to_owned()));
        match self {
            Self::Source(name) => ("clerkcast.source", text(name)),
            Self::EventType(name) => ("clerkcast.event_type", Value::Text(name.into())),
            Self::Outcome(name) => ("clerkcast.outcome", Value::Text(name.into())),
            Self::MessageId(id) => ("messaging.message.id", text(id)),
            Self::Principal(name) => ("clerkcast.principal", text(name)),
            Self::HttpStatus(status) => ("http.response.status_code", Value::Number(status.into())),
            Self::GrpcStatus(code) => ("rpc.grpc.status_code", Value::Number(code.into())),
        }
    }

    fn is_fault(self) -> bool {
        match self {
            Self::HttpStatus(status) => status >= HTTP_FAULT_MIN,
            Self::GrpcStatus(code) => FAULTS.contains(&code),
            _ => false,
        }
    }
}

/// What a trace has noted.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "otlp"),
    expect(dead_code, reason = "a build without traces sends none")
)]
pub struct Recording {
    pub(super) name: &'static str,
    pub(super) began: SystemTime,
    pub(super) started: Instant,
    /// Each lasts until the next one, the last to the end.
    pub(super) steps: Vec<(&'static str, Instant)>,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) is_fault: bool,
    /// Whether the sender was verified.
    pub(super) is_trusted: bool,
    /// The span that the sender names as the parent.
    pub(super) traceparent: Option<HeaderValue>,
}

impl Recording {
    #[expect(
        clippy::disallowed_methods,
        reason = "spans are shorter than the one clock's milliseconds"
    )]
    pub(super) fn begin(name: &'static str) -> Self {
        Self {
            name,
            began: SystemTime::now(),
            started: Instant::now(),
            steps: Vec::new(),
            attributes: Vec::new(),
            is_fault: false,
            is_trusted: false,
            traceparent: None,
        }
    }

    pub(super) fn step(&mut self, name: &'static str) {
        self.steps.push((name, Instant::now()));
    }

    pub(super) fn set(&mut self, attribute: Attribute<'_>) {
        self.is_fault |= attribute.is_fault();
        self.attributes.push(attribute.named());
    }

    pub(super) fn trust(&mut self, traceparent: Option<HeaderValue>) {
        self.is_trusted = true;
        self.traceparent = traceparent;
    }
}
