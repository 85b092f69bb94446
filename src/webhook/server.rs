//! The webhook port: HTTP/1.1.

use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;

use crate::net::{Limits, Listener, http};

/// A larger head is answered 431.
const HEAD_BYTES_MAX: u32 = 32 << 10;
/// Also for a connection that is kept open between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers are short: only a sender that reads none of many is so slow.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

const BOUNDS: http::Bounds = http::Bounds {
    head_bytes_max: HEAD_BYTES_MAX,
    head_timeout: HEAD_TIMEOUT,
    http2: None,
};

/// Bounds of the webhook port, with at most this many connections open at once.
#[must_use]
pub fn limits(connections_max: usize) -> Limits {
    Limits {
        connections_max,
        opening_bytes: 1,
        write_timeout: Some(WRITE_TIMEOUT),
    }
}

/// Serves until `drain` is cancelled and every request in flight is answered.
pub async fn serve(listener: Listener, router: Router, drain: CancellationToken) {
    http::serve(listener, router, BOUNDS, drain).await;
}
