//! Finding a time in the stream.

use super::Shared;
use crate::event::{Position, UnixMillis};
use crate::log::{Bounds, Error};

/// The position before the first message that the stream stored at or after `time`.
///
/// The stream's leader is asked, since a consumer may live on a replica that has not
/// heard of the newest messages. Its times increase with its sequences, so a few dozen
/// questions find one among any number.
pub(super) async fn position_before(shared: &Shared, time: UnixMillis) -> Result<Position, Error> {
    shared.refresh().await?;
    let Bounds { trimmed, tail, .. } = shared.bounds();
    // What lies up to `early` was stored before, what lies after `late` was not.
    let (mut early, mut late) = (trimmed, tail);
    while early < late {
        let middle = early.number() + late.distance_from(early) / 2;
        let stored = shared
            .stored_at_or_after(Position::new(middle).next())
            .await?;
        match stored {
            Some((position, stored)) if position <= late && stored < time => early = position,
            _ => late = Position::new(middle),
        }
    }
    Ok(late)
}
