//! Why a copy ended before everything was copied.

use std::io;
use std::path::PathBuf;

use crate::intake;
use crate::log::{AppendError, ReadError};

/// Why a copy did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The file to write exists.
    #[error("{}: file exists", .0.display())]
    FileExists(PathBuf),
    /// A file holds something that is not an event.
    #[error("{}: event {number}: {cause}", path.display())]
    Event {
        /// The file.
        path: PathBuf,
        /// The place of the event in it, from 1.
        number: u64,
        /// What is wrong with it.
        cause: InvalidEvent,
    },
    /// The log to copy from cannot be read.
    #[error("reading the log: {0}")]
    Read(#[from] ReadError),
    /// The log did not take an event, nor any after it.
    #[error("{cause}; {copied} events were copied: repeat the command to go on")]
    Append {
        /// Why not.
        cause: intake::Error,
        /// Events that it took before.
        copied: u64,
    },
    /// The log did not take an event, and took some after it.
    #[error("{0}; later events were taken nevertheless: remove the target and copy again")]
    OrderLost(intake::Error),
    /// The log did not take the ids of removed events.
    #[error("the ids of removed events were not all copied: repeat the command: {0}")]
    RetiredIds(AppendError),
    /// A stored event is not one.
    #[error("the stored event {id}: {cause}")]
    StoredEvent {
        /// Its `svix-id`.
        id: String,
        /// What is wrong with it.
        cause: prost::DecodeError,
    },
    /// A stored body is not text.
    #[error("the body of {0} is not UTF-8")]
    BodyNotUtf8(String),
    /// An event cannot be written as JSON.
    #[error("event {id}: {cause}")]
    Json {
        /// Its `svix-id`.
        id: String,
        /// Why not.
        cause: InvalidEvent,
    },
}

/// Why something in a file is not an event.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEvent {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not an `ArchivedEvent` in JSON. The parser's message is left out, because it may quote
    /// the event.
    #[error("not an ArchivedEvent in JSON, from column {0} on")]
    Json(usize),
    /// It is not an `ArchivedEvent` in protobuf, or not one of this version.
    #[error(transparent)]
    Protobuf(#[from] prost::DecodeError),
    /// No event is that long.
    #[error("its length is that of no event")]
    Length,
    /// The length before it is cut.
    #[error("the file ends within its length")]
    EndsWithinLength,
    /// It is cut.
    #[error("the file ends within it: {0}")]
    EndsWithin(io::Error),
    /// It lacks what each event has.
    #[error("it has no {0}")]
    Lacks(&'static str),
    /// It cannot be rendered.
    #[error(transparent)]
    Render(#[from] serde_json::Error),
    /// The proto files lack the archive's message.
    #[error("there is no message {0}")]
    NoMessage(String),
}
