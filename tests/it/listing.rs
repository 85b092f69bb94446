//! Pages of `ListEvents`: how they end, and that nothing is lost between them.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clerkcast::access::Redaction;
use clerkcast::event::{Attributes, Epoch, Position, Run, UnixMillis};
use clerkcast::fanout::{
    self, Encoding, Error, EventPage, Fanout, ListRequest, Payload, Start, View,
};
use clerkcast::filter::Filter;
use clerkcast::log::sqlite::{self, SqliteLog};
use clerkcast::log::{
    self, Bounds, Description, Follower, Keep, Lineage, Predicate, Read, ReadError, Reader, Record,
    RecordRef, Scan, Tally,
};
use clerkcast::proto::subscribe_request::Start as AskedStart;
use clerkcast::proto::{EventFilter, ListEventsRequest, SubscribeRequest};
use futures_util::future::BoxFuture;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::conformance::{append, record};
use crate::harness::{Gateway, after, body};
use crate::reopen::fill;

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_end_by_effort_lose_nothing() {
    let events = 250_000;
    let gateway = Gateway::start();
    gateway
        .accept("msg_first", body("user.created", "user_1"))
        .await;
    let stopped = gateway.stopped();
    fill(&stopped, events);
    let database = rusqlite::Connection::open(stopped.database()).expect("opens");
    let rare =
        "UPDATE record SET instance_id = 'ins_rare' WHERE position IN (3, 120000, 120001, 250000)";
    assert_eq!(database.execute(rare, []).expect("updated"), 4);
    drop(database);
    let gateway = stopped.restarted();

    let filter = Some(EventFilter {
        instance_ids: vec!["ins_rare".to_owned()],
        ..EventFilter::default()
    });
    let all = gateway.history(SubscribeRequest {
        filter: filter.clone(),
        ..crate::harness::from_earliest()
    });
    let expected: Vec<String> = all.await.into_iter().map(|event| event.id).collect();
    assert_eq!(expected.len(), 4);
    let mut client = gateway.client().await;
    let mut request = ListEventsRequest {
        filter: filter.clone(),
        ..ListEventsRequest::default()
    };
    let mut listed = Vec::new();
    let mut pages = 0;
    loop {
        let page = client.list_events(request.clone()).await.expect("listed");
        let page = page.into_inner();
        pages += 1;
        listed.extend(page.events.into_iter().map(|event| event.id));
        if page.next_page_token.is_empty() {
            break;
        }
        // Each page's cursor is as good for a subscription.
        let rest = gateway.history(SubscribeRequest {
            filter: filter.clone(),
            ..after(&page.cursor)
        });
        assert_eq!(rest.await.len(), expected.len() - listed.len());
        request.page_token = page.next_page_token;
    }
    assert_eq!(listed, expected);
    assert!(pages >= 3, "{pages} pages of at most 100,000 rows");

    // A start that nothing was received since is found without the rows.
    let future = SubscribeRequest {
        start: Some(AskedStart::StartTime(prost_types::Timestamp {
            seconds: crate::harness::now_seconds() + 3600,
            nanos: 0,
        })),
        ..SubscribeRequest::default()
    };
    assert_eq!(gateway.history(future).await.len(), 0);
}

/// A log that shows one record a scan, and that retention overtakes before the second.
#[derive(Debug)]
struct Overtaken {
    log: SqliteLog,
    scans: AtomicUsize,
}

/// Stops after each record.
struct OneByOne(Box<dyn Reader>);

impl Reader for OneByOne {
    fn wants(&self, attributes: Attributes<&str>) -> bool {
        self.0.wants(attributes)
    }

    fn take(&mut self, record: RecordRef<'_>) -> ControlFlow<()> {
        let _may_take_more = self.0.take(record);
        ControlFlow::Break(())
    }
}

impl Read for Overtaken {
    fn epoch(&self) -> Epoch {
        self.log.epoch()
    }

    fn bounds(&self) -> Bounds {
        self.log.bounds()
    }

    fn confirmed_bounds(&self, at_least: Position) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        self.log.confirmed_bounds(at_least)
    }

    fn run_at(&self, position: Position) -> Run {
        self.log.run_at(position)
    }

    fn lineage(&self, position: Position, run: Run) -> BoxFuture<'_, Result<Lineage, ReadError>> {
        self.log.lineage(position, run)
    }

    fn scan(
        &self,
        scan: Scan,
        reader: Box<dyn Reader>,
    ) -> BoxFuture<'_, Result<Position, ReadError>> {
        Box::pin(async move {
            if self.scans.fetch_add(1, Ordering::Relaxed) > 0 {
                self.log.apply_retention().await.expect("it removes");
            }
            self.log.scan(scan, Box::new(OneByOne(reader))).await
        })
    }

    fn find(
        &self,
        id: String,
        matches: Predicate,
    ) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        self.log.find(id, matches)
    }

    fn position_before(&self, time: UnixMillis) -> BoxFuture<'_, Result<Position, ReadError>> {
        self.log.position_before(time)
    }

    fn tallies(&self) -> Vec<Tally> {
        self.log.tallies()
    }

    fn names_version(&self) -> u64 {
        self.log.names_version()
    }

    fn describe(&self) -> BoxFuture<'_, Result<Description, ReadError>> {
        self.log.describe()
    }

    fn follow(&self) -> Follower {
        self.log.follow()
    }
}

fn listing(start: Start) -> ListRequest {
    ListRequest {
        filter: Filter::default(),
        start,
        events_max: 10,
        view: View {
            payload: Payload::Omitted,
            redaction: Redaction::default(),
            encoding: Encoding::Proto,
        },
    }
}

fn ids(listed: &EventPage) -> Vec<&str> {
    listed.events.iter().map(|it| it.id.as_str()).collect()
}

#[tokio::test]
async fn a_listing_that_retention_overtakes_returns_what_it_has() {
    let directory = TempDir::new().expect("a temporary directory");
    let config = sqlite::Config {
        data_dir: directory.path().to_owned(),
        retain_for: Some(Duration::from_secs(3600)),
        retain_bytes: None,
        ..sqlite::Config::default()
    };
    let mut registry = Registry::default();
    let log = SqliteLog::open(config, log::Metrics::register(&mut registry)).expect("opens");
    for number in 0..5 {
        let mut old = record(&format!("old_{number}"), "user.created", None);
        old.receive_time = UnixMillis::now().before(Duration::from_secs(7200));
        append(&log, old).await;
    }
    append(&log, record("new", "user.created", None)).await;
    let log = Overtaken {
        log,
        scans: AtomicUsize::new(0),
    };
    let config = fanout::Config {
        ring_bytes_max: 3000,
        subscribers_max: 10,
        sources: vec!["default".to_owned()],
    };
    let metrics = fanout::Metrics::register(&mut registry);
    let stop = CancellationToken::new();
    let (fanout, _feed) = Fanout::start(Arc::new(log), config, metrics, stop);

    let listed = fanout.list(listing(Start::Earliest)).await.expect("a page");
    assert_eq!(ids(&listed), ["old_0"], "what was there when it was read");
    assert!(listed.has_more);
    // What lies between is gone, which only the next page can say.
    let next = fanout.list(listing(Start::After(listed.cursor))).await;
    let error = next.expect_err("expired");
    assert!(matches!(error, Error::CursorExpired { .. }), "{error}");
    let listed = fanout.list(listing(Start::Earliest)).await.expect("a page");
    assert_eq!(ids(&listed), ["new"]);
    assert!(!listed.has_more);
}
