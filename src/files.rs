//! Files that an operator names, read within bounds of size and time.
//!
//! ```text
//!   path ─► opened without waiting ─┬─► regular file ─► at most N bytes
//!                                   ├─► pipe, if it is read only once ─► at most N bytes, 10 s
//!                                   └─► device, directory, socket ─► refused by its kind
//! ```
//!
//! A path may lead to a pipe that no program writes, or to a device that never ends. The kind is
//! that of the open file, so a path that is replaced between two looks changes nothing. What this
//! room does not know: what the files mean.

use std::fmt;
use std::fs::{File, FileType, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

/// The time within which a pipe must be written and closed.
const PIPE_TIMEOUT: Duration = Duration::from_secs(10);

/// The content of a file.
pub struct Content {
    /// All its bytes.
    pub bytes: Vec<u8>,
    /// The metadata of the open file.
    pub metadata: Metadata,
}

/// Leaves out the bytes, which may be a secret.
impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut content = formatter.debug_struct("Content");
        content.field("length", &self.bytes.len());
        content.finish_non_exhaustive()
    }
}

/// Why a file was not read. The message does not name the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The path leads to something else, such as `a pipe`.
    #[error("it is {0}, not a regular file")]
    NotRegular(&'static str),
    /// It has more bytes than this.
    #[error("it is larger than {}", shown_size(*.0))]
    TooLarge(u64),
    /// The pipe was closed before anything was written.
    #[error("nothing was written to this pipe")]
    EmptyPipe,
    /// The pipe was not closed in time.
    #[error("this pipe was not written and closed within {} s", .0.as_secs())]
    SlowPipe(Duration),
}

/// Reads a regular file of at most `bytes_max` bytes, for what is read again while the gateway
/// runs: a pipe would be empty then.
///
/// # Errors
/// When the path leads to something else, or the file is larger.
pub fn read(path: &Path, bytes_max: u64) -> Result<Content, Error> {
    let (file, metadata) = open_without_waiting(path)?;
    match kind(metadata.file_type()) {
        Kind::Regular => Ok(Content {
            bytes: read_file(&file, bytes_max)?,
            metadata,
        }),
        Kind::Pipe => Err(Error::NotRegular("a pipe")),
        Kind::Other(name) => Err(Error::NotRegular(name)),
    }
}

/// Reads a file as [`read`] does, or a pipe such as `/dev/stdin` or `<(command)`, for what is
/// read only once. A pipe must be written and closed within 10 s. An empty one is an error,
/// because the command that writes it has failed, and an empty file can mean something.
///
/// # Errors
/// As [`read`], and when the pipe stays empty or open.
pub fn read_once(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let (file, metadata) = open_without_waiting(path)?;
    match kind(metadata.file_type()) {
        Kind::Regular => read_file(&file, bytes_max),
        Kind::Pipe => read_pipe(&file, bytes_max, PIPE_TIMEOUT),
        Kind::Other(name) => Err(Error::NotRegular(name)),
    }
}

