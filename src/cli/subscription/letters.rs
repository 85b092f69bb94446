//! Dead letters: to look at, to hand out again, to drop.

use clap::Args;

use super::{Calls, DeadLetterAction};
use crate::cli::connect::ConnectionArgs;
use crate::cli::failure::Failure;
use crate::cli::json;
use crate::cli::output::{escaped, note, print_line, print_while_read};
use crate::cli::table::to_the_second;
use crate::proto::{DeadLetter, ListDeadLettersRequest, ResolveDeadLettersRequest};

/// As many as a call may have.
const IDS_MAX: usize = 1000;
/// Of a reason, in one line.
const REASON_CHARACTERS_MAX: usize = 160;

#[derive(Clone, Debug, Args)]
pub(super) struct DeadArgs {
    #[command(flatten)]
    connection: ConnectionArgs,

    /// The subscription
    name: String,

    /// Print one JSON object a line, with the proto's field names
    #[arg(long)]
    json: bool,

    /// Also ask for the verified body; shown with --json
    #[arg(long)]
    include_payload: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ResolveArgs {
    #[command(flatten)]
    connection: ConnectionArgs,

    /// The subscription
    name: String,

    /// The ids of their events, `msg_…`, as `dead` shows them
    #[arg(
        value_name = "ID",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    ids: Vec<String>,

    /// All dead letters that there are now
    #[arg(long)]
    all: bool,
}

pub(super) async fn list(args: DeadArgs) -> Result<(), Failure> {
    let mut calls = Calls::new(&args.connection, &args.name)?;
    let mut request = ListDeadLettersRequest {
        subscription: args.name.clone(),
        include_payload: args.include_payload,
        ..ListDeadLettersRequest::default()
    };
    let mut count = 0;
    loop {
        let response = calls.client.list_dead_letters(request.clone()).await;
        let page = calls.answer(response)?;
        for letter in &page.dead_letters {
            let line = match args.json {
                true => json::line(letter, "DeadLetter")?,
                false => line(letter).into(),
            };
            if print_while_read([line])?.is_break() {
                return Ok(());
            }
            count += 1;
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    if count == 0 {
        note(format_args!("{} has no dead letters", args.name));
    }
    Ok(())
}

pub(super) async fn resolve(args: ResolveArgs, action: DeadLetterAction) -> Result<(), Failure> {
    let mut calls = Calls::new(&args.connection, &args.name)?;
    let request = ResolveDeadLettersRequest {
        subscription: args.name.clone(),
        action: action.into(),
        event_ids: Vec::new(),
        all: args.all,
    };
    let requests: Vec<_> = match args.all {
        true => vec![request],
        false => args
            .ids
            .chunks(IDS_MAX)
            .map(|ids| ResolveDeadLettersRequest {
                event_ids: ids.to_vec(),
                ..request.clone()
            })
            .collect(),
    };
    let mut count = 0;
    for request in requests {
        let response = calls.client.resolve_dead_letters(request).await;
        count += calls.answer(response)?.count;
    }
    let what = match action {
        DeadLetterAction::Drop => "dropped",
        _ => "to be handed out again",
    };
    print_line(format!("{count} {what}"))?;
    let given = i64::try_from(args.ids.len()).unwrap_or(i64::MAX);
    if !args.all && count < given {
        note(format_args!(
            "{} of {given} ids are not those of dead letters, or are being handed out already",
            given - count
        ));
    }
    Ok(())
}

/// One line: the time, the deliveries, the type, the event's id, and the reason.
fn line(letter: &DeadLetter) -> String {
    let time = letter.dead_time.map_or_else(String::new, to_the_second);
    let deliveries = letter.deliveries;
    let event = letter.event.as_ref();
    let (name, id) = event.map_or(("", ""), |event| (&event.r#type, &event.id));
    // As wide as it is shown.
    let name = escaped(name);
    let replaying = if letter.replaying { "(replaying) " } else { "" };
    let reason = one_line(&letter.reason);
    format!("{time:<20} {deliveries:>3} {name:<32} {id}  {replaying}{reason}")
}

/// A text of a worker's as one line that is not too long.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let joined = words.join(" ");
    let joined = escaped(&joined);
    match joined.char_indices().nth(REASON_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", joined.split_at(end).0),
        None => joined.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_is_not_too_long() {
        assert_eq!(one_line("a\n  b\u{1b}[31m\r\n"), "a b\\u{1b}[31m");
        assert_eq!(one_line(&"\u{1b}".repeat(161)).chars().count(), 161);
        assert_eq!(one_line(&"é".repeat(161)), format!("{}…", "é".repeat(160)));
        assert_eq!(one_line(&"é".repeat(160)), "é".repeat(160));
    }
}
