//! `clerkcast serve`: from flags, environment and file to a running gateway.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;
use super::options::{Checked, ServeArgs, Settings, check, logging, refusal};
use super::reload;
use crate::app::file::{ConfiguredSources, Environment};
use crate::app::{Gateway, InForce, LogConfig, Recovery, Reload, announce, ready, seconds};
use crate::log::sqlite::HAS_FDATASYNC;
use crate::telemetry::{self, LevelControl};

const NO_FDATASYNC: &str = "SQLite was built without fdatasync, so commits take about twice as long; build with LIBSQLITE3_FLAGS=-DHAVE_FDATASYNC=1";
const SIGNAL_REPEATS_WITHIN: Duration = Duration::from_millis(250);

/// Start-up as a checklist: configuration, telemetry, open and bind, announce, run.
pub(super) async fn run(args: ServeArgs) -> Result<(), Failure> {
    let starting = Instant::now();
    let loaded = args.load(Environment::OfProcess).map_err(refusal)?;
    let level = start_logging(&loaded.settings)?;
    let Checked {
        config,
        in_environment,
        warnings,
    } = check(&loaded.settings).map_err(refusal)?;
    for warning in loaded
        .warning()
        .iter()
        .copied()
        .chain(warnings.iter().map(String::as_str))
    {
        tracing::warn!("{warning}");
    }
    if matches!(config.log, LogConfig::Embedded(_)) && !HAS_FDATASYNC {
        tracing::warn!("{NO_FDATASYNC}");
    }
    let stop = stop_signal()?;
    let hangups = reload::hangups()?;
    let in_force = InForce {
        text: loaded.text.clone(),
        sources: ConfiguredSources {
            sources: config.webhook.sources.clone(),
            in_environment,
        },
        access: config.access.clone(),
    };
    let recovery = Recovery::begin();
    let gateway = Box::pin(Gateway::open(config))
        .await
        .map_err(Failure::failed)?;
    let announced = announce(&gateway, loaded.file.as_deref()).await;
    announced.map_err(Failure::failed)?;
    let handle = Reload::new(in_force, gateway.controls(), level);
    drop(recovery);
    ready();
    let load = move |in_force: &str| loaded.reload(in_force);
    let reload = reload::on_hangup(hangups, load, handle);
    tracing::info!(after = seconds(starting.elapsed()), "ready");
    let outcome = gateway.run(stop).await.map_err(Failure::from);
    reload.abort();
    outcome
}

/// Starts logging as configured.
pub(super) fn start_logging(settings: &Settings) -> Result<LevelControl, Failure> {
    let (format, level) = logging(settings).map_err(refusal)?;
    telemetry::init(format, &level).map_err(Failure::Usage)
}

/// Completes on SIGTERM or SIGINT; a second one exits at once.
pub(super) fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::Failed(error.to_string()));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "a second signal is awaited until the process ends"
        )]
        tokio::spawn(async move {
            // `timeout` and some supervisors send the same signal twice at once.
            tokio::time::sleep(SIGNAL_REPEATS_WITHIN).await;
            while let Some(Some(())) = interrupt.recv().now_or_never() {}
            while let Some(Some(())) = terminate.recv().now_or_never() {}
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            tracing::warn!("second signal: exiting at once");
            std::process::exit(130);
        });
    })
}
