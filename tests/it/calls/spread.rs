//! A herd that is ended together does not come back together.

use std::time::{Duration, Instant};

use clerkcast::proto::SubscribeRequest;
use clerkcast::proto::event_service_client::EventServiceClient;
use tokio::task::JoinSet;
use tonic::Request;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use crate::access::{Guarded, new_token, reason};
use crate::harness::Gateway;

const STREAMS: usize = 200;
const WINDOW: Duration = Duration::from_millis(50);

/// Streams of clients that do exactly what `RetryInfo` says: when each would be back.
async fn returns(
    client: &EventServiceClient<Channel>,
    token: Option<&str>,
    expected: &'static str,
    end: impl AsyncFnOnce(),
) -> Vec<Instant> {
    let mut streams = JoinSet::new();
    let mut open = Vec::new();
    for _ in 0..STREAMS {
        let mut request = Request::new(SubscribeRequest::default());
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().expect("ASCII");
            request.metadata_mut().insert("authorization", value);
        }
        let stream = client.clone().subscribe(request).await;
        open.push(stream.expect("open").into_inner());
    }
    for mut stream in open {
        streams.spawn(async move {
            let status = loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it ended with OK"),
                    Err(status) => break status,
                }
            };
            let ended = Instant::now();
            assert_eq!(reason(&status), expected);
            let details = status.get_error_details();
            let retry = details.retry_info().and_then(|it| it.retry_delay);
            ended + retry.expect("a delay")
        });
    }
    end().await;
    let mut returns = streams.join_all().await;
    returns.sort();
    returns
}

#[track_caller]
fn are_spread(returns: &[Instant]) {
    assert_eq!(returns.len(), STREAMS);
    let within = |first: &Instant| {
        let window = *first..*first + WINDOW;
        returns.iter().filter(|it| window.contains(*it)).count()
    };
    let most = returns.iter().map(within).max().expect("some");
    assert!(most <= STREAMS / 4, "{most} within 50 ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_are_spread() {
    let gateway = Gateway::start();
    let client = gateway.client().await;
    let returns = returns(&client, None, "DRAINING", async || gateway.signal("-TERM")).await;
    are_spread(&returns);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_spreads_those_it_ends() {
    let token = new_token("billing");
    let guarded = Guarded::start(&token.stanza);
    let client = guarded.gateway.client().await;
    let narrowed = format!("{}\ntypes = [\"session.*\"]\n", token.stanza);
    let returns = returns(&client, Some(&token.secret), "POLICY_CHANGED", async || {
        guarded.reloaded(&narrowed).await
    })
    .await;
    are_spread(&returns);
}
