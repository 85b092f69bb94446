//! Many subscribers that come and go while events flow.

use std::str::FromStr as _;
use std::sync::Arc;

use clerkcast::event::{Cursor, Position};
use clerkcast::proto::event_service_client::EventServiceClient;
use clerkcast::proto::subscribe_response::Kind;
use clerkcast::proto::{EventFilter, SubscribeRequest, SubscribeResponse};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::harness::{Gateway, PATIENCE, after, body, from_earliest};

const SUBSCRIBERS: usize = 1_000;
const CONNECTIONS: usize = 20;
const EVENTS: usize = 400;
const SENDERS: usize = 8;
const USERS: usize = 10;
const TYPES: [&str; 3] = ["user.created", "user.updated", "user.deleted"];

/// An event of the log, as far as filters look at it.
struct Logged {
    position: Position,
    id: String,
    event_type: String,
    user_id: String,
}

/// A subscriber that leaves at a whim, and comes back with the cursor of its last frame.
struct Visitor {
    chance: u64,
    filter: EventFilter,
    /// Of its very first frame: it is owed what comes after this.
    begun: Option<String>,
    cursor: Option<String>,
    seen: Vec<String>,
}

impl Visitor {
    fn new(number: usize) -> Self {
        let text = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let user = format!("user_{}", number % USERS);
        let (types, exclude_types, user_ids) = match number % 5 {
            0 => (text(&[]), text(&[]), text(&[])),
            1 => (text(&["user.created"]), text(&[]), text(&[])),
            2 => (text(&["user.*"]), text(&["user.updated"]), text(&[])),
            3 => (text(&[]), text(&[]), text(&[&user])),
            _ => (
                text(&["user.deleted"]),
                text(&[]),
                text(&[&user, "user_of_nobody"]),
            ),
        };
        Self {
            chance: number as u64 + 1,
            filter: EventFilter {
                types,
                exclude_types,
                user_ids,
                ..EventFilter::default()
            },
            begun: None,
            cursor: None,
            seen: Vec::new(),
        }
    }

    /// The filter in plain words.
    fn wants(&self, event: &Logged) -> bool {
        let EventFilter {
            types,
            exclude_types,
            user_ids,
            ..
        } = &self.filter;
        let is_one = |types: &[String]| {
            types
                .iter()
                .any(|it| it == "user.*" || *it == event.event_type)
        };
        (types.is_empty() || is_one(types))
            && !is_one(exclude_types)
            && (user_ids.is_empty() || user_ids.contains(&event.user_id))
    }

    fn at_a_whim(&mut self, sides: u64) -> u64 {
        // Knuth's generator; the high bits are the good ones.
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % sides
    }

    fn request(&mut self) -> SubscribeRequest {
        let from_the_oldest = self.at_a_whim(2) == 0;
        let request = match &self.cursor {
            Some(cursor) => after(cursor),
            None if from_the_oldest => from_earliest(),
            None => SubscribeRequest::default(),
        };
        SubscribeRequest {
            filter: Some(self.filter.clone()),
            ..request
        }
    }

    fn note(&mut self, frame: SubscribeResponse) {
        self.begun.get_or_insert_with(|| frame.cursor.clone());
        self.cursor = Some(frame.cursor);
        if let Some(Kind::Event(event)) = frame.kind {
            self.seen.push(event.id);
        }
    }

    async fn come_and_go(
        mut self,
        mut client: EventServiceClient<Channel>,
        mut all_posted: watch::Receiver<bool>,
    ) -> Self {
        while !*all_posted.borrow() || self.cursor.is_none() {
            let opened = client.subscribe(self.request()).await;
            let mut stream = opened.expect("subscribed").into_inner();
            for _ in 0..=self.at_a_whim(20) {
                let frame = tokio::select! {
                    frame = stream.message() => frame.expect("no error").expect("no end"),
                    _ = all_posted.wait_for(|done| *done), if self.cursor.is_some() => break,
                };
                self.note(frame);
            }
        }
        let request = SubscribeRequest {
            stop_when_caught_up: true,
            ..self.request()
        };
        let opened = client.subscribe(request).await;
        let mut stream = opened.expect("subscribed").into_inner();
        while let Some(frame) = stream.message().await.expect("no error") {
            self.note(frame);
        }
        self
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reliable_a_thousand_subscribers_that_come_and_go_see_exactly_what_they_asked_for() {
    let gateway = Arc::new(Gateway::start());
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(gateway.client().await);
    }
    let (posted, all_posted) = watch::channel(false);
    let mut visitors = JoinSet::new();
    for number in 0..SUBSCRIBERS {
        let client = clients[number % CONNECTIONS].clone();
        visitors.spawn(Visitor::new(number).come_and_go(client, all_posted.clone()));
    }
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let gateway = Arc::clone(&gateway);
        senders.spawn(async move {
            for number in (sender..EVENTS).step_by(SENDERS) {
                let user = format!("user_{}", number / 3 % USERS);
                let body = body(TYPES[number % TYPES.len()], &user);
                gateway.accept(&format!("msg_{number}"), body).await;
            }
        });
    }
    senders.join_all().await;
    posted.send(true).expect("somebody waits");
    let visitors = tokio::time::timeout(PATIENCE, visitors.join_all()).await;

    let log = whole_log(&gateway).await;
    assert_eq!(log.len(), EVENTS);
    for visitor in visitors.expect("all come to the end") {
        let begun = visitor.begun.as_deref().expect("a first frame");
        let begun = Cursor::from_str(begun).expect("a cursor").position;
        let owed = log.iter().filter(|event| event.position > begun);
        let owed = owed.filter(|event| visitor.wants(event));
        let owed: Vec<&str> = owed.map(|event| event.id.as_str()).collect();
        assert_eq!(visitor.seen, owed, "with {:?}", visitor.filter);
    }
}

async fn whole_log(gateway: &Gateway) -> Vec<Logged> {
    let request = SubscribeRequest {
        stop_when_caught_up: true,
        ..from_earliest()
    };
    let mut stream = gateway.subscribe(request).await;
    let mut log = Vec::new();
    while let Some(frame) = stream.next().await {
        if let Some(Kind::Event(event)) = frame.kind {
            log.push(Logged {
                position: Cursor::from_str(&frame.cursor).expect("a cursor").position,
                id: event.id,
                event_type: event.r#type,
                user_id: event.user_id,
            });
        }
    }
    log
}
