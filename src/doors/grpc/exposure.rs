//! Services, and who may call each of them.

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;

/// Has a service answer a request.
pub(super) type ServiceFn =
    dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync;

/// Who may call a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exposure {
    /// Every caller that can connect.
    #[default]
    Public,
    /// Callers that the guard admits.
    Authenticated,
}

/// A service, and who may call it.
#[derive(Clone)]
pub(super) struct ExposedService {
    pub(super) name: &'static str,
    pub(super) exposure: Exposure,
    /// Of a request's message.
    pub(super) message_bytes_max: usize,
    pub(super) answer: Arc<ServiceFn>,
}

/// Exposes a service.
pub(super) fn expose<S>(exposure: Exposure, message_bytes_max: usize, service: S) -> ExposedService
where
    S: tower_service::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    ExposedService {
        name: S::NAME,
        exposure,
        message_bytes_max,
        answer: Arc::new(move |request| {
            // All of them are ready at any time.
            let answering = service.clone().call(request);
            Box::pin(async {
                let Ok(response) = answering.await;
                response
            })
        }),
    }
}
