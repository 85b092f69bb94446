//! `GetEvent` on a stream, which has no index of ids.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_nats::jetstream::consumer::pull;
use clerkcast::proto::{GetEventRequest, GetEventResponse};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::place::on;
use super::server::Server;
use crate::harness::{Gateway, body, eventually, from_earliest};

const EVENTS: usize = 200;

async fn get(gateway: &Gateway, id: &str) -> Result<GetEventResponse, Status> {
    let request = GetEventRequest {
        id: id.to_owned(),
        ..GetEventRequest::default()
    };
    let mut client = gateway.client().await;
    Ok(client.get_event(request).await?.into_inner())
}

async fn fill(gateway: &Gateway) {
    for number in 0..EVENTS {
        let event = body("user.updated", "user_1");
        gateway.accept(&format!("msg_{number}"), event).await;
    }
}

async fn consumers(server: &Server) -> usize {
    server.stream().await.state.consumer_count
}

/// Four searches and the follower have a consumer each; after the searches, the follower alone.
#[tokio::test(flavor = "multi_thread")]
async fn nats_searches_leave_no_consumer() {
    let server = Arc::new(Server::start());
    let gateway = Gateway::start_with(on(&[&server]));
    fill(&gateway).await;
    let (most, is_done) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let counting = tokio::spawn({
        let (server, most, is_done) =
            (Arc::clone(&server), Arc::clone(&most), Arc::clone(&is_done));
        async move {
            let context = server.jetstream().await;
            while !is_done.load(Ordering::Relaxed) {
                let stream = context.get_stream("CLERKCAST").await.expect("there");
                let count = stream.cached_info().state.consumer_count;
                most.fetch_max(count, Ordering::Relaxed);
            }
        }
    });
    // Some end, and some are dropped at any moment: the caller has gone.
    for round in 0..10 {
        let searches = (0..20_u64).map(|number| {
            let gateway = &gateway;
            async move {
                let search = get(gateway, "msg_that_is_not_there");
                if number % 2 == 0 {
                    let within = std::time::Duration::from_millis(round * number);
                    let _dropped = tokio::time::timeout(within, search).await;
                } else {
                    let none = search.await.expect_err("there is none");
                    assert_eq!(none.code(), Code::NotFound, "{none}");
                }
            }
        });
        futures_util::future::join_all(searches).await;
    }
    is_done.store(true, Ordering::Relaxed);
    counting.await.expect("no panic");
    let most = most.load(Ordering::Relaxed);
    assert!((2..=5).contains(&most), "{most} consumers at once");
    eventually("the follower's alone is left", || async {
        consumers(&server).await == 1
    })
    .await;

    // A stream that allows two: one to follow, one to search.
    let stopped = gateway.stopped();
    server
        .edit_stream(|settings| settings.max_consumers = 2)
        .await;
    let gateway = stopped.restarted();
    let mut live = gateway.subscribe(from_earliest()).await;
    let searches = (0..20).map(|_| get(&gateway, "msg_that_is_not_there"));
    for found in futures_util::future::join_all(searches).await {
        assert_eq!(found.expect_err("there is none").code(), Code::NotFound);
    }
    for number in 0..EVENTS {
        assert_eq!(live.next_event().await.1.id, format!("msg_{number}"));
    }
    // Following never waits for a search: it gets its consumer back from them.
    let searching = (0..40).map(|_| get(&gateway, "msg_that_is_not_there"));
    let losing = async {
        let context = server.jetstream().await;
        let stream = context.get_stream("CLERKCAST").await.expect("there");
        let mut names = stream.consumer_names();
        while let Some(name) = futures_util::StreamExt::next(&mut names).await {
            let _gone_already = stream.delete_consumer(&name.expect("named")).await;
        }
        gateway
            .accept("msg_live", body("user.updated", "user_1"))
            .await;
    };
    let (_, ()) = tokio::join!(futures_util::future::join_all(searching), losing);
    assert_eq!(live.next_event().await.1.id, "msg_live");
}

/// What has come by lately is found where there is room for nothing; what needs a search is
/// refused in words.
#[tokio::test]
async fn nats_a_recent_event_is_found_without_a_search() {
    let server = Server::start();
    drop(Gateway::start_with(on(&[&server])));
    eventually("no consumer is left", || async {
        let context = server.jetstream().await;
        let stream = context.get_stream("CLERKCAST").await.expect("there");
        let mut names = stream.consumer_names();
        while let Some(name) = futures_util::StreamExt::next(&mut names).await {
            let _gone_already = stream.delete_consumer(&name.expect("named")).await;
        }
        consumers(&server).await == 0
    })
    .await;
    server
        .edit_stream(|settings| settings.max_consumers = 2)
        .await;
    let gateways = [(); 2].map(|()| Gateway::start_with(on(&[&server])));
    gateways[0]
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut live = gateways[1].subscribe(from_earliest()).await;
    assert_eq!(live.next_event().await.1.id, "msg_1");
    for gateway in &gateways {
        let found = get(gateway, "msg_1").await.expect("found");
        assert_eq!(found.event.expect("set").id, "msg_1");
    }
    let refused = get(&gateways[0], "msg_2").await.expect_err("no room");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let details = refused.get_error_details();
    let reason = details.error_info().expect("details");
    assert_eq!(reason.reason, "TOO_MANY_CALLS");
    assert_eq!(reason.metadata["limit"], "4");
    assert_eq!(reason.metadata["principal"], "anonymous");
    assert!(details.retry_info().is_some());

    // An outsider's consumer takes a place as well as another gateway's.
    let [gateway, other] = gateways;
    drop(other);
    let context = server.jetstream().await;
    let outsider = pull::Config::default();
    eventually("the other's place is taken", || async {
        let taken = context.create_consumer_on_stream(outsider.clone(), "CLERKCAST");
        taken.await.is_ok() || consumers(&server).await == 2
    })
    .await;
    assert!(get(&gateway, "msg_1").await.is_ok());
}
