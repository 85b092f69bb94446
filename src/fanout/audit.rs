//! The audit trail: who was sent what, from where, for how long, and how much.
//!
//! Its lines have the target `clerkcast::audit`, so that they can be kept apart from the
//! others (`--log-level warn,clerkcast::audit=info`). Ids are shown only where they look
//! like Clerk's: whatever else stands in a filter may be an e-mail address.

use std::fmt;
use std::time::Duration;

use super::metrics::Ending;
use super::{Request, Start};
use crate::proto::EventFilter;

const TARGET: &str = "clerkcast::audit";
/// Ids shown of each field.
const IDS_SHOWN: usize = 10;
const ID_BYTES_MAX: usize = 64;

pub(super) fn opened(request: &Request) {
    tracing::info!(
        target: TARGET,
        principal = request.principal.name(),
        subscriber = request.name.as_str(),
        peer = %request.peer,
        filter = %Shown(&request.asked_filter),
        start = %request.start,
        "subscriber connected"
    );
}

pub(super) fn closed(request: &Request, reason: Ending, held_for: Duration, delivered: u64) {
    tracing::info!(
        target: TARGET,
        principal = request.principal.name(),
        subscriber = request.name.as_str(),
        peer = %request.peer,
        filter = %Shown(&request.asked_filter),
        reason = reason.name(),
        seconds = held_for.as_secs_f64(),
        delivered,
        "subscriber left"
    );
}

/// For a page of events that was sent.
pub(crate) fn listed(principal: &str, peer: &str, filter: &EventFilter, delivered: usize) {
    tracing::info!(
        target: TARGET,
        principal,
        peer,
        filter = %Shown(filter),
        delivered,
        "events listed"
    );
}

/// For an event that was asked for by its id.
pub(crate) fn got(principal: &str, peer: &str, id: &str, found: bool) {
    let id = plain(id);
    tracing::info!(target: TARGET, principal, peer, id, found, "event looked up");
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

/// A filter in a log line.
struct Shown<'a>(&'a EventFilter);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filter = self.0;
        let fields = [
            ("types", &filter.types),
            ("exclude_types", &filter.exclude_types),
            ("user_ids", &filter.user_ids),
            ("organization_ids", &filter.organization_ids),
            ("session_ids", &filter.session_ids),
            ("sources", &filter.sources),
            ("instance_ids", &filter.instance_ids),
        ];
        let mut is_first = true;
        for (name, values) in fields {
            if values.is_empty() {
                continue;
            }
            let separator = if is_first { "" } else { " " };
            is_first = false;
            let shown = values.iter().take(IDS_SHOWN).map(|value| plain(value));
            let shown = shown.collect::<Vec<_>>().join(",");
            write!(formatter, "{separator}{name}={shown}")?;
            if values.len() > IDS_SHOWN {
                write!(formatter, ",+{}", values.len() - IDS_SHOWN)?;
            }
        }
        if is_first {
            formatter.write_str("everything")
        } else {
            Ok(())
        }
    }
}

/// The value if it is made of what ids, types and sources are made of.
fn plain(value: &str) -> &str {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '*');
    if value.len() <= ID_BYTES_MAX && value.chars().all(is_plain) {
        value
    } else {
        "(not shown)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_shown_without_what_could_be_personal() {
        let mut filter = EventFilter::default();
        assert_eq!(Shown(&filter).to_string(), "everything");
        filter.types = vec!["user.*".to_owned()];
        filter.user_ids = vec!["ada@example.com".to_owned()];
        filter
            .user_ids
            .extend((1..=12).map(|number| format!("user_{number}")));
        let shown = Shown(&filter).to_string();
        assert_eq!(
            shown,
            "types=user.* user_ids=(not shown),user_1,user_2,user_3,user_4,user_5,user_6,user_7,user_8,user_9,+3"
        );
    }
}
