//! Running a gateway, and stopping it in order.
//!
//! ```text
//!   stop:  not ready ─► streams end with UNAVAILABLE ─► webhooks in flight are answered,
//!          and workers acknowledge what they have ─► log closed ─► traces sent (1 s) ─► exit 0          (a deadline, and a second signal, cut it short)
//! ```

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::announce::seconds;
use super::controls::Controls;
use super::open::Gateway;
use super::systemd;
use crate::access::Guard;
use crate::api::Api;
use crate::doors::grpc;
use crate::log::{Keep, Writability};
use crate::{ops, webhook};

/// Interval between two runs of retention.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// Why a gateway ended by itself; the process should exit non-zero.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The log failed for good, and has logged why.
    #[error("the log failed permanently: {0}; restart to recover")]
    Log(String),
    /// A server failed.
    #[error(transparent)]
    Server(anyhow::Error),
}

impl Gateway {
    /// Serves until `stop` completes, then stops in order.
    ///
    /// # Errors
    /// When the log failed for good or a server did.
    #[expect(
        clippy::disallowed_methods,
        reason = "the tasks of the gateway, each awaited or aborted below"
    )]
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let (log, drain, feed) = (self.log, self.drain, self.feed);
        let (subscriptions, keeping) = (self.subscriptions, self.keeping);
        subscriptions.compare_with_log().await;
        let traces = self.traces;
        let Controls {
            access,
            certificates,
            sources,
            fanout,
            grpc_metrics,
            ..
        } = self.controls;
        let webhooks = webhook::router(
            self.config.webhook,
            sources,
            self.intake,
            self.webhook_metrics,
            traces.clone(),
            drain.clone(),
        );
        let services = grpc::Services {
            api: Api::new(fanout.clone(), subscriptions.clone()),
            guard: Guard::new(access, self.access_metrics),
            metrics: grpc_metrics,
            traces: traces.clone(),
            health: self.config.doors.health,
            reflection: self.config.doors.reflection,
        };
        let admin = ops::router(ops::Probes {
            registry: self.registry,
            fanout: fanout.clone(),
            subscriptions,
            writability: log.writability(),
            drain: drain.clone(),
        });

        let mut grpc = tokio::spawn(grpc::serve(self.grpc, services, drain.clone()));
        let mut http = tokio::spawn(webhook::serve(self.http, webhooks, drain.clone()));
        // The admin port answers until the end, because readiness reports the drain.
        let admin = tokio::spawn(ops::serve(self.admin, admin, CancellationToken::new()));
        let retention = tokio::spawn(keep_retention(log.clone()));
        let renewal = tokio::spawn(certificates.keep());
        let watchdog = tokio::spawn(systemd::keep_watchdog(log.clone()));

        let outcome = tokio::select! {
            () = stop => Ok(()),
            reason = log_failure(&*log) => Err(RunError::Log(reason)),
            ended = &mut grpc => Err(RunError::Server(ended_early(ended))),
            ended = &mut http => Err(RunError::Server(ended_alone("the webhook server", ended))),
            ended = feed => Err(RunError::Server(ended_alone("the fan-out", ended))),
        };
        tracing::info!(
            deadline = %seconds(self.config.drain_timeout),
            subscribers = fanout.subscribers().len(),
            reason = outcome.as_ref().err().map_or("signal", |_| "failure"),
            "draining"
        );
        let stopping_sent = systemd::stopping(self.config.drain_timeout);
        drain.cancel();
        retention.abort();
        renewal.abort();
        // The gRPC side ends streams at once. It waits for workers to acknowledge what they were
        // handed, and 5 s for streams that are not read.
        let drained = async {
            end_of(http).await;
            end_of(grpc).await;
        };
        if timeout(self.config.drain_timeout, drained).await.is_err() {
            tracing::warn!("some connections did not end within the deadline; closing them");
        }
        keeping.abort();
        watchdog.abort();
        log.close().await;
        traces.flush().await;
        stopping_sent.await;
        admin.abort();
        tracing::info!("stopped");
        outcome
    }
}

/// Waits for a task. A task that has finished is left out, because its result may have been
/// taken, and taking it again would panic.
async fn end_of<T>(task: JoinHandle<T>) {
    if !task.is_finished() {
        let _panicked = task.await;
    }
}

fn ended_alone(what: &str, ended: Result<(), JoinError>) -> anyhow::Error {
    match ended {
        Ok(()) => anyhow::anyhow!("{what} ended by itself"),
        Err(panic) => anyhow::anyhow!("{what} panicked: {panic}"),
    }
}

fn ended_early(ended: Result<Result<(), grpc::Error>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Err(error)) => anyhow::Error::from(error).context("the gRPC server failed"),
        Ok(Ok(())) => anyhow::anyhow!("the gRPC server ended by itself"),
        Err(panic) => anyhow::anyhow!("the gRPC server panicked: {panic}"),
    }
}

/// Completes when the log has failed for good.
async fn log_failure(log: &dyn Keep) -> String {
    let mut writability = log.writability();
    loop {
        if let Writability::Failed(reason) = &*writability.borrow_and_update() {
            return reason.clone();
        }
        if writability.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

async fn keep_retention(log: Arc<dyn Keep>) {
    let mut ticks = tokio::time::interval(RETENTION_INTERVAL);
    loop {
        ticks.tick().await;
        if let Err(error) = log.apply_retention().await {
            tracing::warn!(%error, "retention cannot remove old events; trying again");
        }
    }
}
