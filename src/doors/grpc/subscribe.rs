//! `Subscribe`, which answers with a body of its own, beside the generated unary calls.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;

use super::calls::REQUEST_BYTES_MAX;
use super::service::Service;
use super::{auth, framed, status};
use crate::api::{Api, Delivery, EventStream, Frame, control};
use crate::proto;
use crate::proto::method::event_service;
use crate::proto::server::event_service_server::EventServiceServer;

/// All of `EventService`.
#[derive(Clone, Debug)]
pub(super) struct EventRoutes {
    api: Api,
    unary: EventServiceServer<Service>,
}

impl EventRoutes {
    /// All calls, answered by `api`.
    pub(super) fn new(api: Api) -> Self {
        Self {
            unary: EventServiceServer::new(Service::new(api.clone()))
                .max_decoding_message_size(REQUEST_BYTES_MAX),
            api,
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
        let api = self.api.clone();
        Box::pin(async move {
            let opened = open(&api, request).await;
            Ok(opened.unwrap_or_else(Status::into_http))
        })
    }
}

async fn open(api: &Api, request: Request<Body>) -> Result<Response<Body>, Status> {
    let call = auth::call(request.extensions())?;
    let asked: proto::SubscribeRequest = framed::request(request).await?;
    let events = api.subscribe(&call, asked).await;
    events.map(respond).map_err(status::render)
}

/// A delivery as it goes over the wire.
fn frames(delivery: Delivery) -> Vec<Frame> {
    match delivery {
        Delivery::Events(frames) => frames,
        Delivery::Control(cursor, control) => {
            vec![Frame::message(&control::message(cursor, control))]
        }
    }
}

/// Pulled by the connection: frames are asked for when HTTP/2 has room for it.
fn respond(events: EventStream) -> Response<Body> {
    framed::response(stream::unfold(events, |mut events| async move {
        let delivery = events.next().await?;
        Some((delivery.map(frames).map_err(status::render), events))
    }))
}
