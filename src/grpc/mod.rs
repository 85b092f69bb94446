//! The consumers' side: `EventService` over gRPC, internal.
//!
//! This module speaks gRPC and nothing else: requests become what [`crate::fanout`]
//! understands, its errors become status codes, and its frames go out as they are.
//! A [`Guard`] asks who calls before anything of a request is read.
//! Health and reflection stand beside the service, so that `grpcurl` works with
//! nothing but an address.

mod body;
mod guard;
mod held;
mod metrics;
mod request;
mod service;
mod status;
mod subscribe;

use std::io;
use std::time::Duration;

use futures_util::stream;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::ServingStatus;

use crate::fanout::Fanout;
use crate::net::{Limits, Listener};
use crate::proto;
use subscribe::Routes;

pub use guard::Guard;
pub use metrics::Metrics;

/// A connection that is silent for so long is asked whether it is alive …
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// … and dropped when it does not answer. Long, since a subscriber that is paused for a
/// minute or two is slow, not gone.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(180);
/// HTTP/2's preface, which each client sends at once (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;
/// Of one connection.
const STREAMS_MAX: u32 = 1024;
/// A larger head of a request is refused.
const HEAD_BYTES_MAX: u32 = 16 << 10;
/// Of a question about health or by reflection, which anybody may ask: a name.
const QUESTION_BYTES_MAX: usize = 4 << 10;
/// For a request to arrive and be looked at; not for the stream that answers it.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What is bounded on the gRPC port, where so many connections may be open at once. A slow
/// reader is not: who does not answer keepalives is gone.
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
    /// What `EventService` is made of; it is always guarded.
    pub fanout: Fanout,
    /// Who recognises callers.
    pub guard: Guard,
    /// Who may ask `grpc.health.v1`.
    pub health: Door,
    /// Who may ask for reflection.
    pub reflection: Door,
}

/// Who may call a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Door {
    /// Everyone who can connect.
    #[default]
    Open,
    /// Whom the guard lets in.
    Guarded,
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
        fanout,
        guard,
        health: health_door,
        reflection: reflection_door,
    } = services;
    let (health, health_service) = tonic_health::server::health_reporter();
    for name in ["", proto::EVENT_SERVICE] {
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
    let v1 = reflection().build_v1()?;
    let v1 = v1.max_decoding_message_size(QUESTION_BYTES_MAX);
    let v1alpha = reflection().build_v1alpha()?;
    let v1alpha = v1alpha.max_decoding_message_size(QUESTION_BYTES_MAX);
    let incoming = stream::unfold(listener, |mut listener| async move {
        let connection = listener.accept().await;
        Some((Ok::<_, io::Error>(connection), listener))
    });
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEAD_BYTES_MAX)
        .timeout(CALL_TIMEOUT)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(guard.at(Door::Guarded, Routes::new(fanout)))
        .add_service(guard.at(
            health_door,
            health_service.max_decoding_message_size(QUESTION_BYTES_MAX),
        ))
        .add_service(guard.at(reflection_door, v1))
        .add_service(guard.at(reflection_door, v1alpha))
        .serve_with_incoming_shutdown(incoming, async move {
            drain.cancelled().await;
            for name in ["", proto::EVENT_SERVICE] {
                health
                    .set_service_status(name, ServingStatus::NotServing)
                    .await;
            }
        })
        .await?;
    Ok(())
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
    /// The server failed.
    #[error("serving gRPC: {0}")]
    Transport(#[from] tonic::transport::Error),
}
