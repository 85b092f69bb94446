//! The settings of an operator, from all places: a flag wins over its environment variable, and
//! that over the configuration file.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

use crate::app::file::{Document, Environment, Place, Report};

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag.
    Flag,
    /// This environment variable.
    Variable(&'static str),
    /// This line of the file.
    File(usize),
    /// The option's declaration, or the command.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => formatter.write_str("flag"),
            Self::Variable(name) => write!(formatter, "env {name}"),
            Self::File(line) => write!(formatter, "file {line}"),
            Self::Default => formatter.write_str("default"),
        }
    }
}

/// Values of flags and variables, by key.
#[derive(Clone, Default)]
pub struct Given(BTreeMap<&'static str, (OsString, Origin)>);

/// Leaves out the values, which may be secrets.
impl fmt::Debug for Given {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl Given {
    /// Sets `key` to this value, in place of the former.
    pub fn set(&mut self, key: &'static str, value: impl Into<OsString>, origin: Origin) {
        self.0.insert(key, (value.into(), origin));
    }

    /// Takes the value of `key` away.
    pub(super) fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }
}

/// The settings of an operator.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// From flags and variables.
    pub given: Given,
    /// From the file.
    pub document: Document,
    /// Whether variables that hold secrets are read.
    pub environment: Environment,
    /// The errors and warnings of files that hold values instead of variables.
    pub files: Report,
}

impl Settings {
    /// The value of an option, and its origin.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<(&OsStr, Origin)> {
        if let Some((value, origin)) = self.given.0.get(key) {
            return Some((value, origin.clone()));
        }
        let (text, line) = self.document.option(key)?;
        Some((text.as_ref(), Origin::File(line)))
    }

    /// Whether the operator gave the option a value.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        let value = self.value(key);
        value.is_some_and(|(_, origin)| origin != Origin::Default)
    }

    /// The place of an option, for messages.
    pub(super) fn place(&self, key: &str) -> Place {
        match self.value(key) {
            Some((_, Origin::Flag)) => Place::Flag(format!("--{}", key.replace('_', "-"))),
            Some((_, Origin::Variable(name))) => Place::Variable(name.to_owned()),
            Some((_, Origin::File(line))) => self.document.place(line),
            Some((_, Origin::Default)) | None => Place::Nowhere,
        }
    }
}
