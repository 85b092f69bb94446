//! How a call ended.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tonic::Code;

use crate::doors::grpc::metrics::MethodCalls;
use crate::telemetry::traces::{Attribute, Trace};

/// The code that a call ends with. The call is counted when this is dropped.
#[derive(Debug)]
pub(super) struct Outcome {
    calls: Arc<MethodCalls>,
    code: OnceLock<Code>,
    /// Ends with the code.
    trace: Mutex<Trace>,
}

impl Outcome {
    pub(super) fn new(calls: Arc<MethodCalls>, trace: Trace) -> Self {
        Self {
            calls,
            code: OnceLock::new(),
            trace: Mutex::new(trace),
        }
    }

    /// Notes the end. A later one is not that of the call.
    pub(super) fn note(&self, code: Code) {
        if self.code.set(code).is_ok() {
            let mut trace = std::mem::take(&mut *self.trace.lock());
            trace.set(Attribute::GrpcStatus(code.into()));
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        // Without a code, its caller gave it up or did not read it.
        self.note(Code::Cancelled);
        if let Some(code) = self.code.get() {
            self.calls.count(*code);
        }
    }
}
