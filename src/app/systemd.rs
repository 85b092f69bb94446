//! Notifies systemd of the gateway's states, through the socket in `NOTIFY_SOCKET`.
//!
//! ```text
//!   EXTEND_TIMEOUT_USEC … ─► READY ─► RELOADING ─► READY … ─► STOPPING
//!   while it recovers          └─ WATCHDOG, while the log answers
//! ```
//!
//! Sends nothing without that variable, and waits for the supervisor nowhere.

mod notifier;

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::notifier::{Message, Notifier};
use super::announce::seconds;
use crate::log::Keep;

/// The time that each message of a start asks for.
const EXTENSION: Duration = Duration::from_secs(30);
/// Interval between the messages of a start.
const EXTENSION_INTERVAL: Duration = Duration::from_secs(5);
/// The time that closing the log may take after the drain.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);
/// Maximum time that the end of the process waits until systemd has its last state.
const STOPPING_SENT_WITHIN: Duration = Duration::from_millis(300);
/// The shortest watchdog, because the log is asked four times as often.
const WATCHDOG_MIN: Duration = Duration::from_millis(400);

/// The supervisor belongs to the process, as `NOTIFY_SOCKET` does.
static NOTIFIER: LazyLock<Option<Notifier>> = LazyLock::new(Notifier::of_environment);

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
            send(Message::state(&[NotifyState::Status("recovering the log")]));
            loop {
                let extension = NotifyState::ExtendTimeoutUsec(micros(EXTENSION));
                send(Message::keep_alive(&[extension]));
                if end.recv_timeout(EXTENSION_INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let spawn = || thread::Builder::new().name("recovery".into()).spawn(extend);
        let extending = NOTIFIER.as_ref().and_then(|_| {
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
    let states = [NotifyState::Ready, NotifyState::Status("ready")];
    send(Message::state(&states));
}

/// A reload, which ends when it is dropped.
#[derive(Debug)]
pub(super) struct Reloading(&'static str);

impl Reloading {
    /// Notifies that a reload begins.
    pub(super) fn begin() -> Self {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => send(Message::state(&[NotifyState::Reloading, now])),
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
        let states = [NotifyState::Ready, NotifyState::Status(self.0)];
        send(Message::state(&states));
    }
}

/// Notifies that the gateway stops, and asks for the time that it may drain. The future, for
/// the end of the process, completes when systemd has the message, or soon.
pub(super) fn stopping(drain_timeout: Duration) -> impl Future<Output = ()> {
    let needed = drain_timeout.saturating_add(CLOSED_WITHIN);
    let (message, sent) = Message::state(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(micros(needed)),
        NotifyState::Status("draining"),
    ])
    .with_receipt();
    send(message);
    async move {
        let _given_up = timeout(STOPPING_SENT_WITHIN, sent).await;
    }
}

/// Keeps systemd's watchdog from ending the gateway, as long as the log answers. A log that
/// refuses writes does answer: a restart would not make room on a disk.
pub(super) async fn keep_watchdog(log: Arc<dyn Keep>) {
    let Some(watchdog) = sd_notify::watchdog_enabled().filter(|watchdog| !watchdog.is_zero())
    else {
        return;
    };
    let watchdog = watchdog.max(WATCHDOG_MIN);
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
            send(Message::keep_alive(&[NotifyState::Watchdog]));
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

fn send(message: Message) {
    if let Some(notifier) = &*NOTIFIER {
        notifier.send(message);
    }
}
