//! Events, as a command prints them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use clerkcast_client::{Delivery, Subscriber};

use super::failure::Failure;
use super::figures::{counted, grouped};
use super::output::{Printable, escaped, note, print_while_read};
use super::table::NO_VALUE;
use super::terminal::{Terminal, name_of};
use super::{json, narrowing};
use crate::proto::subscribe_response::Kind;
use crate::proto::{ReceiveResponse, SubscribeResponse, receive_response};
use crate::{proto, webhook};

/// Types that are named at the end; the others are `…`.
const TYPES_SUMMED_MAX: usize = 2;
/// Blanks before each line of a body.
const BODY_INDENT: usize = 4;

/// How events are printed.
#[derive(Clone, Debug)]
pub(super) enum Style {
    Json,
    /// One line an event, as wide as it is, for files and programs.
    Full,
    /// One line an event, as wide as the terminal.
    Fitted(Terminal),
}

impl Style {
    pub(super) fn new(json: bool) -> Self {
        match (json, Terminal::of_standard_output()) {
            (true, _) => Self::Json,
            (false, Some(terminal)) => Self::Fitted(terminal),
            (false, None) => Self::Full,
        }
    }
}

/// Prints frames, and counts the printed events.
pub(super) struct Printer {
    style: Style,
    /// Whether the body is printed below each event.
    is_verbose: bool,
    counts: BTreeMap<String, u64>,
    /// The cursor of the last printed frame.
    cursor: String,
    is_narrowing_reported: bool,
}

impl Printer {
    pub(super) fn new(style: Style, is_verbose: bool) -> Self {
        Self {
            style,
            is_verbose,
            counts: BTreeMap::new(),
            cursor: String::new(),
            is_narrowing_reported: false,
        }
    }

    /// Does not report what the policy removes, because `clerkcast dev` made the policy itself.
    pub(super) fn without_narrowing(mut self) -> Self {
        self.is_narrowing_reported = true;
        self
    }

    /// Prints until the stream ends as asked, or standard output is closed.
    pub(super) async fn print(&mut self, subscriber: &mut Subscriber) -> Result<(), Failure> {
        loop {
            let Some(frame) = subscriber
                .next()
                .await
                .map_err(|error| Failure::Failed(error.to_string()))?
            else {
                return Ok(());
            };
            let lines = self.lines(&frame)?;
            if !lines.is_empty() && print_while_read(lines)?.is_break() {
                return Ok(());
            }
            if let Some(Kind::Event(event)) = &frame.kind {
                self.count(event);
            }
            self.cursor = frame.cursor;
        }
    }

    /// Prints an event of a subscription, if standard output is still read.
    pub(super) fn print_delivery(
        &mut self,
        delivery: &Delivery,
    ) -> Result<ControlFlow<()>, Failure> {
        let lines = match &self.style {
            Style::Json => vec![json::line(&as_frame(delivery), "ReceiveResponse")?],
            _ => self.with_body(&delivery.event),
        };
        let printed = print_while_read(lines)?;
        if printed.is_continue() {
            self.count(&delivery.event);
        }
        Ok(printed)
    }

    fn count(&mut self, event: &proto::Event) {
        *self.counts.entry(event.r#type.clone()).or_default() += 1;
    }

    /// The printed events, and how to resume: `3 events (2 user.created, 1 user.updated); …`.
    pub(super) fn summary(&self) -> String {
        let count: u64 = self.counts.values().sum();
        let mut types: Vec<(&String, &u64)> = self.counts.iter().collect();
        types.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let more = if types.len() > TYPES_SUMMED_MAX {
            ", …"
        } else {
            ""
        };
        let shown = types
            .iter()
            .take(TYPES_SUMMED_MAX)
            .map(|(name, count)| format!("{} {}", grouped(**count), name_of(name)))
            .collect::<Vec<_>>()
            .join(", ");
        let of_types = if count == 0 {
            String::new()
        } else {
            format!(" ({shown}{more})")
        };
        let events = counted(count, "event");
        match self.cursor.as_str() {
            "" => format!("{events}{of_types}"),
            cursor => format!("{events}{of_types}; resume with --after {cursor}"),
        }
    }

    fn lines(&mut self, frame: &SubscribeResponse) -> Result<Vec<Printable>, Failure> {
        match &frame.kind {
            Some(Kind::Event(_) | Kind::Gap(_)) if matches!(self.style, Style::Json) => {
                return Ok(vec![json::line(frame, "SubscribeResponse")?]);
            }
            Some(Kind::Event(event)) => return Ok(self.with_body(event)),
            Some(Kind::Gap(_)) => {
                note("events were removed by retention before they could be read");
            }
            Some(Kind::FellBehind(_)) => {
                note("fell behind; reading from the log until caught up");
            }
            Some(Kind::Started(started)) => {
                let narrowed = started.narrowed.as_ref().and_then(narrowing::described);
                // Once, not at each connection.
                if let Some(text) = narrowed.filter(|_| !self.is_narrowing_reported) {
                    note(text);
                    self.is_narrowing_reported = true;
                }
            }
            _ => {}
        }
        Ok(Vec::new())
    }

    fn with_body(&self, event: &proto::Event) -> Vec<Printable> {
        let summary = match &self.style {
            Style::Fitted(terminal) => terminal.line(event),
            Style::Full | Style::Json => full_line(event).into(),
        };
        let body = event.payload_json.as_deref().filter(|_| self.is_verbose);
        std::iter::once(summary)
            .chain(body.into_iter().flat_map(indented))
            .collect()
    }
}

/// The frame that a delivery came in.
fn as_frame(delivery: &Delivery) -> ReceiveResponse {
    ReceiveResponse {
        kind: Some(receive_response::Kind::Delivery(proto::Delivery {
            ack_id: delivery.ack_id().to_owned(),
            event: Some(delivery.event.clone()),
            attempt: delivery.attempt,
            deadline: delivery.deadline,
            replayed: delivery.replayed,
        })),
    }
}

/// The body on lines of its own, with its keys in their order. A body that is not JSON, or is
/// nested too deep to indent, keeps its own lines.
pub(super) fn indented(body: &str) -> Vec<Printable> {
    let pretty = webhook::pretty(body).unwrap_or_else(|| body.to_owned());
    let lines = pretty.lines();
    lines
        .map(|line| Printable::json(line).indented(BODY_INDENT))
        .collect()
}

/// The time, in UTC, the type, the ids that the event concerns, and its own id.
fn full_line(event: &proto::Event) -> String {
    let time = event
        .occur_time
        .as_ref()
        .or(event.receive_time.as_ref())
        .map_or_else(String::new, ToString::to_string);
    // As wide as it is shown.
    let name = escaped(name_of(&event.r#type));
    let ids = [&event.user_id, &event.organization_id, &event.session_id];
    let mut concerns: Vec<&str> = ids
        .iter()
        .map(|id| id.as_str())
        .filter(|id| !id.is_empty())
        .collect();
    if concerns.is_empty() {
        let object = Some(event.object_id.as_str()).filter(|id| !id.is_empty());
        concerns.push(object.unwrap_or(NO_VALUE));
    }
    let concerns = concerns.join(" ");
    format!("{time:<24} {name:<32} {concerns}  {}", event.id)
}
