//! The service and its calls.

use super::problem::Problem;
use crate::access::{ANONYMOUS, Principal, Revocation};
use crate::fanout::{Error, Fanout};
use crate::filter::Scope;
use crate::log::{ReadError, Tally};
use crate::subscriptions::Subscriptions;

/// A field's key and length, which come with each element of an answer.
pub(super) const FIELD_BYTES: usize = 4;

/// The service, one method for each of its calls; clones share it.
#[derive(Clone, Debug)]
pub struct Api {
    pub(super) fanout: Fanout,
    pub(super) subscriptions: Subscriptions,
}

/// Who makes a call, and through what.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who calls.
    pub principal: Principal,
    /// Where the caller connected from.
    pub peer: String,
    /// The transport, as `grpc`.
    pub door: &'static str,
}

impl Api {
    /// The service for the log of both.
    #[must_use]
    pub fn new(fanout: Fanout, subscriptions: Subscriptions) -> Self {
        Self {
            fanout,
            subscriptions,
        }
    }

    /// Completes once nothing that workers were sent is outstanding.
    pub async fn settled(&self) {
        self.subscriptions.settled().await;
    }

    /// For a caller whose calls are as many as may be worked on.
    #[must_use]
    pub fn too_many_calls(&self, principal: Option<&Principal>, limit: usize) -> Problem {
        Problem::too_many_calls(name(principal), limit, self.fanout.streams())
    }

    /// For a health watch or a reflection stream beyond their number.
    #[must_use]
    pub fn too_many_side_streams(&self, principal: Option<&Principal>, limit: usize) -> Problem {
        Problem::too_many_side_streams(name(principal), limit, self.fanout.streams())
    }

    /// Why a principal may not go on, if it may not.
    #[must_use]
    pub fn revoked(&self, principal: &Principal) -> Option<Problem> {
        let error = match principal.revocation()? {
            Revocation::Removed => Error::PrincipalRemoved,
            Revocation::Changed => Error::PolicyChanged,
        };
        Some(self.problem(&error, principal))
    }

    /// For a stream that ends because the gateway stops.
    #[must_use]
    pub fn draining(&self, principal: Option<&Principal>) -> Problem {
        match principal {
            Some(principal) => self.problem(&Error::Draining, principal),
            None => Problem::from_fanout(&Error::Draining, 1),
        }
    }

    pub(super) fn problem(&self, error: &Error, principal: &Principal) -> Problem {
        match error {
            Error::Log(ReadError::TooManySearches { limit }) => {
                self.too_many_calls(Some(principal), *limit)
            }
            _ => Problem::from_fanout(error, self.fanout.crowd(error, principal)),
        }
    }

    /// What the log holds of what may be received.
    pub(super) fn tallies(&self, scope: &Scope) -> Vec<Tally> {
        let mut tallies = self.fanout.log().tallies();
        tallies.retain(|tally| {
            scope.allows_source(&tally.source) && scope.allows_type(&tally.event_type)
        });
        tallies
    }
}

fn name(principal: Option<&Principal>) -> &str {
    principal.map_or(ANONYMOUS, Principal::name)
}
