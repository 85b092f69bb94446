//! SIGHUP: the principals of the configuration file are read again.

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::Failure;
use super::serve::ServeArgs;
use crate::access::{Access, Replaced};
use crate::app::{FileConfig, SourceConfig};

/// Reads the principals again on each SIGHUP. What is wrong leaves those in force that
/// were.
pub(super) fn on_hangup(
    args: ServeArgs,
    sources: Vec<SourceConfig>,
    access: Access,
) -> Result<JoinHandle<()>, Failure> {
    let hangup = signal(SignalKind::hangup());
    let mut hangup = hangup.map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match reload(&args, &sources, &access) {
                Ok(Replaced {
                    added,
                    changed,
                    removed,
                }) => tracing::info!(
                    target: "clerkcast::audit",
                    added = added.join(","),
                    changed = changed.join(","),
                    removed = removed.join(","),
                    "principals read again"
                ),
                Err(error) => tracing::error!(
                    %error,
                    "the configuration file was not taken; the principals stay as they were"
                ),
            }
        }
    }))
}

fn reload(
    args: &ServeArgs,
    sources: &[SourceConfig],
    access: &Access,
) -> Result<Replaced, Failure> {
    let file = match &args.config {
        Some(path) => FileConfig::read(path).map_err(Failure::usage)?,
        None => FileConfig::default(),
    };
    // Also refuses to open the port to everybody because the last principal has gone.
    let config = args.check(&file)?;
    if config.sources.len() != sources.len() {
        tracing::warn!("sources are read at start only; restart to take up the others");
    }
    Ok(access.replace(config.principals))
}
