//! Calls whose answer is a stream of frames.

use futures_util::Stream;
use http::{Request, Response, header};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::Streaming;
use tonic_prost::ProstDecoder;

use super::body::FrameBody;
use super::calls::REQUEST_BYTES_MAX;
use super::status;
use crate::api::{Frame, Problem};

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
