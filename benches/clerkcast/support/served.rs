//! The fan-out and its gRPC server in this process, on a log of the table's choice.

use std::net::SocketAddr;
use std::sync::Arc;

use clerkcast::access::{self, Access, AccessConfig, Guard, Policy};
use clerkcast::api::Api;
use clerkcast::doors::grpc::{self, Exposure};
use clerkcast::event::UnixMillis;
use clerkcast::fanout::{Config, Fanout, Metrics};
use clerkcast::log::Log;
use clerkcast::net::{self, Listener};
use clerkcast::subscriptions::{self, Clock, Limits, Subscriptions, Surroundings};
use clerkcast::telemetry::traces::Traces;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use clerkcast::proto::method::event_service::SUBSCRIBE;

/// A server, taken down when dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    drain: CancellationToken,
    server: JoinHandle<Result<(), grpc::Error>>,
    feed: JoinHandle<()>,
    keeping: JoinHandle<()>,
}

impl Served {
    pub(crate) async fn start(log: Arc<dyn Log>) -> Self {
        let drain = CancellationToken::new();
        let config = Config {
            ring_bytes_max: 64 << 20,
            subscribers_max: 100_000,
            sources: vec!["default".to_owned()],
        };
        let metrics = Metrics::register(&mut Registry::default());
        let (fanout, feed) = Fanout::start(log.clone(), config, metrics, drain.clone());
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let limits = grpc::limits(100_000);
        let metrics = net::Metrics::register(&mut Registry::default());
        let listener = Listener::new("grpc", tcp, limits, metrics);
        let address = listener.local_addr().expect("bound");
        let access = Access::new(AccessConfig {
            anonymous: Some(Policy::default()),
            ..AccessConfig::default()
        });
        let (subscriptions, keeping) = Subscriptions::start(
            Surroundings {
                log,
                fanout: fanout.clone(),
                clock: Clock::new(UnixMillis::now),
                limits: Limits::default(),
                metrics: subscriptions::Metrics::register(&mut Registry::default()),
                drain: drain.clone(),
            },
            access.clone(),
            subscriptions::Config::default(),
        );
        let services = grpc::Services {
            api: Api::new(fanout, subscriptions),
            guard: Guard::new(access, access::Metrics::register(&mut Registry::default())),
            metrics: grpc::Metrics::register(&mut Registry::default()),
            traces: Traces::default(),
            health: Exposure::Public,
            reflection: Exposure::Public,
        };
        let server = tokio::spawn(grpc::serve(listener, services, drain.clone()));
        Self {
            address,
            drain,
            server,
            feed,
            keeping,
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.drain.cancel();
        self.server.abort();
        self.feed.abort();
        self.keeping.abort();
    }
}
