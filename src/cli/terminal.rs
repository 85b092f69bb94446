//! One event a line, as wide as the terminal.
//!
//! ```text
//!   80 columns   08:31:02 user.created                     user_2g7np7Hrk0SN6kj5EDMLDaKNL0S
//!   91           2026-11-27 08:31:02 user.created          …
//!   beyond       all ids that the event concerns, then its own, as far as they fit
//! ```

use std::io::IsTerminal as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::output::{Printable, escaped};
use super::table::NO_VALUE;
use crate::proto;

/// Of a terminal that does not know its width.
const COLUMNS_USUAL: usize = 80;
/// `YYYY-MM-DD ` before the time. Without it, a line fits into the usual width.
const DATE_COLUMNS: usize = 11;
const TIME_COLUMNS: usize = 8;
/// The longest type of Clerk's catalog.
const TYPE_COLUMNS: usize = 32;
/// What a terminal that is narrower than usual leaves for an id.
const ID_COLUMNS_MIN: usize = 16;
const DIM: &str = "2";
const BOLD_CYAN: &str = "1;36";

/// Standard output, where it is a terminal.
#[derive(Clone, Debug)]
pub(super) struct Terminal {
    zone: TimeZone,
    is_colored: bool,
}

impl Terminal {
    pub(super) fn of_standard_output() -> Option<Self> {
        std::io::stdout().is_terminal().then(|| Self {
            zone: TimeZone::system(),
            is_colored: std::env::var_os("NO_COLOR").is_none(),
        })
    }

    /// The event in one line of the terminal's present width.
    pub(super) fn line(&self, event: &proto::Event) -> Printable {
        let (date, time) = self.local_time(event);
        let line = Line::fit(event, &date, &time, columns());
        match self.is_colored {
            true => line.colored(),
            false => line.plain().into(),
        }
    }

    /// When the event occurred, in the zone of this machine: its date and its time.
    fn local_time(&self, event: &proto::Event) -> (String, String) {
        let time = event.occur_time.or(event.receive_time);
        let instant = time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok());
        match instant {
            Some(instant) => {
                let local = instant.to_zoned(self.zone.clone());
                let shown = |format: &str| local.strftime(format).to_string();
                (shown("%Y-%m-%d"), shown("%H:%M:%S"))
            }
            // Clerk's clock was wrong by more than ten thousand years.
            None => (NO_VALUE.to_owned(), NO_VALUE.to_owned()),
        }
    }
}

fn columns() -> usize {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => COLUMNS_USUAL,
    }
}

/// The parts of a line, which one blank separates.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    time: String,
    name: String,
    ids: String,
    /// Empty where it does not fit.
    event_id: String,
}

