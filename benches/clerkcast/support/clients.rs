//! Subscribers that count frames and do nothing else with them.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::uri::PathAndQuery;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

use super::bare::RawCodec;

/// HTTP/2, "Flow-Control Principles".
const WINDOW_BYTES: u32 = 65_535;

pub(crate) struct Clients {
    counts: Vec<Arc<AtomicUsize>>,
    awaited: Arc<Awaited>,
    tasks: JoinSet<()>,
}

/// What the publisher waits for: a number of frames, received by each.
#[derive(Default)]
struct Awaited {
    frames: AtomicUsize,
    reached: Notify,
}

/// Counts what one subscriber receives.
pub(crate) struct Counter {
    frames: Arc<AtomicUsize>,
    awaited: Arc<Awaited>,
}

impl Counter {
    pub(crate) fn count(&self) {
        // Waking the publisher for every frame is not what is measured.
        let received = self.frames.fetch_add(1, Ordering::SeqCst) + 1;
        if received == self.awaited.frames.load(Ordering::SeqCst) {
            self.awaited.reached.notify_waiters();
        }
    }
}

/// Is shown every frame.
type Observe = Arc<dyn Fn(&[u8]) + Send + Sync>;

impl Clients {
    pub(crate) fn none() -> Self {
        Self {
            counts: Vec::new(),
            awaited: Arc::default(),
            tasks: JoinSet::new(),
        }
    }

    /// Adds one, which receives as it likes and counts by itself.
    pub(crate) fn add<F>(&mut self, receive: impl FnOnce(Counter) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let frames = Arc::new(AtomicUsize::new(0));
        self.counts.push(Arc::clone(&frames));
        let awaited = Arc::clone(&self.awaited);
        self.tasks.spawn(receive(Counter { frames, awaited }));
    }

    /// Opens a stream for each request, and waits until each has received its first
    /// `opening` frames, which do not count.
    pub(crate) async fn connect(
        address: SocketAddr,
        path: &'static str,
        connections: usize,
        requests: Vec<Bytes>,
        opening: usize,
    ) -> Self {
        let nobody = Arc::new(|_: &[u8]| {});
        Self::observing(address, path, connections, requests, opening, nobody).await
    }

    /// The same, and shows every frame to `observe`.
    pub(crate) async fn observing(
        address: SocketAddr,
        path: &'static str,
        connections: usize,
        requests: Vec<Bytes>,
        opening: usize,
        observe: Observe,
    ) -> Self {
        let mut channels = Vec::new();
        for _ in 0..connections {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
            channels.push(endpoint.connect().await.expect("connected"));
        }
        let mut clients = Self::none();
        for (number, request) in requests.into_iter().enumerate() {
            let channel = channels[number % connections].clone();
            let observe = Arc::clone(&observe);
            clients.add(|counter| receive(channel, path, request, counter, observe));
        }
        clients.slowest_has(opening).await;
        for count in &clients.counts {
            count.fetch_sub(opening, Ordering::SeqCst);
        }
        clients
    }

    /// Waits until every subscriber has received so many frames.
    pub(crate) async fn slowest_has(&self, frames: usize) {
        self.awaited.frames.store(frames, Ordering::SeqCst);
        for count in &self.counts {
            loop {
                let reached = self.awaited.reached.notified();
                if count.load(Ordering::SeqCst) >= frames {
                    break;
                }
                reached.await;
            }
        }
    }

    /// Waits until every stream has ended. Returns the fewest frames that a subscriber has
    /// received.
    pub(crate) async fn fewest_at_end(mut self) -> usize {
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no panic");
        }
        let counts = self.counts.iter().map(|count| count.load(Ordering::SeqCst));
        counts.min().unwrap_or(0)
    }

    pub(crate) async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn receive(
    channel: Channel,
    path: &'static str,
    request: Bytes,
    counter: Counter,
    observe: Observe,
) {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.expect("ready");
    let path = PathAndQuery::from_static(path);
    let response = grpc
        .server_streaming(Request::new(request), path, RawCodec)
        .await;
    let mut frames = response.expect("subscribed").into_inner();
    while let Some(frame) = frames.message().await.expect("no error") {
        observe(&frame);
        counter.count();
    }
}

/// A subscriber that never reads; its window is the least that HTTP/2 has.
pub(crate) struct Stuck {
    _frames: Streaming<Bytes>,
}

impl Stuck {
    pub(crate) async fn subscribe(address: SocketAddr, path: &'static str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
        let endpoint = endpoint
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let mut grpc = Grpc::new(endpoint.connect().await.expect("connected"));
        grpc.ready().await.expect("ready");
        let path = PathAndQuery::from_static(path);
        let response = grpc
            .server_streaming(Request::new(Bytes::new()), path, RawCodec)
            .await;
        Self {
            _frames: response.expect("subscribed").into_inner(),
        }
    }
}
