//! A check under way: reads the values of options, and collects their errors.
//!
//! An invalid value is left out, and its default taken in its place, so that one pass finds all
//! errors.

use std::time::Duration;

use super::period::{Period, PeriodMax};
use super::settings::Settings;
use super::value::Value;
use crate::app::file::{Problem, Report};

/// Maximum time that a client or an operator can be made to wait.
pub(super) const TIMEOUT_MAX: PeriodMax = PeriodMax {
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

    /// Reports an error in an option.
    pub(super) fn refuse(&mut self, key: &str, message: impl std::fmt::Display) {
        self.report.refuse(self.settings.place(key), key, message);
    }

    /// Whether an error in this option, or in a table of this name, is reported already. A rule
    /// about several options is left out then, because it would judge the default that was taken
    /// in place of the invalid value.
    pub(super) fn is_refused(&self, key: &str) -> bool {
        let is_of_key = |problem: &Problem| {
            let rest = problem.key.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
        };
        self.report.problems.iter().any(is_of_key)
    }

    /// The value of an option, if it is set and valid.
    pub(super) fn value<T: Value>(&mut self, key: &str) -> Option<T> {
        let (text, _) = self.settings.value(key)?;
        let read = T::read(text);
        read.map_err(|message| self.refuse(key, message)).ok()
    }

    /// The period of an option, if it is set and at most `longest`.
    pub(super) fn period(
        &mut self,
        key: &str,
        given: Option<Period>,
        longest: PeriodMax,
    ) -> Option<Duration> {
        match given?.up_to(longest) {
            Ok(Period(duration)) => Some(duration),
            Err(message) => {
                self.refuse(key, message);
                None
            }
        }
    }

    /// The number of an option, if it is set and not 0.
    pub(super) fn count(&mut self, key: &str, given: Option<usize>) -> Option<usize> {
        if given == Some(0) {
            self.refuse(key, "must be more than 0");
        }
        given.filter(|count| *count > 0)
    }
}
