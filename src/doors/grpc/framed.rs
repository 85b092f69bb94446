//! Calls whose answer is a stream of frames, beside the generated unary calls of their service.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::future::BoxFuture;
use http::{Request, Response, header};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::Streaming;
use tonic::server::NamedService;
use tonic_prost::ProstDecoder;

use super::body::FrameBody;
use super::calls::REQUEST_BYTES_MAX;
use super::status;
use crate::api::{Api, Frame, Problem};

/// Opens the stream that a request asks for.
pub(super) type Open = fn(Api, Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>>;

/// All calls of a service of which one is answered with a stream of frames.
#[derive(Clone, Debug)]
pub(super) struct Routes<U> {
    pub(super) api: Api,
    pub(super) unary: U,
    /// Of the call that is answered with a stream.
    pub(super) path: &'static str,
    pub(super) open: Open,
}

impl<U: NamedService> NamedService for Routes<U> {
    const NAME: &'static str = U::NAME;
}

impl<U> tower_service::Service<Request<Body>> for Routes<U>
where
    U: tower_service::Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future = BoxFuture<'static, Result<Response<Body>, Infallible>>,
        >,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.unary.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != self.path {
            return self.unary.call(request);
        }
        let opening = (self.open)(self.api.clone(), request);
        Box::pin(async move {
            let opened = opening.await;
            Ok(opened.unwrap_or_else(Status::into_http))
        })
    }
}

/// The message of a request.
pub(super) async fn request<M>(request: Request<Body>) -> Result<M, Status>
where
    M: prost::Message + Default + 'static,
{
    let decoder = ProstDecoder::<M>::default();
    let body = request.into_body();
    let mut messages = Streaming::new_request(decoder, body, None, Some(REQUEST_BYTES_MAX));
    let message = messages.message().await?;
    message.ok_or_else(|| status::render(Problem::no_message()))
}

/// The response whose body these frames are.
pub(super) fn response<S>(batches: S) -> Response<Body>
where
    S: Stream<Item = Result<Vec<Frame>, Status>> + Send + 'static,
{
    let mut response = Response::new(Body::new(FrameBody::new(Box::pin(batches))));
    let content_type = tonic::metadata::GRPC_CONTENT_TYPE;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}
