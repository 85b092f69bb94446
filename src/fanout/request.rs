//! What a subscriber asks for, checked.

use std::fmt;
use std::time::Duration;

use super::frame::View;
use crate::access::{Narrowed, Principal, audit};
use crate::event::{Cursor, UnixMillis};
use crate::filter::{AskedFilter, Filter};

/// Where to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After this cursor.
    After(Cursor),
    /// With what arrives from now on.
    Latest,
    /// With the oldest event in the log.
    Earliest,
    /// With the first event received at or after this.
    Time(UnixMillis),
}

/// As log lines show it: cursors and times as clients write them.
impl fmt::Display for Start {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(cursor) => write!(formatter, "after {cursor}"),
            Self::Latest => formatter.write_str("latest"),
            Self::Earliest => formatter.write_str("earliest"),
            Self::Time(time) => write!(formatter, "at {time}"),
        }
    }
}

/// What to do when retention was faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExpired {
    /// End the stream.
    Fail,
    /// Report a gap, and continue with the oldest event in the log.
    Earliest,
    /// Report a gap, and continue with what arrives from now on.
    Latest,
}

/// The name of a subscriber that gives itself none: easier to see in a log line than nothing.
pub const UNNAMED: &str = "unnamed";

/// A stream to open.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks.
    pub principal: Principal,
    /// What to send: of what is asked for, what the principal may receive.
    pub filter: Filter,
    /// What its policy took away, if it took anything.
    pub narrowed: Option<Narrowed>,
    /// The filter in the subscriber's words, for listings.
    pub asked_filter: AskedFilter,
    /// Where to start.
    pub start: Start,
    /// What to do when retention was faster.
    pub on_expired: OnExpired,
    /// End once the history is sent.
    pub stop_when_caught_up: bool,
    /// End after this many events.
    pub events_max: Option<u64>,
    /// The longest silence.
    pub heartbeat_interval: Duration,
    /// What of the events to send.
    pub view: View,
    /// The subscriber's name for itself, or [`UNNAMED`].
    pub name: String,
    /// Where it connected from.
    pub peer: String,
}

impl Request {
    /// As the audit trail shows it.
    pub(super) fn audited(&self) -> audit::Stream<'_> {
        audit::Stream {
            principal: self.principal.name(),
            subscriber: &self.name,
            peer: &self.peer,
            filter: &self.asked_filter,
        }
    }
}
