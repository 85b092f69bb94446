//! A backup: the log as of one moment, in a file of its own, while a gateway writes or not.
//!
//! ```text
//!   log ──one read transaction──► FILE.tmp-…  ──checked, fsynced──► FILE
//! ```
//!
//! SQLite's online backup starts over with each write. `VACUUM INTO` reads one snapshot, so
//! it ends however busy the log is, and writes a file without free pages. It pauses as long
//! as it works, so that a gateway's commits keep their share of the disk.

use std::ffi::{OsString, c_int};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rusqlite::{Connection, InterruptHandle, OpenFlags};

use super::error::OpenError;
use super::files::{self, parent, sync_directory};
use super::runs::Runs;
use super::schema;
use crate::event::{Cursor, Epoch, Position, Run};

/// The first schema whose positions belong to runs.
const VERSION_WITH_RUNS: i32 = 3;
/// How long a backup works before it pauses.
const WORK_TIME: Duration = Duration::from_millis(20);
/// How many steps of SQLite's virtual machine lie between two looks at the time: a small
/// part of a millisecond.
const STEPS: c_int = 1_000;

/// Why a backup was not made. It leaves no file.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is nothing to back up.
    #[error("{}: there is no log in this directory", .0.display())]
    NoLog(PathBuf),
    /// The log cannot be opened.
    #[error("{}", with_cause(.0))]
    Open(#[from] OpenError),
    /// A backup replaces no file.
    #[error("{}: file exists", .0.display())]
    FileExists(PathBuf),
    /// The new file cannot be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The log cannot be read, or the copy not written.
    #[error("cannot copy the log: {0}")]
    Copy(String),
    /// Another process has put a file in the place of the new one.
    #[error(
        "{}: another process has replaced this file; choose a directory in which only this user may write",
        .0.display()
    )]
    Replaced(PathBuf),
    /// What was read is not whole.
    #[error("the copy does not pass SQLite's check, and was removed: {0}")]
    Damaged(String),
}

fn with_cause(error: &OpenError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// A finished backup.
#[derive(Clone, Copy, Debug)]
pub struct BackedUp {
    /// Events in it.
    pub events: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Up to where it goes.
    pub newest: Cursor,
}

/// A backup on its way. Dropping it before its end leaves no file.
#[derive(Debug)]
pub struct Backup {
    source: Connection,
    file: PathBuf,
    output: File,
    unfinished: Unfinished,
}

/// The file that a backup is written to before it gets its name.
#[derive(Clone, Debug)]
pub struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    /// Removes it, and SQLite's journal beside it.
    pub fn remove(&self) {
        let mut journal = OsString::from(&self.path);
        journal.push("-journal");
        for path in [&self.path, Path::new(&journal)] {
            let _none = fs::remove_file(path);
        }
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        self.unfinished.remove();
    }
}

