//! How a command fails.

use crate::app::RunError;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line or the configuration is wrong: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The command failed: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// The command failed, and has logged why: exit code 1.
    #[error("{0}")]
    Logged(String),
    /// Standard output cannot be written: exit code 1.
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
    /// Interrupted before it was done: exit code 130.
    #[error("{0}")]
    Interrupted(String),
}

impl Failure {
    /// A failure with the error's causes, if the error shows them.
    pub(super) fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{error:#}"))
    }

    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) | Self::Logged(_) | Self::Output(_) => 1,
            Self::Interrupted(_) => 130,
        }
    }

    /// Whether the process still has to print the failure.
    #[must_use]
    pub fn is_unreported(&self) -> bool {
        !matches!(self, Self::Logged(_))
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Log(_) => Self::Logged(error.to_string()),
            RunError::Server(error) => Self::failed(error),
        }
    }
}
