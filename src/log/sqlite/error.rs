//! Why the embedded log cannot be opened.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why a log cannot be opened. No record in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it cannot be used.
    #[error("cannot use the data directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another process has it open.
    #[error(
        "the data directory {} is in use by another clerkcast; stop that one or pass another --data-dir",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The file belongs to another program.
    #[error("{} is not a clerkcast log; it was left as it is", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A later version wrote the file.
    #[error(
        "{} was written by a newer clerkcast (schema {found}, this one knows {known}); \
         run that version or pass another --data-dir",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema's version.
        found: i32,
        /// The latest that this version can write.
        known: i32,
    },
    /// SQLite refuses the file.
    #[error("cannot open the log {}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// What is in the file is not what SQLite wrote.
    #[error(
        "the log {} is damaged ({source}); it was left as it is. Restore a backup, or save what can be read of it with `sqlite3 {} .recover`",
        path.display(),
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread for the log: {0}")]
    Thread(io::Error),
}

impl OpenError {
    pub(super) fn of_file(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { path, source }
            }
            _ => Self::Sqlite { path, source },
        }
    }
}
