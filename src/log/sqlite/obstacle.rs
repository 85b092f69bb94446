//! What keeps a data directory from being used, found without changing anything.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::{Access, access};

/// What keeps a data directory from being used. The message names the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It stands in the way of every process.
    ForAll(String),
    /// It stands in the way of this process now. The gateway may have another user, and a volume
    /// may be mounted before it starts.
    ForThisUser(String),
}

/// Looks for what would keep a log from being opened, or created, in this directory.
#[must_use]
pub fn find_obstacle(data_dir: &Path) -> Option<Obstacle> {
    let shown = data_dir.display();
    if data_dir.as_os_str().is_empty() {
        return Some(Obstacle::ForAll("it names no directory".to_owned()));
    }
    match fs::metadata(data_dir) {
        Ok(found) if found.is_dir() => {
            let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
            let error = access(data_dir, all).err()?;
            Some(Obstacle::ForThisUser(format!(
                "this user cannot write to {shown} ({error})"
            )))
        }
        Ok(_) => Some(Obstacle::ForAll(format!("{shown} is not a directory"))),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => obstacle_to_creation(data_dir),
            ErrorKind::NotADirectory => Some(Obstacle::ForAll(not_below(data_dir))),
            ErrorKind::InvalidFilename | ErrorKind::InvalidInput => {
                Some(Obstacle::ForAll(format!("{shown} cannot exist ({error})")))
            }
            _ => Some(Obstacle::ForThisUser(format!(
                "this user cannot look at {shown} ({error})"
            ))),
        },
    }
}

/// The part of the path that is not a directory.
fn not_below(data_dir: &Path) -> String {
    let is_other = |path: &&Path| fs::metadata(path).is_ok_and(|found| !found.is_dir());
    match data_dir.ancestors().find(is_other) {
        Some(part) => format!(
            "{} cannot exist, since {} is not a directory",
            data_dir.display(),
            part.display()
        ),
        None => format!("{} cannot exist", data_dir.display()),
    }
}

/// What keeps this process from making the directory, and those above it that are missing.
fn obstacle_to_creation(data_dir: &Path) -> Option<Obstacle> {
    let shown = data_dir.display();
    for place in data_dir.ancestors() {
        let place = match place.as_os_str().is_empty() {
            true => Path::new("."),
            false => place,
        };
        let missing = if fs::metadata(place).is_ok() {
            let error = access(place, Access::WRITE_OK | Access::EXEC_OK).err()?;
            format!(
                "this user cannot create it in {} ({error})",
                place.display()
            )
        } else if fs::symlink_metadata(place).is_ok() {
            format!("{} is a link to nothing", place.display())
        } else {
            continue;
        };
        let message = format!("{shown} does not exist, and {missing}");
        return Some(Obstacle::ForThisUser(message));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_no_process_can_use_is_an_obstacle_for_all() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |path: &str| directory.path().join(path);
        fs::write(at("file"), "").expect("written");
        symlink(at("file"), at("link")).expect("linked");
        let long = "x".repeat(300);
        for path in [
            at("file"),
            at("link"),
            at("file/below"),
            at("file/below/it"),
            at(&long),
            at("a\0b"),
            "/dev/null".into(),
            "".into(),
        ] {
            let found = find_obstacle(&path);
            assert!(matches!(found, Some(Obstacle::ForAll(_))), "{found:?}");
        }
        symlink(at("nothing"), at("dangling")).expect("linked");
        for path in [at("dangling"), at("dangling/below")] {
            let found = find_obstacle(&path);
            assert!(matches!(found, Some(Obstacle::ForThisUser(_))), "{found:?}");
        }
        for path in [
            at(""),
            at("new"),
            at("new/below/it"),
            "new".into(),
            ".".into(),
        ] {
            assert_eq!(find_obstacle(&path), None, "{path:?}");
        }
        assert!(!at("new").exists(), "nothing is created");
    }
}
