//! Where a subscriber starts, and where its history ends.

use super::error::Error;
use super::hub::Hub;
use super::request::{OnExpired, Request, Start};
use crate::event::Position;
use crate::log::Bounds;

/// The position that `start` stands for, and the one to start after in
/// fact: later, where retention removed what lies between and the policy allows it.
pub(super) async fn starting_position(
    hub: &Hub,
    bounds: Bounds,
    start: Start,
    on_expired: OnExpired,
) -> Result<(Position, Position), Error> {
    let asked = match start {
        Start::Latest => bounds.last,
        Start::Earliest => bounds.trimmed,
        Start::Time(time) => hub.log.position_before(time).await?,
        Start::After(cursor) => hub.position_of(cursor).await?,
    };
    let is_expired = asked < bounds.trimmed && matches!(start, Start::After(_));
    let position = match on_expired {
        _ if !is_expired => asked,
        OnExpired::Fail => return Err(hub.expired()),
        OnExpired::Earliest => bounds.trimmed,
        OnExpired::Latest => bounds.last,
    };
    Ok((asked, position))
}

/// The end of the history that the request asks for. A request for history alone gets all of it,
/// even what another gateway appended a moment ago; every other request gets that live.
pub(super) async fn end_of_history(hub: &Hub, request: &Request) -> Result<Position, Error> {
    let bounds = if request.stop_when_caught_up {
        hub.log.confirmed_bounds(Position::START).await?
    } else {
        hub.log.bounds()
    };
    Ok(bounds.last)
}
