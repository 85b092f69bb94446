//! Cells on NATS: a KV bucket beside the log's stream.
//!
//! ```text
//!   cell  dead/crm/00000000000003e8  ►  subject   $KV.CLERKCAST_CELLS.dead.crm.00000000000003e8
//!   its revision                     ►  sequence of the subject's last message
//!   deleted                          ►  the last message is a marker without a value
//! ```
//!
//! A swap publishes one change after the other. Each names the sequence that must be the last of
//! its subject, and the next is sent once the bucket's leader has acknowledged it. So a swap that
//! ends early has stored a prefix of its changes. All reads are answered by that leader.
//!
//! Sequences only grow, so a revision never comes again, also where the marker is removed. A
//! marker stays for a while, because a message that was given up may still arrive: it expects the
//! subject as it was before, and must be refused.
//!
//! The servers' answers mean the following:
//!
//! * **An acknowledgement** is a change on a majority of the replicas.
//! * **A refusal** is a conflict once it is known that another message is the last. It may be the
//!   refused one itself, because servers have stored messages that they refused
//!   (nats-server#7281). A subject with a message on its way is refused too, and that one may be
//!   lost.
//! * **Silence** leaves it open. The message may also be stored after a read that did not show
//!   it, until another change of the cell is stored.

mod list;
mod removal;
mod swap;
mod watch;

use std::sync::Arc;

use async_nats::jetstream::stream::RawMessageErrorKind;
use futures_util::future::BoxFuture;
use tokio::sync::broadcast;

use super::JetStreamLog;
use super::bucket::{Bucket, LastMessage, is_marker};
use super::shared::Shared;
use crate::log::cells::{
    Cell, Cells, Change, Changed, Revision, Swapped, check_name, check_prefix,
};
use crate::log::error::{AppendError, ReadError};

pub(super) use removal::run as remove_markers;
pub(super) use watch::run as watch;

impl Bucket {
    /// Reads the last message of a cell's subject.
    async fn read_last(&self, shared: &Shared, name: &str) -> Result<LastMessage, ReadError> {
        let to_unreachable = |error: &dyn std::fmt::Display| {
            ReadError::Unreachable(format!("the cell `{name}` cannot be read: {error}"))
        };
        shared.check_connection()?;
        let stream = shared
            .context
            .get_stream_no_info(&self.stream)
            .await
            .map_err(|error| to_unreachable(&error))?;
        let asked = stream
            .raw_message_builder()
            .last_by_subject(self.keys.subject(name))
            .send()
            .await;
        match asked {
            Ok(message) => {
                self.note(message.sequence);
                Ok(LastMessage {
                    sequence: message.sequence,
                    value: (!is_marker(&message.headers)).then_some(message.payload),
                })
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => {
                Ok(LastMessage::default())
            }
            Err(error) => Err(to_unreachable(&error)),
        }
    }

    async fn read(&self, shared: &Shared, name: &str) -> Result<Option<Cell>, ReadError> {
        let last = self.read_last(shared, name).await?;
        Ok(last.value.map(|value| Cell {
            name: name.to_owned(),
            revision: Revision::new(last.sequence),
            value,
        }))
    }
}

impl Shared {
    fn bucket(&self) -> Result<&Bucket, ReadError> {
        if self.closed.is_cancelled() {
            return Err(ReadError::Closed);
        }
        self.bucket.as_ref().ok_or_else(|| {
            ReadError::Unreadable("this log was opened to be read, without its cells".to_owned())
        })
    }
}

impl Cells for JetStreamLog {
    fn read(&self, name: &str) -> BoxFuture<'_, Result<Option<Cell>, ReadError>> {
        let name = name.to_owned();
        Box::pin(async move {
            check_name(&name)?;
            self.shared.bucket()?.read(&self.shared, &name).await
        })
    }

    fn list(
        &self,
        prefix: &str,
        after: &str,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<Cell>, ReadError>> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        Box::pin(async move {
            check_prefix(&prefix)?;
            let bucket = self.shared.bucket()?;
            list::list(&self.shared, bucket, &prefix, after, max).await
        })
    }

    fn swap(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<Swapped, AppendError>> {
        let shared = Arc::clone(&self.shared);
        #[expect(
            clippy::disallowed_methods,
            reason = "a swap is decided though its caller goes away; it has a timeout"
        )]
        let swap = tokio::spawn(swap::swap(shared, changes));
        Box::pin(async move {
            swap.await.unwrap_or_else(|error| {
                Err(AppendError::Refusing(format!(
                    "the swap ended early: {error}"
                )))
            })
        })
    }

    fn watch(&self) -> broadcast::Receiver<Changed> {
        match &self.shared.bucket {
            Some(bucket) => bucket.changed.subscribe(),
            None => broadcast::Sender::new(1).subscribe(),
        }
    }
}
