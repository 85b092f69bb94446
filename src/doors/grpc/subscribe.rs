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
use super::calls::REQUEST_BYTES_MAX;
use super::guard::{peer, principal_of};
use super::service::Service;
use super::{request, status};
use crate::api;
use crate::fanout::{Delivery, Error, Fanout, Frame, Subscriber};
use crate::proto;
use crate::proto::method::event_service;
use crate::proto::server::event_service_server::EventServiceServer;

/// All of `EventService`.
#[derive(Clone, Debug)]
pub(super) struct EventRoutes {
    fanout: Fanout,
    unary: EventServiceServer<Service>,
}

impl EventRoutes {
    /// The service for `fanout`'s log.
    pub(super) fn new(fanout: Fanout) -> Self {
        Self {
            unary: EventServiceServer::new(Service::new(fanout.clone()))
                .max_decoding_message_size(REQUEST_BYTES_MAX),
            fanout,
        }
    }
}

impl NamedService for EventRoutes {
    const NAME: &'static str = proto::service::EVENT_SERVICE;
}

impl tower_service::Service<Request<Body>> for EventRoutes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        tower_service::Service::<Request<Body>>::poll_ready(&mut self.unary, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != event_service::SUBSCRIBE {
            return Box::pin(self.unary.call(request));
        }
        let fanout = self.fanout.clone();
        Box::pin(async move {
            let opened = open(&fanout, request).await;
            Ok(opened.unwrap_or_else(Status::into_http))
        })
    }
}

async fn open(fanout: &Fanout, request: Request<Body>) -> Result<Response<Body>, Status> {
    let peer = peer(request.extensions());
    let principal = principal_of(request.extensions())?;
    let decoder = ProstDecoder::<proto::SubscribeRequest>::default();
    let body = request.into_body();
    let mut messages = Streaming::new_request(decoder, body, None, Some(REQUEST_BYTES_MAX));
    let message = messages.message().await?;
    let message = message.ok_or_else(status::no_message)?;
    let known = fanout.known_names();
    let request = request::subscribe(message, &known, principal.clone(), peer);
    let request = request.map_err(status::refused)?;
    let crowd_of = fanout.clone();
    let to_status = move |error| status::from_fanout(&error, crowd_of.crowd(&error, &principal));
    let subscriber = fanout.subscribe(request).await.map_err(&to_status)?;
    Ok(respond(subscriber, to_status))
}

/// A delivery as it goes over the wire.
fn frames(delivery: Delivery) -> Vec<Frame> {
    match delivery {
        Delivery::Events(frames) => frames,
        Delivery::Control(cursor, control) => {
            vec![Frame::message(&api::control::message(cursor, control))]
        }
    }
}

/// Pulled by the connection: frames are asked for when HTTP/2 has room for it.
fn respond(
    subscriber: Subscriber,
    to_status: impl Fn(Error) -> Status + Send + 'static,
) -> Response<Body> {
    let frames = stream::unfold((subscriber, to_status), |mut state| async move {
        let (subscriber, to_status) = &mut state;
        let frames = subscriber.next().await?.map(frames).map_err(to_status);
        Some((frames, state))
    });
    let mut response = Response::new(Body::new(FrameBody::new(Box::pin(frames))));
    let content_type = tonic::metadata::GRPC_CONTENT_TYPE;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}
