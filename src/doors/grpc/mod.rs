//! The consumers' side: `EventService` over gRPC, internal.
//!
//! This module speaks gRPC and nothing else: [`crate::api`] answers requests, its problems
//! become statuses, and its frames go out as they are.
//! A [`Guard`] asks who calls before anything of a request is read.
//! Health and reflection stand beside the service, so that `grpcurl` works with
//! nothing but an address.

mod auth;
mod body;
mod calls;
mod flood;
mod front;
mod metrics;
mod refusal;
mod server;
mod service;
mod status;
mod subscribe;

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic_health::ServingStatus;

use crate::access::Guard;
use crate::api::Api;
use crate::net::{Limits, Listener};
use crate::proto;
use calls::{Calls, ConnectionCalls, REQUEST_BYTES_MAX, ServiceFn};
use front::Front;
use refusal::Refusals;
use subscribe::EventRoutes;

pub use metrics::Metrics;

/// HTTP/2's preface, which each client sends at once (RFC 9113, section 3.4). A request
/// over HTTP/1.1 is no shorter.
const PREFACE_BYTES: usize = 24;
/// Of a question about health or by reflection, which anybody may ask: a name.
const QUESTION_BYTES_MAX: usize = 4 << 10;

/// What is bounded on the gRPC port, where this many connections may be open at once. How
/// slowly one reads is not: it is gone when it does not answer keepalives.
#[must_use]
pub fn limits(connections_max: usize) -> Limits {
    Limits {
        connections_max,
        opening_bytes: PREFACE_BYTES,
        write_timeout: None,
    }
}

/// What to serve, and to whom.
#[derive(Clone, Debug)]
pub struct Services {
    /// What answers `EventService`, whose callers are always authenticated.
    pub api: Api,
    /// What admits callers.
    pub guard: Guard,
    /// What is counted.
    pub metrics: Metrics,
    /// Who may call `grpc.health.v1`.
    pub health: Exposure,
    /// Who may ask for reflection.
    pub reflection: Exposure,
}

/// Who may call a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exposure {
    /// Every caller that can connect.
    #[default]
    Public,
    /// Callers that the guard admits.
    Authenticated,
}

/// Serves until `drain` is cancelled and every stream has ended.
///
/// # Errors
/// When the reflection data is malformed or the listener fails.
pub async fn serve(
    listener: Listener,
    services: Services,
    drain: CancellationToken,
) -> Result<(), Error> {
    let Services {
        api,
        guard,
        metrics,
        health: health_exposure,
        reflection: reflection_exposure,
    } = services;
    let (health, health_service) = tonic_health::server::health_reporter();
    for name in ["", proto::service::EVENT_SERVICE] {
        health
            .set_service_status(name, ServingStatus::Serving)
            .await;
    }
    let error_details = canonical(tonic_types::pb::FILE_DESCRIPTOR_SET, "google/rpc/")?;
    let health_files = canonical(tonic_health::pb::FILE_DESCRIPTOR_SET, "grpc/health/v1/")?;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
            .register_file_descriptor_set(error_details.clone())
            .register_file_descriptor_set(health_files.clone())
    };
    let calls = Calls::new(api.clone(), metrics.clone(), drain.clone());
    let v1 = reflection().build_v1()?;
    let v1alpha = reflection().build_v1alpha()?;
    let dispatch = Dispatch {
        front: Front {
            guard,
            calls: calls.clone(),
            refusals: Refusals::new(metrics),
        },
        services: [
            service(
                Exposure::Authenticated,
                REQUEST_BYTES_MAX,
                EventRoutes::new(api),
            ),
            service(
                health_exposure,
                QUESTION_BYTES_MAX,
                health_service.max_decoding_message_size(QUESTION_BYTES_MAX),
            ),
            service(
                reflection_exposure,
                QUESTION_BYTES_MAX,
                v1.max_decoding_message_size(QUESTION_BYTES_MAX),
            ),
            service(
                reflection_exposure,
                QUESTION_BYTES_MAX,
                v1alpha.max_decoding_message_size(QUESTION_BYTES_MAX),
            ),
        ]
        .into(),
    };
    let not_serving = {
        let drain = drain.clone();
        async move {
            drain.cancelled().await;
            for name in ["", proto::service::EVENT_SERVICE] {
                health
                    .set_service_status(name, ServingStatus::NotServing)
                    .await;
            }
        }
    };
    let serving = server::serve(listener, dispatch, calls, drain);
    futures_util::future::join(serving, not_serving).await;
    Ok(())
}

/// The services, each with its exposure.
#[derive(Clone)]
struct Dispatch {
    front: Front,
    services: Arc<[Service]>,
}

#[derive(Clone)]
struct Service {
    name: &'static str,
    exposure: Exposure,
    /// Of a request's message.
    message_bytes_max: usize,
    answer: Arc<ServiceFn>,
}

fn service<S>(exposure: Exposure, message_bytes_max: usize, service: S) -> Service
where
    S: tower_service::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    Service {
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

impl Dispatch {
    /// Has the service that the path names answer.
    fn call(
        &self,
        request: Request<Body>,
        connection: &ConnectionCalls,
    ) -> BoxFuture<'static, Response<Body>> {
        let path = request.uri().path();
        let name = path.trim_start_matches('/').split('/').next();
        let found = self.services.iter().find(|it| name == Some(it.name));
        match found {
            Some(service) => self.front.serve(service, request, connection),
            None => Box::pin(std::future::ready(self.front.refuse_unknown(&request))),
        }
    }
}

/// The crates name their files without a directory; clients ask for them by the path
/// that they have everywhere else.
fn canonical(encoded: &[u8], directory: &str) -> Result<FileDescriptorSet, Error> {
    let mut files = FileDescriptorSet::decode(encoded)?;
    let rename = |name: &mut String| {
        if !name.contains('/') {
            name.insert_str(0, directory);
        }
    };
    for file in &mut files.file {
        file.name.iter_mut().for_each(rename);
        file.dependency.iter_mut().for_each(rename);
    }
    Ok(files)
}

/// Why the gRPC side cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The descriptors that reflection serves are malformed.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// So are those that come with a crate.
    #[error("reflection: {0}")]
    Descriptors(#[from] prost::DecodeError),
}
