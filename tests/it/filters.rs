//! Filters: what is refused and how, and what the accepted ones cost.

use clerkcast::proto::event_service_client::EventServiceClient;
use clerkcast::proto::{EventFilter, ListEventsRequest, SubscribeRequest, SubscribeResponse};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::access::{Caller, Guarded, new_token, reason};
use crate::harness::{Gateway, OTHER_SECRET, SECRET, binary, eventually};
use crate::refused::refused_start;

const IDS: usize = 10_000;

fn asking(filter: EventFilter) -> SubscribeRequest {
    SubscribeRequest {
        filter: Some(filter),
        ..SubscribeRequest::default()
    }
}

/// As many ids as fit, none of which another number has.
fn of_users(number: usize, id_bytes: usize) -> SubscribeRequest {
    let ids = (0..IDS).map(|id| {
        let width = id_bytes - "user_".len();
        format!("user_{:0width$}", number * IDS + id)
    });
    asking(EventFilter {
        user_ids: ids.collect(),
        ..EventFilter::default()
    })
}

#[tokio::test]
async fn a_hidden_source_looks_like_none() {
    let token = new_token("billing");
    let guarded = Guarded::start(&format!(
        "{}\nsources = [\"default\"]\n\
         [[sources]]\nname = \"default\"\nsigning_secrets = [\"{SECRET}\"]\n\
         [[sources]]\nname = \"hidden\"\nsigning_secrets = [\"{OTHER_SECRET}\"]\n",
        token.stanza
    ));
    let mut caller = Caller::of(&guarded.gateway, &token).await;
    let mut refusals = Vec::new();
    for source in ["hidden", "nonsense"] {
        let filter = EventFilter {
            sources: vec![source.to_owned()],
            ..EventFilter::default()
        };
        let listing = caller.request(ListEventsRequest {
            filter: Some(filter.clone()),
            ..ListEventsRequest::default()
        });
        let listed = caller.client.list_events(listing).await;
        let subscribed = caller.subscribe(asking(filter)).await;
        let refused = [
            listed.expect_err("refused"),
            subscribed.expect_err("refused"),
        ];
        refusals.push(refused.map(|status| {
            let said = status.message().replace(source, "…");
            (status.code(), reason(&status), said)
        }));
    }
    assert_eq!(refusals[0], refusals[1]);
    let (code, _, said) = &refusals[0][0];
    assert_eq!(*code, Code::InvalidArgument);
    assert!(
        said.contains("default") && !said.contains("hidden"),
        "{said}"
    );
}

#[tokio::test]
async fn filtered_ids_that_no_event_can_have_are_refused_wherever_they_are_written() {
    let gateway = Gateway::start();
    for (id, seems) in [("user_1 ", "white space"), ("a@example.com", "an address")] {
        let filter = EventFilter {
            user_ids: vec![id.to_owned()],
            ..EventFilter::default()
        };
        let refused = gateway.client().await.subscribe(asking(filter)).await;
        let refused = refused.expect_err("it would wait for ever");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(seems), "{refused}");
        assert!(!refused.message().contains("example.com"), "{refused}");
    }
    for pinned in ["ins_1 ", "user_1", "production"] {
        let (code, said) = refused_start(|command| {
            command.args(["--instance-id", pinned]);
        });
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("--instance-id: ") && said.contains("`ins_"),
            "{said}"
        );
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let file = directory.path().join("clerkcast.toml");
        let config = format!(
            "[[sources]]\nname = \"staging\"\nsigning_secrets = [\"{SECRET}\"]\ninstance_id = \"{pinned}\"\n"
        );
        std::fs::write(&file, config).expect("written");
        let (code, said) = refused_start(|command| {
            command.arg("--config").arg(&file);
        });
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("instance_id"), "{said}");
    }
}

#[test]
fn send_suggests_what_tail_does() {
    for (typed, meant) in [
        (
            "membership.created",
            "did you mean organizationMembership.created?",
        ),
        ("usr.*", "did you mean user.*?"),
        ("foo.bar", "there are user.*, session.*"),
    ] {
        let output = binary().args(["send", typed, "--secret", SECRET]).output();
        let output = output.expect("the binary runs");
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(meant), "{typed}: {said}");
    }
}

