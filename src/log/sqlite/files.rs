//! The files on disk: kept from other gateways and other users, and compared with what this
//! process has open.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::error::OpenError;

pub(super) const DATABASE: &str = "clerkcast.db";
const LOCK: &str = "clerkcast.lock";
const WAL: &str = "clerkcast.db-wal";
const SHARED_MEMORY: &str = "clerkcast.db-shm";

/// Why a log fails whose files are no longer where their names say.
pub(super) const MOVED: &str =
    "the data directory was moved, removed or replaced while the gateway ran";

/// Wait for a gateway whose lock file was removed: it ends within a second, and then has
/// connections to drain.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// Keeps other gateways out of a data directory for as long as it lives.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    file: File,
    /// Locks the directory itself, so that removing the lock file lets no gateway in.
    _directory: File,
}

impl DirectoryLock {
    /// Creates the directory for its owner alone, since it holds personal data, and locks it.
    pub(super) fn acquire(data_dir: &Path) -> Result<Self, OpenError> {
        let directory_error = |source| OpenError::Directory {
            path: data_dir.to_owned(),
            source,
        };
        if !data_dir.exists() {
            create_for_owner(data_dir).map_err(directory_error)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(data_dir.join(LOCK))
            .map_err(directory_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse {
                    path: data_dir.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(directory_error(error)),
        }
        let directory = File::open(data_dir).map_err(directory_error)?;
        if is_locked_for(&directory, LOCK_TIMEOUT) {
            return Err(OpenError::InUse {
                path: data_dir.to_owned(),
            });
        }
        Ok(Self {
            file,
            _directory: directory,
        })
    }
}

/// Whether another process keeps the directory locked for this long. A file system that
/// cannot lock directories has the lock file alone.
fn is_locked_for(directory: &File, timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    while let Err(TryLockError::WouldBlock) = directory.try_lock() {
        if Instant::now() >= deadline {
            return true;
        }
        std::thread::sleep(LOCK_RETRY);
    }
    false
}

/// A new directory is durable only once its parent is.
fn create_for_owner(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    sync_directory(parent(directory))
}

/// The directory that a path is in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A new file is durable only once its directory entry is.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// SQLite gives the files beside the database its permissions.
pub(super) fn create_file_for_owner(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

/// Takes the log's files from other users, and warns of what was open to them.
pub(super) fn close_to_others(data_dir: &Path) {
    let mut closed = Vec::new();
    let mut still_open = Vec::new();
    for name in [DATABASE, WAL, SHARED_MEMORY, LOCK] {
        let path = data_dir.join(name);
        let Some(mode) = mode_open_to_others(&path) else {
            continue;
        };
        match fs::set_permissions(&path, Permissions::from_mode(0o600)) {
            Ok(()) => closed.push(name.to_owned()),
            Err(error) => still_open.push(format!("{} ({mode:04o}, {error})", path.display())),
        }
    }
    if let Some(mode) = mode_open_to_others(data_dir) {
        still_open.push(format!("{} ({mode:04o})", data_dir.display()));
    }
    let closed = closed.join(", ");
    let still_open = still_open.join(", ");
    match (closed.is_empty(), still_open.is_empty()) {
        (true, true) => {}
        (false, true) => {
            tracing::warn!("the log was open to other users; now open to its owner only: {closed}")
        }
        (true, false) => tracing::warn!("the log is open to other users: {still_open}"),
        (false, false) => tracing::warn!(
            "the log is open to other users: {still_open}; now open to its owner only: {closed}"
        ),
    }
}

/// The mode of a file or directory that is there, if others than its owner may use it.
fn mode_open_to_others(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

/// The files that the writer has open, and the names that should lead to them.
#[derive(Debug)]
pub(super) struct Files {
    database: Watched,
    wal: Watched,
    others: [Watched; 2],
}

/// Bytes on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) database: u64,
    pub(super) wal: u64,
}

impl Files {
    /// Right after `connection` has opened them. A file that is open keeps its number, so no
    /// other file has it.
    pub(super) fn of(
        data_dir: &Path,
        connection: &Connection,
        lock: &DirectoryLock,
    ) -> Result<Self, OpenError> {
        // SQLite puts its files beside the one that a symbolic link leads to.
        let named = data_dir.join(DATABASE);
        let real = connection
            .path()
            .map_or_else(|| named.clone(), PathBuf::from);
        let beside = |suffix: &str| {
            let mut path = OsString::from(&real);
            path.push(suffix);
            PathBuf::from(path)
        };
        let watch = || -> io::Result<Self> {
            Ok(Self {
                database: Watched::now(DATABASE, named.clone())?,
                wal: Watched::now(WAL, beside("-wal"))?,
                others: [
                    Watched::now(SHARED_MEMORY, beside("-shm"))?,
                    Watched {
                        name: LOCK,
                        path: data_dir.join(LOCK),
                        identity: Identity::of(&lock.file.metadata()?),
                    },
                ],
            })
        };
        watch().map_err(|source| OpenError::Directory {
            path: data_dir.to_owned(),
            source,
        })
    }

    /// Makes durable what is in the WAL. A process that was killed may have written it without
    /// having synced it. From now on it is read, and what is read must not vanish.
    pub(super) fn sync_wal(&self) -> Result<(), OpenError> {
        let path = &self.wal.path;
        let synced = File::open(path).and_then(|wal| match wal.metadata()?.len() {
            0 => Ok(()),
            _ => wal.sync_data(),
        });
        synced.map_err(|source| OpenError::Directory {
            path: path.clone(),
            source,
        })
    }

    /// Their sizes, if each name still leads to the file that is open; else the name of one
    /// that does not. Contents that are overwritten in place are not noticed.
    pub(super) fn check(&self) -> Result<Sizes, &'static str> {
        for other in &self.others {
            other.check()?;
        }
        Ok(Sizes {
            database: self.database.check()?.len(),
            wal: self.wal.check()?.len(),
        })
    }
}

#[derive(Debug)]
struct Watched {
    name: &'static str,
    path: PathBuf,
    identity: Identity,
}

impl Watched {
    fn now(name: &'static str, path: PathBuf) -> io::Result<Self> {
        let identity = Identity::of(&fs::metadata(&path)?);
        Ok(Self {
            name,
            path,
            identity,
        })
    }

    fn check(&self) -> Result<Metadata, &'static str> {
        match fs::metadata(&self.path) {
            Ok(found) if Identity::of(&found) == self.identity => Ok(found),
            _ => Err(self.name),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}
