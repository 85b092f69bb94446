//! Errors in a configuration, and their places.

use std::fmt;

use super::masking::without_secrets;

/// One error. Its text holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The place of the value.
    pub place: Place,
    /// The option, as a path such as `sources[1].signing_secrets`; empty for the whole file.
    pub key: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// The errors and warnings of a check.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The errors.
    pub problems: Vec<Problem>,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
}

impl Report {
    /// Adds an error in the option `key`.
    pub fn refuse(&mut self, place: Place, key: &str, message: impl fmt::Display) {
        self.problems.push(Problem::new(place, key, message));
    }

    /// Adds a warning for the operator.
    pub fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }
}

/// The place of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    File {
        /// Its path.
        name: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// In a flag.
    Flag(String),
    /// In an environment variable.
    Variable(String),
    /// The value is missing.
    Nowhere,
}

impl Problem {
    /// An error, without what looks like a secret.
    pub fn new(place: Place, key: impl Into<String>, message: impl fmt::Display) -> Self {
        Self {
            place,
            key: without_secrets(&key.into()),
            message: without_secrets(&message.to_string()),
        }
    }

    /// An error in the configuration as a whole.
    #[must_use]
    pub fn of_config(message: impl fmt::Display) -> Self {
        Self::new(Place::Nowhere, "config", message)
    }

    /// The line in the file; for other places, a line beyond all others.
    #[must_use]
    pub fn line(&self) -> usize {
        match &self.place {
            Place::File { line, .. } => *line,
            _ => usize::MAX,
        }
    }

    /// As `config check` prints it: `FILE:LINE: KEY: message`.
    #[must_use]
    pub fn as_line(&self) -> String {
        let place = match &self.place {
            Place::File { name, line } => format!("{name}:{line}: "),
            Place::Flag(name) => format!("{name}: "),
            Place::Variable(name) => format!("{name}: "),
            Place::Nowhere => String::new(),
        };
        let key = match self.key.as_str() {
            "" => String::new(),
            key => format!("{key}: "),
        };
        format!("{place}{key}{}", self.message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            key,
            message,
        } = self;
        match place {
            Place::File { name, line } if key.is_empty() => {
                write!(formatter, "{name}, line {line}: {message}")
            }
            Place::File { name, line } => {
                // The line shows the table.
                let key = key.rsplit('.').next().unwrap_or_default();
                write!(formatter, "{name}, line {line}, {key}: {message}")
            }
            Place::Flag(name) | Place::Variable(name) => write!(formatter, "{name}: {message}"),
            Place::Nowhere => formatter.write_str(message),
        }
    }
}
