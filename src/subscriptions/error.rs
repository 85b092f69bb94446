//! Why a call about a subscription is not answered.

use super::machine::SeekError;
use super::name::Name;
use super::settings::SettingError;
use super::step_error::StepError;
use crate::event::{Cursor, Epoch};
use crate::{fanout, log};

/// Why a call about a subscription is not answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// None of that name, or another principal's.
    #[error("there is no subscription {name}{}", did_you_mean(.nearest.as_ref()))]
    NotFound {
        /// The name that was asked for.
        name: Name,
        /// The caller's that is most like it.
        nearest: Option<Name>,
    },
    /// One of that name exists, with other settings or of another owner.
    #[error("{}", exists(.name, .differing_fields))]
    Exists {
        /// The name.
        name: Name,
        /// The fields that differ, by their names in the proto file; none where it is another
        /// owner's.
        differing_fields: Vec<&'static str>,
    },
    /// It was deleted while a worker was connected.
    #[error("the subscription {0} was deleted")]
    Deleted(Name),
    /// As many subscriptions as the log keeps.
    #[error(
        "{0} subscriptions are in the log, which is the limit; delete one that is not needed, or raise --max-subscriptions"
    )]
    TooMany(usize),
    /// As many subscriptions as one of several principals may have.
    #[error(
        "{principal} has {limit} subscriptions, which is the limit of one principal (half of --max-subscriptions); delete one that is not needed"
    )]
    TooManyOfPrincipal {
        /// Whose they are.
        principal: String,
        /// How many it may have.
        limit: usize,
    },
    /// An operator asks for what stays the owner's.
    #[error(
        "{method} is for the owner of the subscription, which is {owner:?}; the policy of {principal} lets it list and change the subscriptions of others, and resolve their dead letters"
    )]
    NotOwner {
        /// Who asks.
        principal: String,
        /// What it asks for.
        method: &'static str,
        /// Whose it is.
        owner: String,
    },
    /// A policy allows nothing of what is asked for.
    #[error("the policy of {principal} allows nothing of this: {asked}")]
    NotAllowed {
        /// Whose policy it is.
        principal: String,
        /// As `types: email.created`.
        asked: String,
    },
    /// Settings outside their bounds.
    #[error("settings outside their bounds")]
    Settings(Vec<SettingError>),
    /// Retention took events that were not handled, and the settings say to stop.
    #[error(
        "retention removed events that {name} has not handled; continue with `clerkcast subscription seek {name} --to earliest`, or with `on_expired`"
    )]
    Expired {
        /// The subscription.
        name: Name,
        /// As a cursor, it yields all that is left.
        oldest: Cursor,
        /// The end of the log.
        newest: Cursor,
    },
    /// The state is of another log than the one that is there.
    #[error(
        "the log is another one than {name} was in; continue with `clerkcast subscription seek {name} --to earliest`"
    )]
    OtherLog {
        /// The subscription.
        name: Name,
        /// The subscription's log.
        found: Epoch,
        /// The log that is there.
        expected: Epoch,
    },
    /// The state is of more of the log than there is.
    #[error(
        "{name} is ahead of the log, which was restored from a backup; continue with `clerkcast subscription seek {name} --to latest`"
    )]
    AheadOfLog {
        /// The subscription.
        name: Name,
        /// The end of the log.
        newest: Cursor,
    },
    /// A seek into another log, while dead letters of the former are there.
    #[error(transparent)]
    Seek(#[from] SeekError),
    /// The cell could not be written. It may have been.
    #[error("not stored: {0}; repeat the same call")]
    NotStored(String),
    /// As for subscribers.
    #[error(transparent)]
    Stream(#[from] fanout::Error),
}

impl Error {
    /// As audit lines show why a worker's stream ended.
    #[must_use]
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Deleted(_) => "deleted",
            Self::NotStored(_) => "not_stored",
            Self::Expired { .. } => "cursor_expired",
            Self::OtherLog { .. } | Self::AheadOfLog { .. } | Self::Seek(_) => "other_log",
            Self::Stream(fanout::Error::Draining) => "draining",
            Self::Stream(fanout::Error::FiltersTooLarge { .. }) => "filters_too_large",
            Self::Stream(fanout::Error::PolicyChanged | fanout::Error::PrincipalRemoved)
            | Self::NotOwner { .. }
            | Self::NotAllowed { .. } => "access_ended",
            Self::NotFound { .. }
            | Self::Exists { .. }
            | Self::TooMany(_)
            | Self::TooManyOfPrincipal { .. }
            | Self::Settings(_)
            | Self::Stream(_) => "log_unreadable",
        }
    }

    /// Why a call that writes is not answered: a log that cannot be reached stores nothing.
    #[must_use]
    pub fn of_write(self) -> Self {
        match self {
            Self::Stream(fanout::Error::Log(error @ log::ReadError::Unreachable(_))) => {
                Self::NotStored(error.to_string())
            }
            error => error,
        }
    }

    /// Why the subscription `name` did not answer a call, or ended a worker's stream.
    pub(super) fn of_step(name: &Name, error: StepError) -> Self {
        let name = name.clone();
        match error {
            StepError::NotStored(reason) => Self::NotStored(reason),
            StepError::Expired { oldest, newest } => Self::Expired {
                name,
                oldest,
                newest,
            },
            StepError::OtherLog { found, expected } => Self::OtherLog {
                name,
                found,
                expected,
            },
            StepError::AheadOfLog { newest } => Self::AheadOfLog { name, newest },
            StepError::Seek(error) => Self::Seek(error),
            StepError::Deleted => Self::Deleted(name),
            StepError::Draining => Self::Stream(fanout::Error::Draining),
            StepError::Walk(error) => Self::Stream(error),
            StepError::State(error) => log::ReadError::Unreadable(error.to_string()).into(),
            StepError::Log(error) => error.into(),
        }
    }
}

impl From<log::ReadError> for Error {
    fn from(error: log::ReadError) -> Self {
        Self::Stream(error.into())
    }
}

impl From<log::AppendError> for Error {
    fn from(error: log::AppendError) -> Self {
        Self::NotStored(error.to_string())
    }
}

fn did_you_mean(nearest: Option<&Name>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

fn exists(name: &Name, differing_fields: &[&str]) -> String {
    if differing_fields.is_empty() {
        return format!("the name {name} is taken");
    }
    format!(
        "the subscription {name} exists with another {}: update it, or delete it first",
        differing_fields.join(", ")
    )
}
