//! The subscribers' port: `EventService` and `SubscriptionService` over gRPC, for services within
//! the network.
//!
//! This module speaks gRPC and nothing else: [`crate::api`] answers requests, its problems
//! become statuses, and its frames go out as they are.
//! A [`Guard`] authenticates the caller before any message of a request is read.
//! Health and reflection stand beside the services, so that `grpcurl` works with
//! nothing but an address.

mod auth;
mod body;
mod calls;
mod code;
mod dispatch;
mod exposure;
mod flood;
mod framed;
mod front;
mod metrics;
mod path;
mod receive;
mod refusal;
mod server;
mod service;
mod status;
mod subscribe;
mod subscriptions;
mod traced;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::access::Guard;
use crate::api::Api;
use crate::net::{Limits, Listener};
use crate::proto;
use crate::telemetry::traces::Traces;
use calls::{Calls, REQUEST_BYTES_MAX};
use dispatch::Dispatch;
use exposure::expose;
use front::Front;
use refusal::Refusals;

pub use exposure::Exposure;
pub use metrics::Metrics;

/// HTTP/2's preface, which each client sends at once (RFC 9113, section 3.4). A request
/// over HTTP/1.1 is at least as long.
const PREFACE_BYTES: usize = 24;
/// Maximum size of a question about health or by reflection, which any caller may ask: a name.
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

/// The services, and the callers that may use them.
#[derive(Clone, Debug)]
pub struct Services {
    /// What answers the two services, whose callers are always authenticated.
    pub api: Api,
    /// What admits callers.
    pub guard: Guard,
    /// What is counted.
    pub metrics: Metrics,
    /// Where the traces of calls go.
    pub traces: Traces,
    /// Who may call `grpc.health.v1`.
    pub health: Exposure,
    /// Who may ask for reflection.
    pub reflection: Exposure,
}

/// Serves until `drain` is cancelled, workers have said what became of what they were sent, and
/// every stream has ended. Streams end with the drain.
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
        traces,
        health: health_exposure,
        reflection: reflection_exposure,
    } = services;
    let (health, health_service) = tonic_health::server::health_reporter();
    report(&health, ServingStatus::Serving).await;
    let v1 = reflection()?.build_v1()?;
    let v1alpha = reflection()?.build_v1alpha()?;
    let calls = Calls::new(api.clone(), metrics.clone(), drain.clone());
    let dispatch = Dispatch {
        front: Front {
            guard,
            calls: calls.clone(),
            refusals: Refusals::new(metrics),
            traces,
        },
        services: [
            expose(
                Exposure::Authenticated,
                REQUEST_BYTES_MAX,
                subscribe::routes(api.clone()),
            ),
            expose(
                Exposure::Authenticated,
                REQUEST_BYTES_MAX,
                receive::routes(api.clone()),
            ),
            expose(
                health_exposure,
                QUESTION_BYTES_MAX,
                health_service.max_decoding_message_size(QUESTION_BYTES_MAX),
            ),
            expose(
                reflection_exposure,
                QUESTION_BYTES_MAX,
                v1.max_decoding_message_size(QUESTION_BYTES_MAX),
            ),
            expose(
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
            report(&health, ServingStatus::NotServing).await;
        }
    };
    let settled = {
        let drain = drain.clone();
        async move {
            drain.cancelled().await;
            api.settled().await;
        }
    };
    let serving = server::serve(listener, dispatch, calls, drain, settled);
    futures_util::future::join(serving, not_serving).await;
    Ok(())
}

/// Reports the health of the whole server, and of the services.
async fn report(health: &HealthReporter, status: ServingStatus) {
    let services = [
        proto::service::EVENT_SERVICE,
        proto::service::SUBSCRIPTION_SERVICE,
    ];
    for name in std::iter::once("").chain(services) {
        health.set_service_status(name, status).await;
    }
}

/// What reflection serves: the gateway's own files, health's, and those of error details.
fn reflection() -> Result<tonic_reflection::server::Builder<'static>, Error> {
    let error_details = canonical(tonic_types::pb::FILE_DESCRIPTOR_SET, "google/rpc/")?;
    let health_files = canonical(tonic_health::pb::FILE_DESCRIPTOR_SET, "grpc/health/v1/")?;
    Ok(tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTOR_SET)
        .register_file_descriptor_set(error_details)
        .register_file_descriptor_set(health_files))
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
