//! `Subscribe`, which answers with a body of its own, beside the generated unary calls.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::Streaming;
use tonic::codegen::http::{Request, Response, header};
use tonic::server::NamedService;
use tonic_prost::ProstDecoder;

use super::body::FrameBody;
use super::guard::{peer, principal_of};
use super::held::Held;
use super::service::Service;
use super::{request, status};
use crate::fanout::{Fanout, Subscription};
use crate::proto;
use crate::proto::server::event_service_server::EventServiceServer;

const SUBSCRIBE_PATH: &str = "/clerkcast.v1.EventService/Subscribe";
/// A filter may name thousands of ids.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// All of `EventService`.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    fanout: Fanout,
    unary: EventServiceServer<Service>,
}

impl Routes {
    /// The service for `fanout`'s log.
    pub(super) fn new(fanout: Fanout) -> Self {
        Self {
            unary: EventServiceServer::new(Service::new(fanout.clone()))
                .max_decoding_message_size(REQUEST_BYTES_MAX),
            fanout,
        }
    }
}

impl NamedService for Routes {
    const NAME: &'static str = proto::EVENT_SERVICE;
}

impl tower_service::Service<Request<Body>> for Routes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        tower_service::Service::<Request<Body>>::poll_ready(&mut self.unary, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != SUBSCRIBE_PATH {
            let caller = principal_of(request.extensions());
            let answering = self.unary.call(request);
            return Box::pin(async move {
                let Ok(caller) = caller else {
                    return answering.await;
                };
                let permit = caller.call_permit().await;
                let answer = answering.await?;
                Ok(answer.map(|body| Body::new(Held::new(body, permit))))
            });
        }
        let fanout = self.fanout.clone();
        Box::pin(async move {
            Ok(match open(&fanout, request).await {
                Ok(subscription) => respond(subscription),
                Err(status) => status.into_http(),
            })
        })
    }
}

async fn open(fanout: &Fanout, request: Request<Body>) -> Result<Subscription, Status> {
    let peer = peer(request.extensions());
    let principal = principal_of(request.extensions())?;
    let decoder = ProstDecoder::<proto::SubscribeRequest>::default();
    let body = request.into_body();
    let mut messages = Streaming::new_request(decoder, body, None, Some(REQUEST_BYTES_MAX));
    let message = messages.message().await?;
    let message = message.ok_or_else(|| Status::internal("the request holds no message"))?;
    let known = fanout.known_names();
    let request = request::subscribe(message, &known, principal, peer);
    let request = request.map_err(status::refused)?;
    let opened = fanout.subscribe(request).await;
    opened.map_err(|error| status::from_fanout(&error))
}

/// Pulled by the connection: frames are asked for when HTTP/2 has room for it.
fn respond(subscription: Subscription) -> Response<Body> {
    let frames = stream::unfold(subscription, |mut subscription| async move {
        let frames = subscription.next().await?;
        let frames = frames.map_err(|error| status::from_fanout(&error));
        Some((frames, subscription))
    });
    let mut response = Response::new(Body::new(FrameBody::new(Box::pin(frames))));
    let content_type = tonic::metadata::GRPC_CONTENT_TYPE;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}
