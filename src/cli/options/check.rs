//! A check under way: reads values, and notes what is wrong with them.
//!
//! A value that is wrong is left out, and its default taken in its place, so that one pass
//! finds all problems.

use std::time::Duration;

use super::period::{Longest, Period};
use super::settings::Settings;
use super::value::Value;
use crate::app::file::Report;

/// Of what a client or an operator waits for.
pub(super) const TIMEOUT_MAX: Longest = Longest {
    period: Period(Duration::from_secs(24 * 60 * 60)),
    shown: "1d",
};

/// A check under way.
pub(super) struct Check<'a> {
    pub(super) settings: &'a Settings,
    pub(super) report: Report,
}

impl<'a> Check<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        Self {
            settings,
            report: Report::default(),
        }
    }

    /// Notes what is wrong with an option.
    pub(super) fn refuse(&mut self, key: &str, message: impl std::fmt::Display) {
        self.report.refuse(self.settings.place(key), key, message);
    }

    /// The value that an option was given, if it is right.
    pub(super) fn value<T: Value>(&mut self, key: &str) -> Option<T> {
        let (text, _) = self.settings.value(key)?;
        let read = T::read(text);
        read.map_err(|message| self.refuse(key, message)).ok()
    }

    /// The period that an option was given, if it is no longer than `longest`.
    pub(super) fn period(
        &mut self,
        key: &str,
        given: Option<Period>,
        longest: Longest,
    ) -> Option<Duration> {
        match given?.up_to(longest) {
            Ok(Period(duration)) => Some(duration),
            Err(message) => {
                self.refuse(key, message);
                None
            }
        }
    }

    /// The number that an option was given, if it is not 0.
    pub(super) fn count(&mut self, key: &str, given: Option<usize>) -> Option<usize> {
        if given == Some(0) {
            self.refuse(key, "must be more than 0");
        }
        given.filter(|count| *count > 0)
    }
}
