//! What an operator wrote, from everywhere: a flag wins over its environment variable, that
//! over the configuration file, that over the default.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

use super::document::Document;
use super::options::{AtReload, Declaration, OPTIONS, declaration};
use super::problem::Place;

/// Where a value is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag.
    Flag,
    /// This environment variable.
    Variable(&'static str),
    /// This line of the file.
    File(usize),
    /// The option's declaration.
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

/// Whether environment variables are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Environment {
    /// They are.
    #[default]
    OfProcess,
    /// They are not: what they would hold is not known.
    LeftOut,
}

impl Environment {
    /// The variable's value; an empty one, as from `${X:-}`, counts as not set.
    pub(super) fn get(self, name: &str) -> Option<OsString> {
        match self {
            Self::OfProcess => std::env::var_os(name).filter(|value| !value.is_empty()),
            Self::LeftOut => None,
        }
    }
}

/// Values of flags and variables, by key.
#[derive(Clone, Default)]
pub struct Given(BTreeMap<&'static str, (OsString, Origin)>);

/// Without the values, which may be secrets.
impl fmt::Debug for Given {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl Given {
    /// Gives `key` this value, in place of what it had.
    pub fn set(&mut self, key: &'static str, value: impl Into<OsString>, origin: Origin) {
        self.0.insert(key, (value.into(), origin));
    }
}

/// Everything that an operator wrote.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// By flags and variables.
    pub given: Given,
    /// By the file.
    pub document: Document,
    /// Whether variables that hold secrets are looked at.
    pub environment: Environment,
}

impl Settings {
    /// The value of an option, and where it is from.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<(&OsStr, Origin)> {
        if let Some((value, origin)) = self.given.0.get(key) {
            return Some((value, origin.clone()));
        }
        if let Some((text, line)) = self.document.options.get(key) {
            return Some((text.as_ref(), Origin::File(*line)));
        }
        let (default, origin) = declaration(key)?.default()?;
        Some((default.as_ref(), origin))
    }

    /// Whether the option was given a value.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        let value = self.value(key);
        value.is_some_and(|(_, origin)| origin != Origin::Default)
    }

    /// Where messages say that an option stands.
    pub(super) fn place(&self, key: &str) -> Place {
        match self.value(key) {
            Some((_, Origin::Flag)) => Place::Flag(format!("--{}", key.replace('_', "-"))),
            Some((_, Origin::Variable(name))) => Place::Variable(name.to_owned()),
            Some((_, Origin::File(line))) => self.document.place(line),
            Some((_, Origin::Default)) | None => Place::Nowhere,
        }
    }

    /// The options whose values differ from those that a process runs with, and that it
    /// cannot take up.
    #[must_use]
    pub fn options_to_restart_for(&self, running: &Self) -> Vec<&'static Declaration> {
        let differs = |option: &&Declaration| {
            let values = [self, running].map(|it| it.value(option.key).map(|(value, _)| value));
            values[0] != values[1] && !self.can_take_up(option, running)
        };
        OPTIONS.iter().filter(differs).collect()
    }

    fn can_take_up(&self, option: &Declaration, running: &Self) -> bool {
        match option.at_reload {
            AtReload::TakenUp => true,
            AtReload::NeedsRestart => false,
            AtReload::TakenUpByEmbeddedLog => {
                running.value("log").is_none_or(|(log, _)| log != "nats")
            }
            AtReload::TakenUpByTls => {
                let port = option.key.split('_').next().unwrap_or_default();
                let certificate = format!("{port}_tls_cert");
                running.has(&certificate) && self.has(&certificate)
            }
        }
    }

    /// These settings, but for `options`, which stay as they are in `running`.
    #[must_use]
    pub fn but_for(mut self, options: &[&'static Declaration], running: &Self) -> Self {
        for option in options {
            self.document.options.remove(option.key);
            self.given.0.remove(option.key);
            if let Some((value, origin)) = running.value(option.key) {
                self.given.set(option.key, value, origin);
            }
        }
        self
    }
}
