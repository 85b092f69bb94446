//! The fan-out without the network, where a test can run retention when it wants.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use clerkcast::access::{Policy, Principal, Redaction};
use clerkcast::api;
use clerkcast::clerk::{self, Envelope};
use clerkcast::event::{Attributes, IndexHint, Position, UnixMillis};
use clerkcast::fanout::{
    Config, Delivery, Encoding, Error, Fanout, Metrics, OnExpired, Payload, Request, Start,
    Subscriber, View,
};
use clerkcast::filter::{AskedFilter, Filter};
use clerkcast::log::sqlite::{self, SqliteLog};
use clerkcast::log::{self, Entry, Log, Query};
use clerkcast::proto::SubscribeResponse;
use clerkcast::proto::subscribe_response::Kind;
use prometheus_client::registry::Registry;
use prost::Message as _;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::conformance::read;
use crate::harness::PATIENCE;

struct Served {
    log: Arc<dyn Log>,
    fanout: Fanout,
    directory: TempDir,
}

/// A log that keeps an hour, and a ring that holds next to nothing.
fn serve() -> Served {
    let directory = TempDir::new().expect("a temporary directory");
    let config = sqlite::Config {
        data_dir: directory.path().to_owned(),
        retain_for: Some(Duration::from_secs(3600)),
        retain_bytes: None,
        ..sqlite::Config::default()
    };
    let mut registry = Registry::default();
    let log = SqliteLog::open(config, log::Metrics::register(&mut registry)).expect("opens");
    let log: Arc<dyn Log> = Arc::new(log);
    let config = Config {
        ring_bytes_max: 3000,
        subscribers_max: 10,
        sources: vec!["default".to_owned()],
    };
    let metrics = Metrics::register(&mut registry);
    let (fanout, _feed) = Fanout::start(log.clone(), config, metrics, CancellationToken::new());
    Served {
        log,
        fanout,
        directory,
    }
}

