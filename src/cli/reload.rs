//! SIGHUP: reloads the configuration.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinHandle, spawn_blocking};

use super::failure::Failure;
use crate::app::file::Problem;
use crate::app::{Reload, Reloaded};

/// Listens for SIGHUP, which no longer ends the process. A signal during the start is not lost.
pub(super) fn hangups() -> Result<Signal, Failure> {
    signal(SignalKind::hangup()).map_err(|error| Failure::Failed(error.to_string()))
}

/// Loads and takes up the configuration on each of `hangups`, one after the other. `load` gets
/// the text in force.
#[expect(
    clippy::disallowed_methods,
    reason = "the caller is handed the task, and aborts it when the gateway has stopped"
)]
pub(super) fn on_hangup(
    mut hangups: Signal,
    load: impl Fn(&str) -> Result<Reloaded, Vec<Problem>> + Send + Sync + 'static,
    mut handle: Reload,
) -> JoinHandle<()> {
    let load = Arc::new(load);
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let load = Arc::clone(&load);
            let reloading = spawn_blocking(move || {
                handle.run(&*load);
                handle
            });
            match reloading.await {
                Ok(reloaded) => handle = reloaded,
                Err(error) => {
                    tracing::error!(%error, "a reload failed; restart to reload again");
                    return;
                }
            }
        }
    })
}