impl Line {
    fn fit(event: &proto::Event, date: &str, time: &str, columns: usize) -> Self {
        let has_date = columns >= COLUMNS_USUAL + DATE_COLUMNS;
        let (time, time_columns) = match has_date {
            true => (
                format!("{:<10} {time:<8}", cut(date, DATE_COLUMNS - 1)),
                DATE_COLUMNS + TIME_COLUMNS,
            ),
            false => (format!("{time:<8}"), TIME_COLUMNS),
        };
        let beside_time = columns.saturating_sub(time_columns + 2);
        let name_columns = beside_time
            .saturating_sub(ID_COLUMNS_MIN)
            .clamp(1, TYPE_COLUMNS);
        let room = beside_time.saturating_sub(name_columns).max(1);
        let name = cut(&shown(name_of(&event.r#type)), name_columns);
        let all = ids(event);
        let joined = all.join(" ");
        let has_room = joined.len() <= room;
        let ids = match all.first() {
            _ if has_room => joined,
            Some(object) => cut(object, room),
            None => String::new(),
        };
        let id = shown(&event.id);
        let fits = has_room && ids.len() + 2 + id.len() <= room;
        Self {
            time,
            name: format!("{name:<name_columns$}"),
            ids,
            event_id: if fits { id } else { String::new() },
        }
    }

    fn plain(&self) -> String {
        let Self {
            time,
            name,
            ids,
            event_id,
        } = self;
        let line = format!("{time} {name} {ids}  {event_id}");
        line.trim_end().to_owned()
    }

    fn colored(&self) -> Printable {
        let Self {
            time,
            name,
            ids,
            event_id,
        } = self;
        let mut line = Printable::default();
        line.push_styled(DIM, time);
        line.push(" ");
        line.push_styled(BOLD_CYAN, name);
        line.push(" ");
        line.push(ids);
        if !event_id.is_empty() {
            line.push("  ");
            line.push_styled(DIM, event_id);
        }
        line
    }
}

pub(super) fn name_of(event_type: &str) -> &str {
    if event_type.is_empty() {
        "(no type)"
    } else {
        event_type
    }
}

/// The id of the object that the event is about, then those that it concerns besides.
fn ids(event: &proto::Event) -> Vec<String> {
    let all = [
        &event.object_id,
        &event.user_id,
        &event.organization_id,
        &event.session_id,
    ];
    let mut ids: Vec<String> = Vec::new();
    for id in all.into_iter().filter(|id| !id.is_empty()) {
        let id = shown(id);
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if ids.is_empty() {
        ids.push(NO_VALUE.to_owned());
    }
    ids
}

/// The text as it is shown, in characters of one column: `?` in place of others, which may be
/// wider or narrower.
fn shown(text: &str) -> String {
    let characters = escaped(text);
    characters
        .chars()
        .map(|character| if character.is_ascii() { character } else { '?' })
        .collect()
}

/// At most this many columns of a text of ASCII: its ends, with `…` between them.
fn cut(text: &str, columns: usize) -> String {
    if text.len() <= columns {
        return text.to_owned();
    }
    let kept = columns.saturating_sub(1);
    let head = text.get(..kept.div_ceil(2)).unwrap_or_default();
    let tail = text.get(text.len() - kept / 2..).unwrap_or_default();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "2026-11-27";
    const TIME: &str = "08:31:02";
    const USER: &str = "user_2g7np7Hrk0SN6kj5EDMLDaKNL0S";
    const ORGANIZATION: &str = "org_29w9IfBrPmcpi0IeBVaKtA7R94W";

    fn membership() -> proto::Event {
        proto::Event {
            id: "msg_2xJkL0pQyXzA1bC2dE3fG4hI5jK".to_owned(),
            r#type: "organizationMembership.created".to_owned(),
            object_id: "orgmem_29w9IptNja3mP8GDXpquBwN2qR9".to_owned(),
            user_id: USER.to_owned(),
            organization_id: ORGANIZATION.to_owned(),
            ..proto::Event::default()
        }
    }

    fn fitted(event: &proto::Event, columns: usize) -> String {
        let line = Line::fit(event, DATE, TIME, columns).plain();
        assert!(line.chars().count() <= columns, "{columns}: {line}");
        line
    }

    #[test]
    fn a_wider_terminal_shows_more() {
        let event = membership();
        let name = "organizationMembership.created   ";
        let object = &event.object_id;
        let at_80 = format!("{TIME} {name}{object}");
        assert_eq!(fitted(&event, 80), at_80);
        assert_eq!(fitted(&event, 90), at_80);
        let with_date = format!("{DATE} {at_80}");
        assert_eq!(fitted(&event, 91), with_date);
        let with_ids = format!("{with_date} {USER} {ORGANIZATION}");
        let columns = with_ids.len();
        assert_eq!(fitted(&event, columns - 1), with_date);
        assert_eq!(fitted(&event, columns), with_ids);
        let whole = format!("{with_ids}  {}", event.id);
        assert_eq!(fitted(&event, whole.len() - 1), with_ids);
        assert_eq!(fitted(&event, whole.len()), whole);
        let user = proto::Event {
            object_id: USER.to_owned(),
            organization_id: String::new(),
            ..event
        };
        assert_eq!(fitted(&user, 80), format!("{TIME} {name}{USER}"));
    }

    #[test]
    fn what_is_too_long_is_cut_in_the_middle() {
        let mut event = membership();
        event.object_id = format!("user_{}_end", "x".repeat(60));
        let line = fitted(&event, 80);
        assert_eq!(line.chars().count(), 80);
        assert!(line.contains(" user_x") && line.contains("x…x") && line.ends_with("x_end"));
        event.r#type = format!("{}.created", "y".repeat(60));
        assert!(fitted(&event, 80).contains("y…y"));
        for columns in 12..200 {
            fitted(&event, columns);
        }
    }

    #[test]
    fn a_terminal_obeys_no_event() {
        let event = proto::Event {
            r#type: "user\x1b[2J\n\u{9b}".to_owned(),
            object_id: "日本".to_owned(),
            ..proto::Event::default()
        };
        let line = fitted(&event, 80);
        let shown = "user\\u{1b}[2J\\u{a}\\u{9b}";
        assert_eq!(line, format!("{TIME} {shown:<32} ??"));
        let colored = Line::fit(&event, DATE, TIME, 80).colored();
        assert_eq!(colored.into_string().matches('\x1b').count(), 4);
        let long = proto::Event {
            r#type: "\u{202e}".repeat(40),
            ..event
        };
        fitted(&long, 80);
        let empty = fitted(&proto::Event::default(), 80);
        assert_eq!(empty, format!("{TIME} (no type){} -", " ".repeat(23)));
    }
}
