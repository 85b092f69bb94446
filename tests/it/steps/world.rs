//! Gateways over one log, in one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clerkcast::clerk;
use clerkcast::event::{Attributes, Position, UnixMillis};
use clerkcast::fanout::{self, Fanout};
use clerkcast::filter::{Filter, Scope, Spec};
use clerkcast::log::{Append as _, Appended, Cells as _, Changed, Entry, Log, Read as _};
use clerkcast::subscriptions::{
    AskedSettings, Clock, Definition, Limits, Metrics, Name, ReceiveOptions, Running, Selection,
    Settings, Status, Surroundings,
};
use prometheus_client::registry::Registry;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::faulty::{Faults, FaultyLog};
use crate::memory_log::{Memory, MemoryLog};

/// When a test begins.
const BEGAN: UnixMillis = UnixMillis::new(1_700_000_000_000);

/// What all gateways of a test share.
pub(crate) struct World {
    pub(crate) log: Arc<MemoryLog>,
    trimmed: Arc<AtomicU64>,
    began: Instant,
    pub(super) settings: Settings,
    pub(super) limits: Limits,
}

/// One gateway.
pub(super) struct Gateway {
    pub(super) log: Arc<FaultyLog>,
    pub(super) running: Running,
    pub(super) drain: CancellationToken,
}

pub(super) fn name() -> Name {
    "crm".parse().expect("a name")
}

pub(super) fn settings(asked: AskedSettings) -> Settings {
    Settings::new(asked).expect("within bounds")
}

pub(super) fn options(outstanding_max: usize) -> ReceiveOptions {
    ReceiveOptions {
        outstanding_max,
        events_max: None,
        heartbeat_interval: Duration::from_secs(15),
        stop_when_handled: false,
    }
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            log: Arc::new(MemoryLog::open(Memory::default(), None, None)),
            trimmed: Arc::default(),
            began: Instant::now(),
            settings,
            limits: Limits::default(),
        }
    }

    /// Appends an event of a user.
    pub(crate) async fn append(&self, user: &str) -> Position {
        self.append_type("user.updated", user).await
    }

    pub(super) async fn append_type(&self, event_type: &str, user: &str) -> Position {
        let number = self.log.bounds().last.number() + 1;
        let id = format!("msg_{number}");
        let body = format!(r#"{{"type":"{event_type}","data":{{"id":"{user}"}}}}"#);
        let envelope = clerk::Envelope {
            id: &id,
            source: "default",
            send_time: BEGAN,
        };
        let entry = Entry {
            attributes: Attributes {
                event_type: event_type.to_owned(),
                source: "default".to_owned(),
                user_id: Some(user.to_owned()),
                ..Attributes::default()
            },
            receive_time: BEGAN,
            event: clerk::decode(envelope, body.as_bytes()).event,
            decoding: clerk::decoding(),
            payload: Bytes::from(body),
            id: id.clone(),
        };
        match self.log.append(entry).await {
            Ok(Appended::Committed(position)) => position,
            other => panic!("not appended: {other:?}"),
        }
    }

    fn place(&self) -> (Arc<MemoryLog>, Arc<AtomicU64>) {
        (Arc::clone(&self.log), Arc::clone(&self.trimmed))
    }

    /// The log without faults.
    pub(super) fn healthy_log(&self) -> Arc<FaultyLog> {
        Arc::new(FaultyLog::new(self.place(), Faults::default(), 1))
    }

    pub(super) fn definition(&self) -> Definition {
        let settings = self.settings.clone();
        let owner = "owner".to_owned();
        let epoch = self.log.epoch();
        Definition::new(settings, owner, BEGAN, epoch, Position::START)
    }

    pub(super) fn selection(&self) -> Selection {
        let filter = Filter::compile_accepted(&self.settings.filter);
        Selection {
            filter,
            scope: Some(Scope::default()),
        }
    }

    /// The clock of a gateway whose clock is off by this much.
    fn clock(&self, skew_ms: i64) -> Clock {
        let began = self.began;
        Clock::new(move || {
            let elapsed = BEGAN.after(began.elapsed());
            UnixMillis::new(elapsed.milliseconds() + skew_ms)
        })
    }

    pub(super) fn now(&self) -> UnixMillis {
        BEGAN.after(self.began.elapsed())
    }

    pub(super) fn gateway(&self) -> Gateway {
        self.gateway_with(Faults::default(), 1, 0)
    }

    pub(super) fn gateway_with(&self, faults: Faults, seed: u64, skew_ms: i64) -> Gateway {
        let log = Arc::new(FaultyLog::new(self.place(), faults, seed));
        let drain = CancellationToken::new();
        let mut registry = Registry::default();
        let (fanout, _feed) = Fanout::start(
            log.clone(),
            fanout::Config::default(),
            fanout::Metrics::register(&mut registry),
            drain.clone(),
        );
        let surroundings = Surroundings {
            log: log.clone(),
            fanout,
            clock: self.clock(skew_ms),
            limits: self.limits,
            metrics: Metrics::register(&mut registry),
            drain: drain.clone(),
        };
        let (definition, selection) = (self.definition(), self.selection());
        let running = Running::new(name(), definition, selection, surroundings);
        tokio::spawn(hand_on(log.watch(), running.clone()));
        Gateway {
            log,
            running,
            drain,
        }
    }

    /// Where the subscription is, as its cell has it.
    pub(super) async fn status(&self) -> Status {
        let log: Arc<dyn Log> = self.healthy_log();
        let (definition, now) = (self.definition(), self.now());
        let status = Status::read(&*log, &name(), &definition, self.limits, now).await;
        status.expect("readable")
    }

    /// Waits, in the time of the test, until the subscription is as expected.
    pub(super) async fn wait_for(&self, what: &str, is_there: impl Fn(&Status) -> bool) -> Status {
        let patience = Instant::now() + Duration::from_secs(3600);
        loop {
            let status = self.status().await;
            if is_there(&status) {
                return status;
            }
            assert!(Instant::now() < patience, "{what}: {status:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Retention removes everything up to here.
    pub(super) fn trim(&self, through: Position) {
        self.trimmed.store(through.number(), Ordering::Relaxed);
    }
}

/// Hands changes of the state on, as a gateway does for all its subscriptions.
async fn hand_on(mut changes: broadcast::Receiver<Changed>, running: Running) {
    let cell = format!("state/{}", name());
    loop {
        match changes.recv().await {
            Ok(changed) if *changed.name == *cell => running.note_changed(changed.revision),
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => running.note_changed(None),
            Err(RecvError::Closed) => return,
        }
    }
}

pub(super) fn types(types: &[&str]) -> Spec {
    Spec {
        types: types.iter().map(|name| (*name).to_owned()).collect(),
        ..Spec::default()
    }
}