enum Kind {
    Regular,
    Pipe,
    Other(&'static str),
}

fn kind(of: FileType) -> Kind {
    if of.is_file() {
        Kind::Regular
    } else if of.is_fifo() {
        Kind::Pipe
    } else if of.is_dir() {
        Kind::Other("a directory")
    } else if of.is_socket() {
        Kind::Other("a socket")
    } else {
        Kind::Other("a device")
    }
}

/// Opens without waiting for the other end of a pipe, and without taking a terminal.
fn open_without_waiting(path: &Path) -> Result<(File, Metadata), Error> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = open(path, flags, Mode::empty()).map_err(|error| match error {
        // A socket cannot be opened, and the system's message calls it a device.
        Errno::NXIO => Error::NotRegular("a socket or a device that is absent"),
        error => Error::Io(error.into()),
    })?;
    let file = File::from(opened);
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

fn read_file(file: &File, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    within(bytes, bytes_max)
}

fn read_pipe(pipe: &File, bytes_max: u64, patience: Duration) -> Result<Vec<u8>, Error> {
    let deadline = Instant::now() + patience;
    let mut bytes = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !becomes_readable(pipe, left)? {
            return Err(Error::SlowPipe(patience));
        }
        let room = bytes_max.saturating_add(1) - bytes.len() as u64;
        match pipe.take(room).read_to_end(&mut bytes) {
            Ok(_) if bytes.is_empty() => return Err(Error::EmptyPipe),
            Ok(_) => return within(bytes, bytes_max),
            // What was read until then is kept.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until there are bytes, or the end. Returns false if the time is over.
fn becomes_readable(pipe: &File, within: Duration) -> Result<bool, Error> {
    let within = Timespec::try_from(within).map_err(io::Error::other)?;
    let mut pipes = [PollFd::new(pipe, PollFlags::IN)];
    match poll(&mut pipes, Some(&within)) {
        Ok(ready) => Ok(ready > 0),
        // The caller looks at the time, and waits again.
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(Error::Io(error.into())),
    }
}

fn within(bytes: Vec<u8>, bytes_max: u64) -> Result<Vec<u8>, Error> {
    match bytes.len() as u64 > bytes_max {
        true => Err(Error::TooLarge(bytes_max)),
        false => Ok(bytes),
    }
}

fn shown_size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    match bytes {
        bytes if bytes >= MIB && bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        bytes if bytes >= KIB && bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        bytes => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType as Type, mknodat};

    use super::*;

    fn refusal<T: fmt::Debug>(outcome: Result<T, Error>) -> String {
        outcome.expect_err("refused").to_string()
    }

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("file"), "1234").expect("written");
        std::os::unix::fs::symlink(path("file"), path("link")).expect("linked");
        assert_eq!(read(&path("link"), 4).expect("read").bytes, b"1234");
        assert_eq!(read_once(&path("file"), 4).expect("read"), b"1234");
        assert_eq!(refusal(read(&path("file"), 3)), "it is larger than 3 bytes");
        mknodat(CWD, path("pipe"), Type::Fifo, Mode::RWXU, 0).expect("made");
        let _socket = UnixListener::bind(path("socket")).expect("bound");
        for (path, kind) in [
            (path("pipe"), "a pipe"),
            (path("socket"), "a socket"),
            (directory.path().to_owned(), "a directory"),
            ("/dev/zero".into(), "a device"),
        ] {
            let refused = refusal(read(&path, 4));
            assert!(refused.starts_with(&format!("it is {kind}")), "{refused}");
        }
        for (path, kind) in [
            (path("socket"), "a socket"),
            ("/dev/zero".into(), "a device"),
        ] {
            let refused = refusal(read_once(&path, 4));
            assert!(refused.starts_with(&format!("it is {kind}")), "{refused}");
        }
        let absent = refusal(read(&path("none"), 4));
        assert!(absent.contains("No such file"), "{absent}");
    }

    #[test]
    fn a_pipe_is_read_to_its_end_within_its_bounds() {
        let limited = |pipe: io::PipeReader| {
            let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
            rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK).expect("set");
            read_pipe(&pipe, 8, Duration::from_millis(20))
        };
        let written = |text: &[u8]| {
            let (reader, mut writer) = io::pipe().expect("a pipe");
            writer.write_all(text).expect("written");
            (reader, writer)
        };
        let closed = |text| {
            let (reader, writer) = written(text);
            drop(writer);
            limited(reader)
        };
        assert_eq!(closed(b"12345678").expect("read"), b"12345678");
        assert!(matches!(closed(b"123456789"), Err(Error::TooLarge(8))));
        assert!(matches!(closed(b""), Err(Error::EmptyPipe)));
        let (reader, _open) = written(b"1234");
        assert!(matches!(limited(reader), Err(Error::SlowPipe(_))));
    }
}
