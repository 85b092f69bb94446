//! `Subscribe`, which answers with a body of its own, beside the generated unary calls.

use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;

use super::calls::REQUEST_BYTES_MAX;
use super::framed::Routes;
use super::service::Service;
use super::{auth, framed, status};
use crate::api::{Api, Delivery, EventStream, Frame, control};
use crate::proto;
use crate::proto::method::event_service;
use crate::proto::server::event_service_server::EventServiceServer;

/// All of `EventService`, answered by `api`.
pub(super) fn routes(api: Api) -> Routes<EventServiceServer<Service>> {
    Routes {
        unary: EventServiceServer::new(Service::new(api.clone()))
            .max_decoding_message_size(REQUEST_BYTES_MAX),
        api,
        path: event_service::SUBSCRIBE,
        open,
    }
}

fn open(api: Api, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>> {
    Box::pin(async move {
        let call = auth::call(request.extensions())?;
        let asked: proto::SubscribeRequest = framed::request(request).await?;
        let events = api.subscribe(&call, asked).await;
        events.map(respond).map_err(status::render)
    })
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
