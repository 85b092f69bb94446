//! The listener: HTTP/1.1, with a bound on how long and how large a request's head may be.
//!
//! `axum::serve` has no such bounds, and a connection that never completes its head
//! would hold up every graceful stop as well.

use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;

use crate::net::{Limits, Listener, Peer};

/// Also for a connection that is kept open between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A larger head is answered 431.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Answers are short: only a sender that reads none of many is so slow.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What is bounded on the webhook port, where so many connections may be open at once.
#[must_use]
pub fn limits(connections_max: usize) -> Limits {
    Limits {
        connections_max,
        opening_bytes: 1,
        write_timeout: Some(WRITE_TIMEOUT),
    }
}

/// Serves until `drain` is cancelled and every request in flight is answered.
pub async fn serve(mut listener: Listener, router: Router, drain: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX);
    let connections = GracefulShutdown::new();
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = drain.cancelled() => break,
        };
        let service = TowerToHyperService::new(WithPeer {
            peer: connection.peer().clone(),
            router: router.clone(),
        });
        let connection = http.serve_connection(TokioIo::new(connection), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a webhook connection broke");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}

/// Tells the router who connected.
#[derive(Clone, Debug)]
struct WithPeer {
    peer: Peer,
    router: Router,
}

impl tower_service::Service<Request<Incoming>> for WithPeer {
    type Response = axum::response::Response;
    type Error = std::convert::Infallible;
    type Future = axum::routing::future::RouteFuture<Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        tower_service::Service::<Request<Incoming>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer.clone());
        tower_service::Service::call(&mut self.router, request)
    }
}
