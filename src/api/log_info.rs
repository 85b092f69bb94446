//! What the log holds and keeps.

use super::problem::Problem;
use super::service::{Api, Call};
use crate::event::UnixMillis;
use crate::event::numbers::saturating;
use crate::proto;

impl Api {
    /// Describes the log, as far as the caller may know.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn get_log_info(
        &self,
        call: &Call,
        _asked: proto::GetLogInfoRequest,
    ) -> Result<proto::GetLogInfoResponse, Problem> {
        let principal = &call.principal;
        let scope = &principal.policy().scope;
        let described = self.fanout.log().describe().await;
        let log = described.map_err(|error| self.problem(&error.into(), principal))?;
        let (oldest, newest) = self.fanout.ends();
        let sees_all = |_: &UnixMillis| scope.is_everything();
        Ok(proto::GetLogInfoResponse {
            oldest_cursor: oldest.to_string(),
            newest_cursor: newest.to_string(),
            epoch: self.fanout.log().epoch().to_string(),
            retain_for: log.retain_for.and_then(|age| age.try_into().ok()),
            retain_bytes: saturating(log.retain_bytes.unwrap_or(0)),
            event_count: saturating(if scope.is_everything() {
                log.record_count
            } else {
                self.tallies(scope).iter().map(|tally| tally.count).sum()
            }),
            size_bytes: if scope.is_everything() {
                saturating(log.size_bytes)
            } else {
                0
            },
            oldest_receive_time: log.oldest_receive_time.filter(sees_all).map(Into::into),
            newest_receive_time: log.newest_receive_time.filter(sees_all).map(Into::into),
        })
    }
}
