//! When to try again, and when not.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::error::{Error, reason};
use crate::fault::{self, Fault};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Calls that broke in the same way without any progress; the next one would too.
const BROKEN_IN_A_ROW_MAX: u32 = 5;

/// What a client is doing about its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Waiting to try again.
    Lost {
        /// What happened.
        reason: String,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The stream is open.
    Open,
}

/// A wait before the next attempt.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    pub(crate) reason: String,
    pub(crate) retry_in: Duration,
}

/// What is known of one connection's failures.
#[derive(Debug)]
pub(crate) struct Retry {
    is_tls: bool,
    backoff: Duration,
    broken_in_a_row: u32,
    was_answered: bool,
}

impl Retry {
    pub(crate) fn new(is_tls: bool) -> Self {
        Self {
            is_tls,
            backoff: BACKOFF_MIN,
            broken_in_a_row: 0,
            was_answered: false,
        }
    }

    /// The gateway has answered, so the address is right.
    pub(crate) fn answered(&mut self) {
        self.was_answered = true;
    }

    /// Something was achieved, so that the next failure is the first in a row.
    pub(crate) fn progressed(&mut self) {
        self.was_answered = true;
        self.backoff = BACKOFF_MIN;
        self.broken_in_a_row = 0;
    }

    /// How long to wait after a failure.
    ///
    /// # Errors
    /// When waiting does not mend it.
    pub(crate) fn wait(&mut self, status: Status) -> Result<Wait, Error> {
        let fault = self.fault(&status);
        if matches!(fault, Fault::Tls(_)) || fault == Fault::Other && !self.can_be_mended(&status) {
            return Err(self.error(status));
        }
        let details = status.get_error_details();
        let asked = details.retry_info().and_then(|info| info.retry_delay);
        let retry_in = asked.unwrap_or_default().max(self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        let reason = self.hinted(reason(&status), &fault);
        Ok(Wait { reason, retry_in })
    }

    /// The failure, for a caller that does not try again.
    pub(crate) fn error(&self, status: Status) -> Error {
        match self.fault(&status) {
            Fault::Tls(text) => Error::TlsFailed(text),
            Fault::NoGrpc => {
                let text = self.hinted(reason(&status), &Fault::NoGrpc);
                Error::Refused(Box::new(Status::new(status.code(), text)))
            }
            Fault::Other => Error::Refused(Box::new(status)),
        }
    }

    /// What the failure shows about the address. Once the gateway has answered, it is right.
    fn fault(&self, status: &Status) -> Fault {
        if self.was_answered {
            Fault::Other
        } else {
            fault::of(status)
        }
    }

    fn hinted(&self, reason: String, fault: &Fault) -> String {
        if *fault != Fault::NoGrpc {
            return reason;
        }
        let hint = if self.is_tls {
            "if the gateway does not speak TLS, use http://"
        } else {
            "if the gateway speaks TLS, use https://"
        };
        format!("{reason}; does this port speak gRPC? {hint}")
    }

    /// What trying again can mend. A connection that breaks off shows as one of several codes,
    /// depending on where it broke; so does a frame that cannot be decoded, which would come
    /// again and again.
    fn can_be_mended(&mut self, status: &Status) -> bool {
        match status.code() {
            Code::Unavailable
            | Code::Cancelled
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::ResourceExhausted => true,
            Code::Unknown | Code::Internal => {
                self.broken_in_a_row += 1;
                self.broken_in_a_row < BROKEN_IN_A_ROW_MAX
            }
            _ => false,
        }
    }
}