impl Backup {
    /// Opens the log in `data_dir`, and creates what will be `file`.
    ///
    /// # Errors
    /// When there is no log that this version can read, or no such file can be made.
    pub fn begin(data_dir: &Path, file: &Path) -> Result<Self, BackupError> {
        let path = data_dir.join(files::DATABASE);
        if !fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
            return Err(BackupError::NoLog(data_dir.to_owned()));
        }
        if file.symlink_metadata().is_ok() {
            return Err(BackupError::FileExists(file.to_owned()));
        }
        let source = schema::open_for_reading(data_dir)?;
        schema::check_owner(&source, &path)?;
        // Random, since a process in a container has the number of the one before.
        let sql = "SELECT lower(hex(randomblob(4)))";
        let random: String = source.query_row(sql, [], |row| row.get(0))?;
        let mut unfinished_name = OsString::from(file);
        unfinished_name.push(format!(".tmp-{random}"));
        let unfinished = PathBuf::from(unfinished_name);
        let output = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(|error| BackupError::file(file, error))?;
        Ok(Self {
            source,
            output,
            file: file.to_owned(),
            unfinished: Unfinished { path: unfinished },
        })
    }

    /// What is left to remove where the process ends before the backup does.
    #[must_use]
    pub fn unfinished(&self) -> Unfinished {
        self.unfinished.clone()
    }

    /// Ends the copying early, from another thread.
    #[must_use]
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.source.get_interrupt_handle()
    }

    /// Copies, checks and syncs the log, and gives the file its name.
    ///
    /// # Errors
    /// When the log cannot be read, the file cannot be written or the copy is not whole.
    pub fn run(mut self) -> Result<BackedUp, BackupError> {
        let failed = |error| BackupError::file(&self.file, error);
        let path = schema::no_uri(&self.unfinished.path);
        let path = path.to_str().ok_or_else(|| {
            let error = io::Error::new(io::ErrorKind::InvalidFilename, "the name is not UTF-8");
            failed(error)
        })?;
        // SQLite need not sync: an unfinished file is of no use.
        self.source.pragma_update(None, "synchronous", "OFF")?;
        let (pause, unsynced) = pauses(&self.output).map_err(failed)?;
        self.source.progress_handler(STEPS, Some(pause))?;
        self.check_in_place(&self.unfinished.path)?;
        let copied = self.source.execute("VACUUM INTO ?1", [path]);
        if let Ok(error) = unsynced.try_recv() {
            return Err(failed(error));
        }
        copied?;
        self.check_in_place(&self.unfinished.path)?;
        let mut copy = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let (pause, _written) = pauses(&self.output).map_err(failed)?;
        copy.progress_handler(STEPS, Some(pause))?;
        check(&copy)?;
        let (events, newest) = describe(&copy)?;
        drop(copy);
        let bytes = self.publish().map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::FileExists(self.file.clone()),
            _ => failed(error),
        })?;
        self.check_in_place(&self.file)?;
        Ok(BackedUp {
            events,
            bytes,
            newest,
        })
    }

    /// SQLite opens the file by its name, behind which another user of the directory may have put
    /// another one.
    fn check_in_place(&self, path: &Path) -> Result<(), BackupError> {
        let identity = |found: fs::Metadata| (found.dev(), found.ino());
        let held = self.output.metadata().map(identity);
        let named = fs::symlink_metadata(path).map(identity);
        match (held, named) {
            (Ok(held), Ok(named)) if held == named => Ok(()),
            _ => Err(BackupError::Replaced(path.to_owned())),
        }
    }

    fn publish(&self) -> io::Result<u64> {
        self.output.sync_all()?;
        let bytes = self.output.metadata()?.len();
        self.name()?;
        sync_directory(parent(&self.file))?;
        Ok(bytes)
    }

    /// Gives the file its name, unless another file has got it meanwhile.
    fn name(&self) -> io::Result<()> {
        match fs::hard_link(&self.unfinished.path, &self.file) {
            Ok(()) => {
                self.unfinished.remove();
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) => {}
        }
        // Not every file system has links: an empty file of our own holds the name.
        OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&self.file)?;
        fs::rename(&self.unfinished.path, &self.file).inspect_err(|_| {
            let _none = fs::remove_file(&self.file);
        })
    }
}

/// Makes what SQLite calls every `STEPS`: it gives disk and processor back to a gateway for
/// as long as the backup had them. What was written is synced before each pause, since one
/// sync of all of it at the end would hold up the gateway's own.
///
/// Why a sync failed is sent, and ends the copying.
fn pauses(
    output: &File,
) -> io::Result<(impl FnMut() -> bool + Send + 'static, Receiver<io::Error>)> {
    let output = output.try_clone()?;
    let (sender, unsynced) = channel();
    let mut worked_since = Instant::now();
    let pause = move || {
        if worked_since.elapsed() < WORK_TIME {
            return false;
        }
        let synced = output.sync_data();
        std::thread::sleep(worked_since.elapsed());
        worked_since = Instant::now();
        synced.is_err_and(|error| {
            let _nobody_waits = sender.send(error);
            true
        })
    };
    Ok((pause, unsynced))
}

impl BackupError {
    fn file(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::File { path, source }
    }
}

impl From<rusqlite::Error> for BackupError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Copy(schema::explain(&error))
    }
}

fn check(copy: &Connection) -> Result<(), BackupError> {
    let verdict = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(verdict) => Err(BackupError::Damaged(verdict)),
        Err(error) => Err(BackupError::Damaged(error.to_string())),
    }
}

/// How many events there are, and the newest one's cursor. The log may be of an earlier schema.
fn describe(copy: &Connection) -> rusqlite::Result<(u64, Cursor)> {
    let number = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, i64>(0));
    let version: i32 = copy.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let trimmed = Position::new(number("SELECT trimmed FROM meta")?.unsigned_abs());
    let newest = "SELECT coalesce(max(position), (SELECT trimmed FROM meta)) FROM record";
    let position = Position::new(number(newest)?.unsigned_abs());
    let run = if version < VERSION_WITH_RUNS {
        Run::NONE
    } else {
        Runs::load(copy, trimmed)?.at(position)
    };
    let newest = Cursor {
        epoch: Epoch::new(number("SELECT epoch FROM meta")?.cast_unsigned()),
        run,
        position,
    };
    Ok((
        number("SELECT count(*) FROM record")?.unsigned_abs(),
        newest,
    ))
}
