//! Removes the markers of deleted cells. Each is removed by its own sequence, so a value that has
//! replaced it is never touched. Every gateway tries to; the first does.

use std::sync::Arc;
use std::time::{Duration, Instant};

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
        let stream = shared
            .context
            .get_stream_no_info(&bucket.stream)
            .await
            .map_err(|error| error.to_string())?;
        match stream.delete_message(sequence).await {
            Ok(_) => {}
            // A value has replaced it, or another gateway has removed it.
            Err(error) if matches!(error.kind(), DeleteMessageErrorKind::JetStream(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}
