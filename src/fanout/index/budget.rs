//! What the filters of open streams occupy.

use std::collections::HashMap;
use std::sync::Arc;

/// Bytes that compiled filters may occupy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Those of one principal's streams.
    pub(crate) principal_bytes: usize,
    /// Those of all streams.
    pub(crate) all_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            principal_bytes: 64 << 20,
            all_bytes: 256 << 20,
        }
    }
}

/// A filter would exceed this many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    pub(crate) limit: usize,
}

/// Counts each filter once for the gateway, and once for each principal that has streams
/// with it.
#[derive(Debug, Default)]
pub(super) struct Budget {
    limits: Limits,
    all_bytes: usize,
    principals: HashMap<Arc<str>, Principal>,
}

#[derive(Debug, Default)]
struct Principal {
    bytes: usize,
    /// How many of its streams have the filter of a group.
    streams: HashMap<u64, usize>,
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    pub(super) fn all_bytes(&self) -> usize {
        self.all_bytes
    }

    /// Counts the filter of a principal's new stream, of this many bytes. Returns the
    /// principal's name, shared.
    pub(super) fn take(
        &mut self,
        principal: &str,
        group: u64,
        bytes: usize,
        is_new_group: bool,
    ) -> Result<Arc<str>, TooLarge> {
        let Limits {
            principal_bytes,
            all_bytes,
        } = self.limits;
        if is_new_group && self.all_bytes + bytes > all_bytes {
            return Err(TooLarge { limit: all_bytes });
        }
        let known = self.principals.get(principal);
        let has_it = known.is_some_and(|known| known.streams.contains_key(&group));
        let occupied = known.map_or(0, |known| known.bytes);
        if !has_it && occupied + bytes > principal_bytes {
            return Err(TooLarge {
                limit: principal_bytes,
            });
        }
        if is_new_group {
            self.all_bytes += bytes;
        }
        let name = match self.principals.get_key_value(principal) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(principal),
        };
        let known = self.principals.entry(Arc::clone(&name)).or_default();
        if !has_it {
            known.bytes += bytes;
        }
        *known.streams.entry(group).or_default() += 1;
        Ok(name)
    }

    /// Gives back what a stream took.
    pub(super) fn release(
        &mut self,
        principal: &str,
        group: u64,
        bytes: usize,
        is_group_gone: bool,
    ) {
        if is_group_gone {
            self.all_bytes -= bytes;
        }
        let Some(known) = self.principals.get_mut(principal) else {
            return;
        };
        if let Some(streams) = known.streams.get_mut(&group) {
            *streams -= 1;
            if *streams == 0 {
                known.streams.remove(&group);
                known.bytes -= bytes;
            }
        }
        if known.streams.is_empty() {
            self.principals.remove(principal);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all_bytes == 0 && self.principals.is_empty()
    }
}
