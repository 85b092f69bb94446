//! The transactions in a WAL (SQLite, "WAL-mode File Format").

use std::ops::Range;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// Where each transaction of a WAL begins and ends. It must be one that was never begun from
/// its start again, as while a reader outside keeps it.
pub(super) fn transactions(wal: &[u8]) -> Vec<Range<usize>> {
    let number = |offset: usize| {
        let bytes = wal[offset..offset + 4].try_into().expect("4 bytes");
        u32::from_be_bytes(bytes)
    };
    let frame_bytes = FRAME_HEADER_BYTES + number(8) as usize;
    let mut transactions = Vec::new();
    let (mut begin, mut frame) = (HEADER_BYTES, HEADER_BYTES);
    while frame + frame_bytes <= wal.len() {
        let pages_after_commit = number(frame + 4);
        frame += frame_bytes;
        if pages_after_commit > 0 {
            transactions.push(begin..frame);
            begin = frame;
        }
    }
    transactions
}
