//! Subscribers that count frames and do nothing else with them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::uri::PathAndQuery;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};

use super::bare::RawCodec;

pub(crate) struct Clients {
    counts: Vec<Arc<AtomicUsize>>,
    progress: Arc<Notify>,
    tasks: JoinSet<()>,
}

impl Clients {
    /// Opens the streams, and waits until each has received its first `opening` frames,
    /// which do not count.
    pub(crate) async fn connect(
        address: SocketAddr,
        path: &'static str,
        subscribers: usize,
        connections: usize,
        opening: usize,
    ) -> Self {
        let mut channels = Vec::new();
        for _ in 0..connections {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
            channels.push(endpoint.connect().await.expect("connected"));
        }
        let mut clients = Self {
            counts: Vec::new(),
            progress: Arc::new(Notify::new()),
            tasks: JoinSet::new(),
        };
        for number in 0..subscribers {
            let count = Arc::new(AtomicUsize::new(0));
            clients.counts.push(Arc::clone(&count));
            let channel = channels[number % connections].clone();
            let progress = Arc::clone(&clients.progress);
            clients.tasks.spawn(receive(channel, path, count, progress));
        }
        clients.slowest_has(opening).await;
        for count in &clients.counts {
            count.fetch_sub(opening, Ordering::Relaxed);
        }
        clients
    }

    /// Waits until every subscriber has received so many frames.
    pub(crate) async fn slowest_has(&self, frames: usize) {
        for count in &self.counts {
            loop {
                let progress = self.progress.notified();
                if count.load(Ordering::Relaxed) >= frames {
                    break;
                }
                progress.await;
            }
        }
    }

    pub(crate) fn close(mut self) {
        self.tasks.abort_all();
    }
}

async fn receive(
    channel: Channel,
    path: &'static str,
    count: Arc<AtomicUsize>,
    progress: Arc<Notify>,
) {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.expect("ready");
    let path = PathAndQuery::from_static(path);
    // An empty message is an empty `SubscribeRequest`.
    let response = grpc
        .server_streaming(Request::new(Bytes::new()), path, RawCodec)
        .await;
    let mut frames = response.expect("subscribed").into_inner();
    while frames.message().await.expect("no error").is_some() {
        let received = count.fetch_add(1, Ordering::Relaxed) + 1;
        // Not for each frame: waking the publisher is not what is measured.
        if received <= 4 || received.is_multiple_of(32) {
            progress.notify_waiters();
        }
    }
}
