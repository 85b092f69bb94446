//! `clerkcast backup`: the embedded log as of one moment, in a file of its own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::failure::Failure;
use super::figures::{counted, size};
use super::output::print_line;
use super::serve::stop_signal;
use crate::log::sqlite::{BackedUp, Backup, BackupError};

/// Maximum time for an interrupted copy to remove what it has written.
const INTERRUPT_TIMEOUT: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  clerkcast backup /var/lib/clerkcast /backup/clerkcast.db
      while the gateway runs, or not
  install -m 600 -D /backup/clerkcast.db /var/lib/clerkcast-restored/clerkcast.db
      restore: a directory that holds the file as clerkcast.db, and nothing else";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct BackupArgs {
    /// Data directory of the log
    dir: PathBuf,

    /// File to write; it must not exist
    file: PathBuf,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: BackupArgs) -> Result<(), Failure> {
    if is_on_nats(&args.dir) {
        return Err(no_directory(&args.file));
    }
    let started = Instant::now();
    let stop = stop_signal()?;
    let backup = Backup::begin(&args.dir, &args.file).map_err(|error| match error {
        BackupError::NoLog(_) if serves_from_nats() => no_directory(&args.file),
        error => Failure::failed(error),
    })?;
    let unfinished = backup.unfinished();
    let interrupt = backup.interrupt_handle();
    let (sender, mut finished) = oneshot::channel::<Result<BackedUp, BackupError>>();
    // A thread of its own does not delay the end of the process.
    std::thread::spawn(move || {
        let _given_up = sender.send(backup.run());
    });
    let finish = tokio::select! {
        finish = &mut finished => finish,
        () = stop => {
            interrupt.interrupt();
            let made = finished_backup(&mut finished, || unfinished.remove()).await;
            let interrupted = || Failure::Failed("interrupted; no backup was made".to_owned());
            Ok(Ok(made.ok_or_else(interrupted)?))
        }
    };
    let backed_up = finish
        .map_err(|_| Failure::Failed("the copying panicked".to_owned()))?
        .map_err(Failure::failed)?;
    print(&args, backed_up, started.elapsed())
}

/// The backup that was finished before the interruption reached it.
async fn finished_backup(
    finished: &mut oneshot::Receiver<Result<BackedUp, BackupError>>,
    remove_unfinished: impl FnOnce(),
) -> Option<BackedUp> {
    let ended = timeout(INTERRUPT_TIMEOUT, &mut *finished).await;
    remove_unfinished();
    let finish = match ended {
        Ok(finish) => finish.ok(),
        Err(_) => finished.try_recv().ok(),
    };
    finish?.ok()
}

fn no_directory(file: &Path) -> Failure {
    Failure::Usage(format!(
        "a log on NATS has no data directory: run `clerkcast copy nats {}` with a file that ends in .ndjson or .binpb, or NATS's own `nats stream backup`",
        file.display()
    ))
}

/// Whether the gateway that shares this environment keeps its log on NATS.
fn serves_from_nats() -> bool {
    std::env::var_os("CLERKCAST_LOG").is_some_and(|log| log == "nats")
}

fn is_on_nats(dir: &Path) -> bool {
    let text = dir.to_string_lossy();
    text == "nats"
        || ["nats://", "tls://"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
}

fn print(args: &BackupArgs, backed_up: BackedUp, took: Duration) -> Result<(), Failure> {
    let BackedUp {
        events,
        bytes,
        newest,
    } = backed_up;
    if args.json {
        return print_line(json!({
            "events": events,
            "bytes": bytes,
            "seconds": took.as_secs_f64(),
            "newest_cursor": newest.to_string(),
            "epoch": newest.epoch.to_string(),
            "file": args.file.display().to_string(),
        }));
    }
    print_line(format!(
        "{}, {}, {}, cursor {newest}, epoch {}",
        counted(events, "event"),
        size(bytes),
        seconds(took),
        newest.epoch
    ))
}

/// `74 s`, and `0.3 s`
fn seconds(took: Duration) -> String {
    let digits = usize::from(took < Duration::from_secs(10));
    format!("{:.digits$} s", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Cursor, Epoch, Position, Run};

    #[tokio::test(start_paused = true)]
    async fn a_backup_finished_before_the_interruption_is_reported() {
        let made = BackedUp {
            events: 7,
            bytes: 53_248,
            newest: Cursor {
                epoch: Epoch::new(1),
                run: Run::NONE,
                position: Position::new(7),
            },
        };
        let (sender, mut finished) = oneshot::channel();
        let _there = sender.send(Ok(made));
        let backed_up = finished_backup(&mut finished, || {}).await;
        assert_eq!(backed_up.map(|backed_up| backed_up.events), Some(7));
        // The backup is finished while the unfinished file is removed.
        let (sender, mut finished) = oneshot::channel();
        let backed_up = finished_backup(&mut finished, || drop(sender.send(Ok(made)))).await;
        assert_eq!(backed_up.map(|backed_up| backed_up.events), Some(7));

        let (_sender, mut finished) = oneshot::channel();
        assert!(finished_backup(&mut finished, || {}).await.is_none());
    }

    #[test]
    fn a_time_is_printed_as_people_write_it() {
        assert_eq!(seconds(Duration::from_millis(74_200)), "74 s");
        assert_eq!(seconds(Duration::from_millis(320)), "0.3 s");
    }
}
