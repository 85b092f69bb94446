//! The HTTP server of every port, with bounds on the heads of requests.
//!
//! A server without such bounds keeps a connection that never completes its head, which
//! would hold up every graceful stop as well.

use std::convert::Infallible;
use std::error::Error;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::Body;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::connection::Peer;
use super::listener::Listener;
use crate::event::numbers::saturating;

/// What a port bounds on each of its connections.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// A larger head of a request is refused: with 431 over HTTP/1.1, where at least 8 KiB are
    /// allowed.
    pub head_bytes_max: u32,
    /// For a head over HTTP/1.1 to arrive, also on a connection that is kept open between
    /// requests.
    pub head_timeout: Duration,
    /// What a port bounds that speaks HTTP/2 as well. It keeps no connection of HTTP/1.1 open
    /// between requests.
    pub http2: Option<Http2Bounds>,
}

/// What a port bounds on each of its connections of HTTP/2.
#[derive(Clone, Copy, Debug)]
pub struct Http2Bounds {
    /// Requests at once.
    pub streams_max: u32,
    /// A connection that is silent for this long is asked whether it is alive …
    pub keepalive_interval: Duration,
    /// … and dropped when it does not answer within this time.
    pub keepalive_timeout: Duration,
}

/// Serves until `drain` is cancelled and every request in flight is answered. The [`Peer`] is
/// among the extensions of each request.
pub async fn serve<S, B>(
    mut listener: Listener,
    service: S,
    bounds: Bounds,
    drain: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let server = server(bounds, TokioExecutor::new());
    let connections = GracefulShutdown::new();
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = drain.cancelled() => break,
        };
        let service = TowerToHyperService::new(WithPeer {
            peer: connection.peer().clone(),
            service: service.clone(),
        });
        let serving = connections.watch(
            server
                .serve_connection(TokioIo::new(connection), service)
                .into_owned(),
        );
        let port = listener.port();
        #[expect(
            clippy::disallowed_methods,
            reason = "`connections` waits for each at the end"
        )]
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::debug!(port, %error, "a connection broke");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}

/// What serves the connections of a port one by one, for a port that gives each connection an
/// executor of its own.
#[must_use]
pub fn server<E>(bounds: Bounds, executor: E) -> auto::Builder<E> {
    let head_bytes_max = saturating(bounds.head_bytes_max);
    let mut server = auto::Builder::new(executor);
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_timeout)
        .max_buf_size(head_bytes_max)
        .keep_alive(bounds.http2.is_none());
    let Some(http2) = bounds.http2 else {
        return server.http1_only();
    };
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(http2.streams_max)
        .max_header_list_size(bounds.head_bytes_max)
        .keep_alive_interval(http2.keepalive_interval)
        .keep_alive_timeout(http2.keepalive_timeout);
    server
}

/// Hands requests on with the peer who sent them.
#[derive(Clone, Debug)]
struct WithPeer<S> {
    peer: Peer,
    service: S,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for WithPeer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.service.call(request)
    }
}
