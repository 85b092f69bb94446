//! SIGHUP: principals and certificates are read again.

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::Failure;
use super::serve::ServeArgs;
use crate::access::{Access, Replaced};
use crate::app::{Certificates, FileConfig, SourceConfig};

/// Reads principals and certificates again on each SIGHUP. What is wrong leaves those in
/// force that were.
pub(super) fn on_hangup(
    args: ServeArgs,
    sources: Vec<SourceConfig>,
    access: Access,
    certificates: Certificates,
) -> Result<JoinHandle<()>, Failure> {
    let hangup = signal(SignalKind::hangup());
    let mut hangup = hangup.map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if let Err(error) = certificates.reload() {
                let error = format!("{error:#}");
                tracing::error!(%error, "a TLS certificate was not taken; the former stays in force");
            }
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
