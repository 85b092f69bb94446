//! Which events a command is about, and where they start.

use std::str::FromStr as _;

use clap::Args;
use prost_types::Timestamp;

use super::failure::Failure;
use super::output::note;
use crate::clerk::catalog::CATALOG;
use crate::filter::KnownNames;
use crate::proto::{EventFilter, StartPosition};

/// Filters; without any, all events.
#[derive(Clone, Debug, Args)]
pub(super) struct FilterArgs {
    /// Only these types: `user.created`, `user.*`; repeat for several
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,

    /// Not these types
    #[arg(long = "exclude-type", value_name = "TYPE")]
    exclude_types: Vec<String>,

    /// Only events that concern these users
    #[arg(long = "user", value_name = "ID")]
    users: Vec<String>,

    /// Only events that concern these organizations
    #[arg(long = "org", value_name = "ID")]
    organizations: Vec<String>,

    /// Only events of these sessions
    #[arg(long = "session", value_name = "ID")]
    sessions: Vec<String>,

    /// Only events of these Clerk instances
    #[arg(long = "instance", value_name = "ID")]
    instances: Vec<String>,

    /// Only events from these sources
    #[arg(long = "source", value_name = "NAME")]
    sources: Vec<String>,
}

/// The arguments of [`FilterArgs`], as clap knows them.
pub(super) const FILTER_ARGS: [&str; 7] = [
    "types",
    "exclude_types",
    "users",
    "organizations",
    "sessions",
    "instances",
    "sources",
];

impl FilterArgs {
    /// The filter. Says on standard error which patterns match nothing that is known.
    pub(super) fn filter(&self) -> EventFilter {
        let declared = CATALOG.iter().map(|kind| kind.name);
        let known = KnownNames::new(declared, [], &[]);
        let patterns = self.types.iter().chain(&self.exclude_types);
        for doubt in patterns.filter_map(|pattern| known.doubt(pattern)) {
            note(doubt);
        }
        EventFilter {
            types: self.types.clone(),
            exclude_types: self.exclude_types.clone(),
            user_ids: self.users.clone(),
            organization_ids: self.organizations.clone(),
            session_ids: self.sessions.clone(),
            sources: self.sources.clone(),
            instance_ids: self.instances.clone(),
        }
    }

    /// The filter, if any flag gives one.
    pub(super) fn given(&self) -> Option<EventFilter> {
        Some(self.filter()).filter(|filter| *filter != EventFilter::default())
    }
}

/// Where to start.
#[derive(Clone, Debug, Args)]
pub(super) struct StartArgs {
    /// Where to start: `earliest`, `latest`, or a time such as 2026-11-23T09:00:00Z
    #[arg(
        long,
        value_name = "WHERE",
        default_value = "latest",
        conflicts_with = "after"
    )]
    from: String,

    /// Start after this cursor, as --json shows them
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

/// The arguments of [`StartArgs`], as clap knows them.
pub(super) const START_ARGS: [&str; 2] = ["from", "after"];

/// A place in the log, as requests name it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    After(String),
    End(StartPosition),
    Time(Timestamp),
}

impl StartArgs {
    pub(super) fn place(&self) -> Result<Place, Failure> {
        if let Some(cursor) = &self.after {
            return Ok(Place::After(cursor.clone()));
        }
        end_or_time(&self.from).ok_or_else(|| {
            Failure::Usage(format!(
                "--from: {:?}: write earliest, latest, or a time such as 2026-11-23T09:00:00Z",
                self.from
            ))
        })
    }
}

impl Place {
    /// `earliest`, `latest`, a time or a cursor, which begins with a letter.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_cursor = text.starts_with(|first: char| first.is_ascii_alphabetic());
        let cursor = || is_cursor.then(|| Self::After(text.to_owned()));
        end_or_time(text).or_else(cursor)
    }
}

fn end_or_time(text: &str) -> Option<Place> {
    match text {
        "earliest" => Some(Place::End(StartPosition::Earliest)),
        "latest" => Some(Place::End(StartPosition::Latest)),
        time => Timestamp::from_str(time).ok().map(Place::Time),
    }
}
