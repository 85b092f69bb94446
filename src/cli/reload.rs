//! SIGHUP: the configuration is taken up again.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinHandle, spawn_blocking};

use super::failure::Failure;
use crate::app::Reload;

/// SIGHUP, which ends the process no more. One that arrives while the gateway starts is
/// not lost.
pub(super) fn hangups() -> Result<Signal, Failure> {
    signal(SignalKind::hangup()).map_err(|error| Failure::Failed(error.to_string()))
}

/// Reloads on each of `hangups`, one after the other.
pub(super) fn on_hangup(mut hangups: Signal, mut reload: Reload) -> JoinHandle<()> {
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let reloading = spawn_blocking(move || {
                reload.run();
                reload
            });
            match reloading.await {
                Ok(reloaded) => reload = reloaded,
                Err(error) => {
                    tracing::error!(%error, "a reload failed; restart to reload again");
                    return;
                }
            }
        }
    })
}
