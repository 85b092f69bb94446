//! SIGHUP: principals and certificates are read again.

use std::net::SocketAddr;

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
    grpc: SocketAddr,
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
            match reload(&args, &sources, grpc, &access) {
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
    grpc: SocketAddr,
    access: &Access,
) -> Result<Replaced, Failure> {
    let file = match &args.config {
        Some(path) => FileConfig::read(path).map_err(Failure::usage)?,
        None => FileConfig::default(),
    };
    let config = args.check(&file)?;
    // A file that is cut short, or not written yet, names nobody: that must not open the
    // port to everybody.
    args.check_exposure(&file, grpc, &config.principals)?;
    if access.knows_principals()
        && config.principals.identities.is_empty()
        && !args.allows_anonymous(&file)
    {
        return Err(Failure::Usage(
            "it names no principal any more, which would let everybody subscribe: restart the gateway, or set grpc_allow_anonymous, if that is meant".to_owned(),
        ));
    }
    if config.sources.len() != sources.len() {
        tracing::warn!("sources are read at start only; restart to take up the others");
    }
    Ok(access.replace(config.principals))
}
