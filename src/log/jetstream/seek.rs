//! Finds the position of a time in the stream.

use super::shared::Shared;
use crate::event::{Position, UnixMillis};
use crate::log::error::ReadError;
use crate::log::record::Bounds;

/// The position before the first record that a gateway received at or after `time`.
///
/// JetStream can start a consumer by time, but only by the time of storing, which in a copied
/// log is the time of the copy. The consumer may also live on a replica that lags. Receive times
/// increase with the sequence, as far as the gateways' clocks agree, so a few dozen requests to
/// the stream's leader find a time among any number of records.
pub(super) async fn position_before(
    shared: &Shared,
    time: UnixMillis,
) -> Result<Position, ReadError> {
    shared.refresh().await?;
    let Bounds { trimmed, last, .. } = shared.bounds();
    // What lies up to `early` was received before, what lies after `late` was not.
    let (mut early, mut late) = (trimmed, last);
    while early < late {
        let middle = early.number() + late.distance_from(early) / 2;
        let received = shared
            .received_at_or_after(Position::new(middle).next())
            .await?;
        match received {
            Some((position, received)) if position <= late && received < time => early = position,
            _ => late = Position::new(middle),
        }
    }
    Ok(late)
}