async fn append(log: &dyn Log, id: &str, age: Duration) {
    let body = format!(r#"{{"type":"user.created","data":{{"id":"{id}"}}}}"#);
    let envelope = Envelope {
        id,
        source: "default",
        send_time: UnixMillis::now(),
    };
    let decoded = clerk::decode(envelope, body.as_bytes());
    let record = Entry {
        id: id.to_owned(),
        attributes: decoded.attributes,
        receive_time: UnixMillis::now().before(age),
        event: decoded.event,
        decoding: clerk::decoding(),
        payload: Bytes::from(body),
    };
    log.append(record).await.expect("durable");
}

fn request(start: Start, on_expired: OnExpired) -> Request {
    Request {
        principal: Principal::anonymous(Policy::default()),
        filter: Filter::default(),
        narrowed: None,
        asked_filter: AskedFilter::default(),
        start,
        on_expired,
        stop_when_caught_up: false,
        events_max: None,
        heartbeat_interval: Duration::from_secs(15),
        view: View {
            payload: Payload::Omitted,
            redaction: Redaction::default(),
            encoding: Encoding::Proto,
        },
        name: "test".to_owned(),
        peer: String::new(),
    }
}

/// Takes the messages out of what a subscriber yields.
struct Reader {
    subscriber: Subscriber,
    bytes: BytesMut,
}

impl Reader {
    async fn next(&mut self) -> Result<SubscribeResponse, Error> {
        if self.bytes.is_empty() {
            let delivery = tokio::time::timeout(PATIENCE, self.subscriber.next()).await;
            match delivery.expect("in time").expect("no end")? {
                Delivery::Control(cursor, control) => {
                    return Ok(api::control::message(cursor, control));
                }
                Delivery::Events(frames) => {
                    for frame in frames {
                        self.bytes.extend_from_slice(&frame.bytes());
                    }
                }
            }
        }
        assert_eq!(self.bytes.get_u8(), 0, "not compressed");
        let length = self.bytes.get_u32() as usize;
        Ok(SubscribeResponse::decode(self.bytes.split_to(length)).expect("a message"))
    }
}

/// Reads up to the first event, which comes from the ring and not from the log; then
/// retention removes what the subscriber has not read.
async fn overtaken_by_retention(on_expired: OnExpired) -> (Served, Reader) {
    let served = serve();
    let opened = served
        .fanout
        .subscribe(request(Start::Earliest, on_expired))
        .await;
    let mut subscriber = Reader {
        subscriber: opened.expect("opened"),
        bytes: BytesMut::new(),
    };
    let old = Duration::from_secs(7200);
    append(&*served.log, "first", old).await;
    loop {
        let frame = subscriber.next().await.expect("a frame");
        if let Some(Kind::Event(event)) = frame.kind {
            assert_eq!(event.id, "first");
            break;
        }
    }
    for number in 0..50 {
        append(&*served.log, &format!("old_{number}"), old).await;
    }
    append(&*served.log, "kept", Duration::ZERO).await;
    served.log.apply_retention().await.expect("applied");
    (served, subscriber)
}

#[tokio::test]
async fn reliable_a_slow_subscriber_ends_at_removed_events_unless_it_asked_to_skip_them() {
    let (_served, mut subscriber) = overtaken_by_retention(OnExpired::Fail).await;
    let error = loop {
        match subscriber.next().await {
            Ok(frame) => assert!(!matches!(frame.kind, Some(Kind::Event(_))), "{frame:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::CursorExpired { .. }), "{error}");
}

#[tokio::test]
async fn reliable_a_gap_is_reported_before_the_events_after_it() {
    let (_served, mut subscriber) = overtaken_by_retention(OnExpired::Earliest).await;
    let mut gap = None;
    let event = loop {
        let frame = subscriber.next().await.expect("it goes on");
        match frame.kind {
            Some(Kind::Gap(found)) => {
                assert_eq!(found.to, frame.cursor);
                gap = Some(found);
            }
            Some(Kind::Event(event)) => break event,
            _ => {}
        }
    };
    assert_eq!(event.id, "kept");
    let gap = gap.expect("the gap is told first");
    assert_ne!(gap.from, gap.to);
}

/// They name no event that retention could have taken from them.
#[tokio::test]
async fn a_start_without_a_cursor_is_at_the_oldest_event_left_and_can_be_resumed() {
    let (served, _overtaken) = overtaken_by_retention(OnExpired::Fail).await;
    for start in [Start::Earliest, Start::Time(UnixMillis::new(0))] {
        let opened = served
            .fanout
            .subscribe(request(start, OnExpired::Fail))
            .await;
        let mut subscriber = Reader {
            subscriber: opened.expect("opened"),
            bytes: BytesMut::new(),
        };
        let started = subscriber.next().await.expect("it has started");
        let cursor = started.cursor.parse().expect("a cursor");
        let resumed = request(Start::After(cursor), OnExpired::Fail);
        let resumed = served.fanout.subscribe(resumed).await;
        assert!(resumed.is_ok(), "{start}: {resumed:?}");
        let event = loop {
            let frame = subscriber.next().await.expect("it goes on");
            if let Some(Kind::Event(event)) = frame.kind {
                break event;
            }
        };
        assert_eq!(event.id, "kept", "{start}");
    }
}

/// Reads the whole log again and again, which is what catching up looks like.
async fn read_without_pause(log: Arc<dyn Log>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let query = Query {
            after: Position::START,
            narrow: IndexHint::All,
            matches: Arc::new(|_| false),
            records_max: 1,
            bytes_max: 1,
        };
        read(&*log, query).await.expect("a page");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patient_the_wal_stays_bounded_while_readers_are_always_at_work() {
    let served = serve();
    let record = |id: String, payload: &Bytes| Entry {
        id,
        attributes: Attributes::default(),
        receive_time: UnixMillis::now(),
        event: Bytes::new(),
        decoding: clerk::decoding(),
        payload: payload.clone(),
    };
    let small = Bytes::from_static(b"{}");
    let appends =
        (0..10_000).map(|number| served.log.append(record(format!("small_{number}"), &small)));
    for answer in futures_util::future::join_all(appends).await {
        answer.expect("durable");
    }
    let stop = CancellationToken::new();
    let mut reading = tokio::task::JoinSet::new();
    for _ in 0..4 {
        reading.spawn(read_without_pause(Arc::clone(&served.log), stop.clone()));
    }
    // About 340 MB pass through the WAL.
    let large = Bytes::from(format!("\"{}\"", "x".repeat(200_000)));
    for number in 0..1500 {
        let appended = served.log.append(record(format!("large_{number}"), &large));
        appended.await.expect("durable");
    }
    stop.cancel();
    reading.join_all().await;
    let wal = served.directory.path().join("clerkcast.db-wal");
    let bytes = std::fs::metadata(wal).expect("there is a WAL").len();
    assert!(bytes < 128 << 20, "the WAL has {bytes} bytes");
}

#[tokio::test]
async fn history_is_read_once_for_subscribers_that_replay_it_together() {
    let served = serve();
    for number in 0..2_000 {
        append(&*served.log, &format!("old_{number}"), Duration::ZERO).await;
    }
    let mut subscribers = Vec::new();
    for _ in 0..3 {
        let request = request(Start::Earliest, OnExpired::Fail);
        let opened = served.fanout.subscribe(request).await;
        subscribers.push(opened.expect("opened"));
    }
    let mut firsts = Vec::new();
    for subscriber in &mut subscribers {
        let _started = subscriber.next().await.expect("no end").expect("frames");
        firsts.push(subscriber.next().await.expect("no end").expect("frames"));
    }
    let memory = |delivery: &Delivery| -> Vec<*const u8> {
        let Delivery::Events(frames) = delivery else {
            panic!("events come next: {delivery:?}");
        };
        frames.iter().map(|it| it.bytes().as_ptr()).collect()
    };
    assert!(
        memory(&firsts[0]).len() > 1,
        "more than one piece of memory"
    );
    assert_eq!(memory(&firsts[0]), memory(&firsts[1]));
    assert_eq!(memory(&firsts[0]), memory(&firsts[2]));
}

/// What one subscriber has read is not shown to another once it is gone.
#[tokio::test]
async fn reliable_events_removed_by_retention_are_not_sent_from_memory() {
    let served = serve();
    let old = Duration::from_secs(7200);
    for number in 0..2_000 {
        append(&*served.log, &format!("old_{number}"), old).await;
    }
    append(&*served.log, "kept", Duration::ZERO).await;
    let subscribe = || {
        served
            .fanout
            .subscribe(request(Start::Earliest, OnExpired::Fail))
    };
    let [first, second] = [subscribe().await, subscribe().await];
    let [mut first, second] = [first.expect("opened"), second.expect("opened")];
    let _started = first.next().await.expect("no end").expect("frames");
    let _page = first.next().await.expect("no end").expect("frames");
    served.log.apply_retention().await.expect("applied");
    let mut second = Reader {
        subscriber: second,
        bytes: BytesMut::new(),
    };
    loop {
        let frame = second.next().await.expect("it goes on");
        if let Some(Kind::Event(event)) = frame.kind {
            assert_eq!(event.id, "kept");
            break;
        }
    }
}
