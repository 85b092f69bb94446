//! Notifies systemd of the gateway's states, through the socket in `NOTIFY_SOCKET`.
//!
//! ```text
//!   EXTEND_TIMEOUT_USEC … ─► READY ─► RELOADING ─► READY … ─► STOPPING
//!   while it recovers          └─ WATCHDOG, while the log answers
//! ```
//!
//! Sends nothing without that variable.

use std::env;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::announce::seconds;
use crate::log::Keep;

/// The time that each message of a start asks for.
const EXTENSION: Duration = Duration::from_secs(30);
/// Interval between the messages of a start.
const EXTENSION_INTERVAL: Duration = Duration::from_secs(5);
/// The time that closing the log may take after the drain.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// A start that recovers the log. Asks systemd for more time until it is dropped, because a
/// large log may need longer than systemd waits for a start.
#[derive(Debug)]
pub struct Recovery {
    ended: Option<Sender<()>>,
    extending: Option<JoinHandle<()>>,
}

impl Recovery {
    /// Begins to ask. On a thread, because recovery may block the runtime.
    #[must_use]
    pub fn begin() -> Self {
        let (ended, end) = channel();
        let extend = move || {
            send(&[NotifyState::Status("recovering the log")]);
            loop {
                send(&[NotifyState::ExtendTimeoutUsec(micros(EXTENSION))]);
                if end.recv_timeout(EXTENSION_INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let spawn = || thread::Builder::new().name("recovery".into()).spawn(extend);
        let extending = env::var_os("NOTIFY_SOCKET").and_then(|_| {
            let spawned = spawn().inspect_err(
                |error| tracing::warn!(%error, "cannot ask systemd for more time to start"),
            );
            spawned.ok()
        });
        Self {
            ended: Some(ended),
            extending,
        }
    }
}

impl Drop for Recovery {
    fn drop(&mut self) {
        self.ended = None;
        if let Some(extending) = self.extending.take() {
            let _panicked = extending.join();
        }
    }
}

/// Notifies that the gateway serves.
pub fn ready() {
    send(&[NotifyState::Ready, NotifyState::Status("ready")]);
}

/// A reload, which ends when it is dropped.
#[derive(Debug)]
pub(super) struct Reloading(&'static str);

impl Reloading {
    /// Notifies that a reload begins.
    pub(super) fn begin() -> Self {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => send(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "cannot notify systemd of a reload"),
        }
        Self("ready; the new configuration was refused, the old one stays in force")
    }

    /// Notes that the configuration is in force.
    pub(super) fn note_success(&mut self) {
        self.0 = "ready; configuration reloaded";
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        send(&[NotifyState::Ready, NotifyState::Status(self.0)]);
    }
}

/// Notifies that the gateway stops, and asks for the time that it may drain.
pub(super) fn stopping(drain_timeout: Duration) {
    let needed = drain_timeout.saturating_add(CLOSED_WITHIN);
    send(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(micros(needed)),
        NotifyState::Status("draining"),
    ]);
}

/// Keeps systemd's watchdog from ending the gateway, as long as the log answers. A log that
/// refuses writes does answer: a restart would not make room on a disk.
pub(super) async fn keep_watchdog(log: Arc<dyn Keep>) {
    let Some(watchdog) = sd_notify::watchdog_enabled().filter(|watchdog| !watchdog.is_zero())
    else {
        return;
    };
    let patience = watchdog / 2;
    let mut ticks = interval(watchdog / 4);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut has_answered = true;
    loop {
        ticks.tick().await;
        let answers = timeout(patience, log.ping())
            .await
            .is_ok_and(|pong| pong.is_ok());
        if answers {
            send(&[NotifyState::Watchdog]);
        }
        match (has_answered, answers) {
            (true, false) => tracing::warn!(
                after = seconds(patience),
                "the log does not answer; systemd's watchdog ends the gateway if it stays so"
            ),
            (false, false) => tracing::debug!("the log still does not answer"),
            (false, true) => tracing::info!("the log answers again"),
            (true, true) => {}
        }
        has_answered = answers;
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify systemd through NOTIFY_SOCKET");
    }
}
