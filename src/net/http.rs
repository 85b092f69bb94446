//! The HTTP server of every port, with bounds on the heads of requests.
//!
//! Without such bounds, a connection that never completes its head would stay open, and would
//! delay every graceful stop.

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

/// Bounds on each connection of a port.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Maximum size of a request's head. A larger one is refused; over HTTP/1.1 with 431, and at
    /// least 8 KiB are allowed there.
    pub head_bytes_max: u32,
    /// Maximum time for the head of an HTTP/1.1 request to arrive, also on a connection that is
    /// kept open between requests.
    pub head_timeout: Duration,
    /// Bounds of a port that speaks HTTP/2 as well. Such a port closes an HTTP/1.1 connection
    /// after each request.
    pub http2: Option<Http2Bounds>,
}

/// Bounds on each HTTP/2 connection of a port.
#[derive(Clone, Copy, Debug)]
pub struct Http2Bounds {
    /// Maximum number of requests at once.
    pub streams_max: u32,
    /// The server pings a connection after this long without a frame …
    pub keepalive_interval: Duration,
    /// … and closes it if the answer takes longer than this.
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

/// Builds a server of single connections, for a port that gives each connection an executor of
/// its own.
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

/// Adds the connection's [`Peer`] to each request.
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
