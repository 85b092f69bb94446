//! `Receive`, which answers with a body of its own, beside the generated unary calls.

use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;

use super::calls::REQUEST_BYTES_MAX;
use super::framed::Routes;
use super::subscriptions::Service;
use super::{auth, framed, status};
use crate::api::{Api, DeliveryStream};
use crate::proto;
use crate::proto::method::subscription_service;
use crate::proto::server::subscription_service_server::SubscriptionServiceServer;

/// All of `SubscriptionService`, answered by `api`.
pub(super) fn routes(api: Api) -> Routes<SubscriptionServiceServer<Service>> {
    Routes {
        unary: SubscriptionServiceServer::new(Service::new(api.clone()))
            .max_decoding_message_size(REQUEST_BYTES_MAX),
        api,
        path: subscription_service::RECEIVE,
        open,
    }
}

fn open(api: Api, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>> {
    Box::pin(async move {
        let call = auth::call(request.extensions())?;
        let asked: proto::ReceiveRequest = framed::request(request).await?;
        let deliveries = api.receive(&call, asked).await;
        deliveries.map(respond).map_err(status::render)
    })
}

/// Pulled by the connection: the next delivery is asked for when HTTP/2 has room for it.
fn respond(deliveries: DeliveryStream) -> Response<Body> {
    framed::response(stream::unfold(deliveries, |mut deliveries| async move {
        let frame = deliveries.next().await?;
        let batch = frame.map(|frame| vec![frame]).map_err(status::render);
        Some((batch, deliveries))
    }))
}
