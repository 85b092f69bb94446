//! `Receive`, which answers with a body of its own, beside the generated unary calls.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;

use super::calls::REQUEST_BYTES_MAX;
use super::subscriptions::Service;
use super::{auth, framed, status};
use crate::api::{Api, DeliveryStream};
use crate::proto;
use crate::proto::method::subscription_service;
use crate::proto::server::subscription_service_server::SubscriptionServiceServer;

/// All of `SubscriptionService`.
#[derive(Clone, Debug)]
pub(super) struct SubscriptionRoutes {
    api: Api,
    unary: SubscriptionServiceServer<Service>,
}

impl SubscriptionRoutes {
    /// All calls, answered by `api`.
    pub(super) fn new(api: Api) -> Self {
        Self {
            unary: SubscriptionServiceServer::new(Service::new(api.clone()))
                .max_decoding_message_size(REQUEST_BYTES_MAX),
            api,
        }
    }
}

impl NamedService for SubscriptionRoutes {
    const NAME: &'static str = proto::service::SUBSCRIPTION_SERVICE;
}

impl tower_service::Service<Request<Body>> for SubscriptionRoutes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        tower_service::Service::<Request<Body>>::poll_ready(&mut self.unary, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != subscription_service::RECEIVE {
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
    let asked: proto::ReceiveRequest = framed::request(request).await?;
    let deliveries = api.receive(&call, asked).await;
    deliveries.map(respond).map_err(status::render)
}

/// Pulled by the connection: the next delivery is asked for when HTTP/2 has room for it.
fn respond(deliveries: DeliveryStream) -> Response<Body> {
    framed::response(stream::unfold(deliveries, |mut deliveries| async move {
        let frame = deliveries.next().await?;
        let batch = frame.map(|frame| vec![frame]).map_err(status::render);
        Some((batch, deliveries))
    }))
}
