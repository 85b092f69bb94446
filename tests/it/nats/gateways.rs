//! Several gateways before one stream: any takes any webhook, any serves any subscriber.

use clerkcast::proto::subscribe_request::Start;
use clerkcast::proto::{GetEventRequest, GetLogInfoRequest, ListEventsRequest, SubscribeRequest};

use super::place::on;
use super::server::Server;
use crate::harness::{Gateway, after, body, from_earliest, types};

fn three(server: &Server) -> [Gateway; 3] {
    [(); 3].map(|()| Gateway::start_with(on(&[server])))
}

/// The same delivery at all of them at the same instant, again and again.
#[tokio::test]
async fn unique_duplicates_posted_to_different_gateways_at_once_enter_once() {
    let server = Server::start();
    let gateways = three(&server);
    for number in 0..50 {
        let id = format!("msg_{number}");
        let event = body("user.created", "user_1");
        let posts = gateways
            .iter()
            .map(|gateway| gateway.post(&id, event.clone()));
        let answers = futures_util::future::join_all(posts).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
        let first = answers
            .iter()
            .filter(|answer| answer.json()["duplicate"] == false);
        assert_eq!(first.count(), 1, "{answers:?}");
    }
    for gateway in &gateways {
        assert_eq!(gateway.history(from_earliest()).await.len(), 50);
    }
}

/// Each event's cursor is used at another gateway at once, before that one can have
/// heard of the event by itself.
#[tokio::test]
async fn resumable_a_cursor_from_one_gateway_resumes_at_another() {
    let server = Server::start();
    let gateways = three(&server);
    let mut cursor = None;
    for number in 0..30 {
        let id = format!("msg_{number}");
        let (posted_to, read_at) = (&gateways[number % 3], &gateways[(number + 1) % 3]);
        posted_to.accept(&id, body("user.updated", "user_1")).await;
        let request = cursor.as_deref().map_or_else(from_earliest, after);
        let (next, event) = read_at.subscribe(request).await.next_event().await;
        assert_eq!(event.id, id);
        cursor = Some(next);
    }
}

#[tokio::test]
async fn queries_are_answered_by_every_gateway() {
    let server = Server::start();
    let gateways = three(&server);
    for number in 0..30 {
        let event_type = ["user.created", "user.updated", "session.created"][number % 3];
        let event = body(event_type, &format!("user_{number}"));
        gateways[number % 3]
            .accept(&format!("msg_{number}"), event)
            .await;
    }
    let started = between().await;
    for number in 30..40 {
        let event = body("user.created", "user_1");
        gateways[0].accept(&format!("msg_{number}"), event).await;
    }
    for gateway in &gateways {
        let created = SubscribeRequest {
            filter: types(&["user.created"]),
            ..from_earliest()
        };
        assert_eq!(gateway.history(created).await.len(), 20);
        let since = SubscribeRequest {
            start: Some(Start::StartTime(started)),
            ..SubscribeRequest::default()
        };
        let found = gateway.history(since).await;
        let found: Vec<&str> = found.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(found.len(), 10, "{found:?}");
        let mut client = gateway.client().await;
        let found = client.get_event(GetEventRequest {
            id: "msg_17".to_owned(),
            ..GetEventRequest::default()
        });
        let event = found.await.expect("found").into_inner().event;
        assert_eq!(event.expect("there").r#type, "session.created");
        let missing = client.get_event(GetEventRequest {
            id: "msg_none".to_owned(),
            ..GetEventRequest::default()
        });
        let status = missing.await.expect_err("not there");
        assert_eq!(status.code(), tonic::Code::NotFound);
        assert_eq!(list(gateway, "session.*", 4).await, 10);
        let info = client.get_log_info(GetLogInfoRequest {}).await;
        assert_eq!(info.expect("described").into_inner().event_count, 40);
    }
}

/// How many events match, page by page.
async fn list(gateway: &Gateway, event_type: &str, page_size: i32) -> usize {
    let mut client = gateway.client().await;
    let mut request = ListEventsRequest {
        filter: types(&[event_type]),
        page_size,
        ..ListEventsRequest::default()
    };
    let mut count = 0;
    loop {
        let page = client.list_events(request.clone()).await;
        let page = page.expect("listed").into_inner();
        count += page.events.len();
        if page.next_page_token.is_empty() {
            return count;
        }
        request.page_token = page.next_page_token;
    }
}

/// A moment that is later than everything before and earlier than everything after, also
/// by a clock that is a little off.
async fn between() -> prost_types::Timestamp {
    let margin = std::time::Duration::from_millis(20);
    let before = std::time::SystemTime::now();
    tokio::time::sleep(margin * 2).await;
    (before + margin).into()
}

/// No JSON has a typed form that is larger for its size: eleven bytes for two.
#[tokio::test]
async fn lossless_the_largest_event_fits_a_message() {
    let server = Server::start();
    let gateway = Gateway::start_with(on(&[&server]));
    let (start, end) = (r#"{"type":"planet.created","data":{"sizes":[0"#, "]}}");
    let numbers = (512 * 1024 - start.len() - end.len()) / 2;
    let event = format!("{start}{}{end}", ",0".repeat(numbers));
    gateway.accept("msg_1", event.clone()).await;
    let request = SubscribeRequest {
        include_payload: true,
        ..from_earliest()
    };
    let found = gateway.history(request).await;
    assert_eq!(found[0].payload_json.as_deref(), Some(event.as_str()));
}