/// Streams of one client, each on the connection that they share.
struct Streams {
    client: EventServiceClient<Channel>,
    open: Vec<Streaming<SubscribeResponse>>,
}

impl Streams {
    async fn subscribe(&mut self, request: Request<SubscribeRequest>) -> Result<(), Status> {
        let mut stream = self.client.subscribe(request).await?.into_inner();
        assert!(stream.message().await?.is_some(), "it begins");
        self.open.push(stream);
        Ok(())
    }
}

#[tokio::test]
async fn a_filter_costs_four_times_its_size_at_most() {
    const FIRST: usize = 10;
    const MEASURED: usize = 30;
    const ID_BYTES: usize = 26;
    let gateway = Gateway::start();
    let mut streams = Streams {
        client: gateway.client().await,
        open: Vec::new(),
    };
    // What requests need while they are read is there from then on.
    for number in 0..FIRST {
        let request = Request::new(of_users(number, ID_BYTES));
        streams.subscribe(request).await.expect("there is room");
    }
    let before = gateway.memory();
    for number in FIRST..FIRST + MEASURED {
        let request = Request::new(of_users(number, ID_BYTES));
        streams.subscribe(request).await.expect("there is room");
    }
    let each = gateway.memory().saturating_sub(before) / MEASURED as u64;
    assert!(each <= 4 * (IDS * ID_BYTES) as u64, "{each} bytes a stream");
    let filters = gateway.metric("clerkcast_filter_bytes").await;
    assert!(filters >= 0.3 * 40.0 * 260_000.0, "{filters}");

    // Equal filters share all.
    let before = filters;
    for _ in 0..MEASURED {
        let request = Request::new(of_users(0, ID_BYTES));
        streams.subscribe(request).await.expect("it costs nothing");
    }
    let after = gateway.metric("clerkcast_filter_bytes").await;
    assert!((after - before).abs() < 1.0, "{before}, then {after}");
}

#[tokio::test]
async fn filters_are_bounded_per_principal() {
    /// As many as 64 MiB of ids would be, and more than fit with what they cost.
    const STREAMS_MAX: usize = 128;
    let [greedy, modest] = ["greedy", "modest"].map(new_token);
    let guarded = Guarded::start(&format!("{}\n\n{}\n", greedy.stanza, modest.stanza));
    let gateway = &guarded.gateway;
    let caller = Caller::of(gateway, &greedy).await;
    let mut streams = Streams {
        client: caller.client.clone(),
        open: Vec::new(),
    };
    let mut refused = None;
    for number in 0..STREAMS_MAX {
        let request = caller.request(of_users(number, 50));
        if let Err(status) = streams.subscribe(request).await {
            refused = Some(status);
            break;
        }
    }
    let refused = refused.expect("a bound");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason(&refused), "FILTERS_TOO_LARGE");
    let details = refused.get_error_details();
    let metadata = &details.error_info().expect("a reason").metadata;
    assert_eq!(
        metadata.get("principal").map(String::as_str),
        Some("greedy")
    );
    assert_eq!(metadata.get("limit").map(String::as_str), Some("67108864"));
    assert!(details.retry_info().is_some());

    let mut other = Caller::of(gateway, &modest).await;
    let another = other.subscribe(of_users(1_000, 50)).await;
    another.expect("another principal has its own");
    let equal = caller.request(of_users(0, 50));
    streams
        .subscribe(equal)
        .await
        .expect("an equal one costs nothing");

    streams.open.clear();
    let freed = || async { gateway.metric("clerkcast_filter_bytes").await < 2e6 };
    eventually("the budget returns", freed).await;
    let again = caller.request(of_users(2_000, 50));
    streams.subscribe(again).await.expect("there is room again");
}

#[tokio::test]
async fn ten_violations_are_named_and_the_others_are_counted() {
    let gateway = Gateway::start();
    let filter = EventFilter {
        user_ids: vec!["x".to_owned(); 5_000],
        ..EventFilter::default()
    };
    let refused = gateway.client().await.subscribe(asking(filter)).await;
    let refused = refused.expect_err("refused");
    assert!(refused.message().ends_with("and 4990 more"), "{refused}");
    let details = refused.get_error_details();
    let named = &details.bad_request().expect("named").field_violations;
    assert!((1..=10).contains(&named.len()), "{named:?}");
}
