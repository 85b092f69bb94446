//! Removes the markers of deleted cells. Each is removed by its own sequence, so a value that has
//! replaced it is never touched. Every gateway tries to; the first does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::DeleteMessageErrorKind;
use tokio::time::sleep;

use super::super::shared::Shared;

/// Interval between two looks for markers that are due.
const INTERVAL: Duration = Duration::from_secs(1);
/// Delay after a marker that could not be removed.
const RETRY_DELAY: Duration = Duration::from_secs(60);

/// Removes markers that are due, until the log is closed.
pub(in super::super) async fn run(shared: Arc<Shared>) {
    let removing = async {
        loop {
            sleep(INTERVAL).await;
            if let Err(reason) = remove_due(&shared).await {
                tracing::debug!(%reason, "a marker of a deleted cell could not be removed");
                sleep(RETRY_DELAY).await;
            }
        }
    };
    tokio::select! {
        () = removing => {}
        () = shared.closed.cancelled() => {}
    }
}

async fn remove_due(shared: &Shared) -> Result<(), String> {
    let Some(bucket) = &shared.bucket else {
        return Ok(());
    };
    let kept_for = shared.config.markers_kept_for;
    let take_due = || bucket.markers.lock().take_due(Instant::now(), kept_for);
    while let Some(sequence) = take_due() {
        // It is due again after as long as a new one.
        let put_off = |reason| {
            bucket.markers.lock().note(sequence, Instant::now());
            Err(reason)
        };
        let stream = match shared.context.get_stream_no_info(&bucket.stream).await {
            Ok(stream) => stream,
            Err(error) => return put_off(error.to_string()),
        };
        match stream.delete_message(sequence).await {
            Ok(_) => {}
            Err(error) if is_gone(&error.kind()) => {}
            Err(error) => return put_off(error.to_string()),
        }
    }
    Ok(())
}

/// Whether a value has replaced the marker, or another gateway has removed it.
fn is_gone(kind: &DeleteMessageErrorKind) -> bool {
    let codes = [
        ErrorCode::SEQUENCE_NOT_FOUND,
        ErrorCode::STREAM_MESSAGE_DELETE_FAILED,
    ];
    matches!(kind, DeleteMessageErrorKind::JetStream(error) if codes.contains(&error.error_code()))
}
