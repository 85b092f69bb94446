//! Which service answers a request.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;

use super::calls::ConnectionCalls;
use super::exposure::ExposedService;
use super::front::Front;
use super::path::service_of;

/// The services, each with its exposure.
#[derive(Clone)]
pub(super) struct Dispatch {
    pub(super) front: Front,
    pub(super) services: Arc<[ExposedService]>,
}

impl Dispatch {
    /// Has the service that the path names answer.
    pub(super) fn call(
        &self,
        request: Request<Body>,
        connection: &ConnectionCalls,
    ) -> BoxFuture<'static, Response<Body>> {
        let name = service_of(request.uri().path());
        let found = self.services.iter().find(|service| name == service.name);
        match found {
            Some(service) => self.front.serve(service, request, connection),
            None => Box::pin(std::future::ready(self.front.refuse_unknown(&request))),
        }
    }
}
