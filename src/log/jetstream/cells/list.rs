//! Lists cells in the order of their names. The leader reports names in no order and without
//! values, so a page is chosen by name first, and then read.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::super::bucket::Bucket;
use super::super::shared::{Shared, StateError, reaches_majority};
use crate::log::cells::{Cell, LIST_BYTES_MAX};
use crate::log::error::ReadError;

/// Maximum number of names that are remembered while the leader reports them.
const NAMES_MAX: usize = 1_024;
/// Number of cells that are read at once.
const READS_MAX: usize = 8;

/// Reads the cells whose names begin with `prefix` and come after `after`.
pub(super) async fn list(
    shared: &Shared,
    bucket: &Bucket,
    prefix: &str,
    mut after: String,
    max: usize,
) -> Result<Vec<Cell>, ReadError> {
    let mut cells = Vec::new();
    let mut bytes = 0;
    while cells.len() < max {
        // Markers have names too, so there may be fewer cells than names.
        let names = names(shared, bucket, prefix, &after).await?;
        let Some(last) = names.last().cloned() else {
            break;
        };
        let reads = names
            .into_iter()
            .map(async |name| bucket.read(shared, &name).await);
        let mut reads = stream::iter(reads).buffered(READS_MAX.min(max - cells.len()));
        while let Some(read) = reads.try_next().await? {
            let Some(cell) = read else { continue };
            bytes += cell.name.len() + cell.value.len();
            cells.push(cell);
            if cells.len() == max || bytes >= LIST_BYTES_MAX {
                return Ok(cells);
            }
        }
        after = last;
    }
    Ok(cells)
}

/// The first names with `prefix` after `after`. Some are those of cells that were deleted.
async fn names(
    shared: &Shared,
    bucket: &Bucket,
    prefix: &str,
    after: &str,
) -> Result<BTreeSet<String>, ReadError> {
    let to_unreachable = |error: &dyn std::fmt::Display| {
        ReadError::Unreachable(format!("the cells cannot be listed: {error}"))
    };
    shared.check_connection()?;
    let stream = shared
        .context
        .get_stream_no_info(&bucket.stream)
        .await
        .map_err(|error| to_unreachable(&error))?;
    let mut subjects = stream
        .info_with_subjects(bucket.keys.filter(prefix))
        .await
        .map_err(|error| to_unreachable(&error))?;
    // A leader that is cut off may not know of cells that there are.
    if !reaches_majority(&subjects.info) {
        return Err(StateError::Alone.into());
    }
    let mut first = BTreeSet::new();
    while let Some((subject, _)) = subjects
        .try_next()
        .await
        .map_err(|error| to_unreachable(&error))?
    {
        let name = bucket.keys.name(&subject);
        first.extend(name.filter(|name| name.as_str() > after));
        if first.len() > NAMES_MAX {
            first.pop_last();
        }
    }
    Ok(first)
}
