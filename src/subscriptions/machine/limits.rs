//! How much a subscription keeps.

/// What a subscription keeps at most; beyond that it is stalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events that are neither acknowledged nor dead.
    pub pending: usize,
    /// Dead letters.
    pub dead: usize,
    /// Bytes of the bodies of dead letters. The last may exceed it.
    pub dead_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pending: 10_000,
            dead: 10_000,
            dead_bytes: 256 << 20,
        }
    }
}
