//! The controls of a stream as messages.

use crate::event::Cursor;
use crate::event::numbers::saturating;
use crate::fanout::{Control, Lag};
use crate::proto;
use crate::proto::subscribe_response::Kind;

use super::narrowed;

/// The message for a control that a stream delivers at `cursor`.
#[must_use]
pub fn message(cursor: Cursor, control: Control) -> proto::SubscribeResponse {
    let kind = match control {
        Control::Started {
            heartbeat_interval,
            newest,
            narrowed,
        } => Kind::Started(proto::Started {
            heartbeat_interval: heartbeat_interval.try_into().ok(),
            newest_cursor: newest.to_string(),
            narrowed: narrowed.map(narrowed::message),
        }),
        Control::CaughtUp => Kind::CaughtUp(proto::CaughtUp {}),
        Control::FellBehind(lag) => Kind::FellBehind(proto::FellBehind {
            lag: Some(lag.into()),
        }),
        Control::Heartbeat => Kind::Heartbeat(proto::Heartbeat {}),
        Control::Gap { from, to } => Kind::Gap(proto::Gap {
            from: from.to_string(),
            to: to.to_string(),
        }),
    };
    proto::SubscribeResponse {
        cursor: cursor.to_string(),
        kind: Some(kind),
    }
}

impl From<Lag> for proto::Lag {
    fn from(lag: Lag) -> Self {
        Self {
            events: saturating(lag.events),
            seconds: lag.time.as_secs_f64(),
        }
    }
}
