//! The admin port: HTTP/1.1, for few clients.

use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;

use crate::net::{Limits, Listener, http};

const CONNECTIONS_MAX: usize = 64;
/// Maximum size of a head; a larger one is answered 431.
const HEAD_BYTES_MAX: u32 = 16 << 10;
/// Maximum time for a head to arrive, also on a connection that is kept open between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time that a client may read nothing of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

const BOUNDS: http::Bounds = http::Bounds {
    head_bytes_max: HEAD_BYTES_MAX,
    head_timeout: HEAD_TIMEOUT,
    http2: None,
};

/// Bounds of the admin port.
#[must_use]
pub fn limits() -> Limits {
    Limits {
        connections_max: CONNECTIONS_MAX,
        opening_bytes: 1,
        write_timeout: Some(WRITE_TIMEOUT),
    }
}

/// Serves until `drain` is cancelled and every request in flight is answered.
pub async fn serve(listener: Listener, router: Router, drain: CancellationToken) {
    http::serve(listener, router, BOUNDS, drain).await;
}
