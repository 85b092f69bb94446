//! How a call ended.

use std::sync::{Arc, OnceLock};

use tonic::Code;

use crate::doors::grpc::metrics::MethodCalls;

/// The code that a call ends with. The call is counted when this is dropped.
#[derive(Debug)]
pub(super) struct Outcome {
    calls: Arc<MethodCalls>,
    code: OnceLock<Code>,
}

impl Outcome {
    pub(super) fn new(calls: Arc<MethodCalls>) -> Self {
        Self {
            calls,
            code: OnceLock::new(),
        }
    }

    /// Notes the end. A later one is not that of the call.
    pub(super) fn note(&self, code: Code) {
        let _ended_before = self.code.set(code);
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        // Without a code, its caller gave it up.
        let code = self.code.get().copied();
        self.calls.count(code.unwrap_or(Code::Cancelled));
    }
}
