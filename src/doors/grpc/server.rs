//! Connections of the gRPC port: HTTP/2, each with what its calls may hold together.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::calls::{Calls, ConnectionCalls, Executor};
use super::dispatch::Dispatch;
use super::flood;
use crate::net::{Connection, Listener, http};

/// A connection that is silent for this long is asked whether it is alive …
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// … and dropped when it does not answer. Long, since a subscriber that is paused for a
/// minute or two is slow, not gone.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(180);
/// Of one connection.
const STREAMS_MAX: u32 = 1024;
/// A larger head of a request is refused.
const HEAD_BYTES_MAX: u32 = 16 << 10;
/// For the head of a request over HTTP/1.1, which is answered with what to speak instead.
const HTTP1_HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For what is still open once all calls have ended, such as a watch on health, and for a
/// connection that was sent GOAWAY.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);

const BOUNDS: http::Bounds = http::Bounds {
    head_bytes_max: HEAD_BYTES_MAX,
    head_timeout: HTTP1_HEAD_TIMEOUT,
    http2: Some(http::Http2Bounds {
        streams_max: STREAMS_MAX,
        keepalive_interval: KEEPALIVE_INTERVAL,
        keepalive_timeout: KEEPALIVE_TIMEOUT,
    }),
};

/// Serves until `settled` completes, or no connection is left after that began, and every call
/// has ended or been reset. Until then, connections that are new may acknowledge what they were
/// handed before the drain.
pub(super) async fn serve(
    mut listener: Listener,
    dispatch: Dispatch,
    calls: Calls,
    drain: CancellationToken,
    settled: impl Future<Output = ()>,
) {
    let mut settled = pin!(settled);
    let closing = CancellationToken::new();
    let mut connections = JoinSet::new();
    while !(drain.is_cancelled() && connections.is_empty()) {
        tokio::select! {
            connection = listener.accept() => {
                connections.spawn(serve_connection(connection, dispatch.clone(), closing.clone()));
            }
            Some(_ended) = connections.join_next() => {}
            () = drain.cancelled(), if connections.is_empty() => {}
            () = &mut settled => break,
        }
    }
    closing.cancel();
    drop(listener);
    calls.drained().await;
    let ended = async { while connections.join_next().await.is_some() {} };
    let _left = timeout(CLOSE_TIMEOUT, ended).await;
}

async fn serve_connection(connection: Connection, dispatch: Dispatch, closing: CancellationToken) {
    let calls = ConnectionCalls::new();
    let flooded = CancellationToken::new();
    let service = Service {
        peer: connection.peer().clone(),
        calls: calls.clone(),
        dispatch,
    };
    let io = TokioIo::new(flood::watch(connection, calls.clone(), flooded.clone()));
    let executor = Executor {
        connection: calls.clone(),
    };
    let server = http::server(BOUNDS, executor);
    let mut serving = pin!(server.serve_connection(io, service));
    let outcome = tokio::select! {
        outcome = &mut serving => outcome,
        () = calls.closing() => return,
        () = closing.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                outcome = serving => outcome,
                () = calls.closing() => return,
            }
        }
        () = flooded.cancelled() => {
            tracing::debug!("a connection sends control frames and calls nothing; closing it");
            serving.as_mut().graceful_shutdown();
            let Ok(outcome) = timeout(CLOSE_TIMEOUT, serving).await else {
                return;
            };
            outcome
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a gRPC connection broke");
    }
}

/// The services, to one connection.
#[derive(Clone)]
struct Service {
    peer: crate::net::Peer,
    calls: ConnectionCalls,
    dispatch: Dispatch,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if !is_grpc(request.method(), request.version(), request.headers()) {
            return Box::pin(std::future::ready(Ok(unsupported())));
        }
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer.clone());
        let answering = self.dispatch.call(request, &self.calls);
        Box::pin(async { Ok(answering.await) })
    }
}

/// Other methods are not calls. To CONNECT, anything but a refusal would open a tunnel.
fn is_grpc(method: &Method, version: Version, headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    method == Method::POST
        && version == Version::HTTP_2
        && ["application/grpc", "application/grpc+proto"].contains(&media_type)
}

/// In words, since a person reads it.
fn unsupported() -> Response<Body> {
    const TEXT: &str = "this port speaks gRPC over HTTP/2, with content-type application/grpc; \
        try grpcurl, `buf curl --protocol grpc --http2-prior-knowledge`, or `clerkcast tail`. \
        Webhooks go to the other port\n";
    let mut response = Response::new(Body::new(http_body_util::Full::from(TEXT)));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}
