//! How long an open stream may be silent.

use std::time::Duration;

use tonic::Status;

use crate::gateway::CONNECT_TIMEOUT;

/// A stream that misses this many heartbeats in a row counts as dead.
const HEARTBEATS_MISSED_MAX: u32 = 3;
/// Maximum heartbeat interval that a gateway can announce; a larger one is not believed.
const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(86_400);
/// Maximum silence until the heartbeat interval is known.
pub(crate) const SILENCE_MAX_AT_START: Duration = Duration::from_secs(60);

/// How long a stream may send nothing.
pub(crate) fn silence_max(heartbeat_interval: Duration) -> Duration {
    heartbeat_interval.min(HEARTBEAT_INTERVAL_MAX) * HEARTBEATS_MISSED_MAX + CONNECT_TIMEOUT
}

pub(crate) fn silence() -> Status {
    Status::unavailable("the stream fell silent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_heartbeat_interval_gives_a_silence_that_ends() {
        let seconds = Duration::from_secs;
        assert_eq!(silence_max(seconds(15)), seconds(55));
        assert_eq!(silence_max(Duration::ZERO), CONNECT_TIMEOUT);
        assert_eq!(silence_max(Duration::MAX), seconds(3 * 86_400 + 10));
    }
}
