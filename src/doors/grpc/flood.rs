//! Control frames that come without end while nothing is asked for.
//!
//! A PING or a SETTINGS frame must be answered, so a connection that sends nothing else
//! costs what answering costs. With a call open they are left alone: some clients ping once
//! for each round trip.

use std::time::{Duration, Instant};

use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;

use super::calls::ConnectionCalls;
use crate::net::Connection;

/// PING and SETTINGS frames of one connection within [`WINDOW`], without a call.
const FRAMES_MAX: u32 = 1000;
const WINDOW: Duration = Duration::from_secs(10);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_BYTES: usize = 9;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// Counts control frames in what a connection sends. Pure: `now` is an argument.
#[derive(Debug)]
struct Counter {
    /// Bytes to pass over: the preface at first, then payloads.
    skip: usize,
    header: Vec<u8>,
    window: Option<Instant>,
    frames: u32,
}

impl Counter {
    fn new() -> Self {
        Self {
            skip: PREFACE.len(),
            header: Vec::with_capacity(HEADER_BYTES),
            window: None,
            frames: 0,
        }
    }

    /// Returns whether there are too many.
    fn count(&mut self, mut read: &[u8], has_calls: bool, now: Instant) -> bool {
        if has_calls || self.window.is_none_or(|began| now - began >= WINDOW) {
            self.window = Some(now);
            self.frames = 0;
        }
        while !read.is_empty() {
            let skipped = self.skip.min(read.len());
            self.skip -= skipped;
            (_, read) = read.split_at(skipped);
            let missing = (HEADER_BYTES - self.header.len()).min(read.len());
            let (header, rest) = read.split_at(missing);
            self.header.extend_from_slice(header);
            read = rest;
            if let [a, b, c, kind, ..] = self.header[..]
                && self.header.len() == HEADER_BYTES
            {
                self.skip = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(0);
                self.frames += u32::from(!has_calls && matches!(kind, SETTINGS | PING));
                self.header.clear();
            }
        }
        self.frames > FRAMES_MAX
    }
}

/// A connection whose control frames are counted; `flooded` is cancelled when there are too
/// many.
pub(super) fn watch(
    connection: Connection,
    calls: ConnectionCalls,
    flooded: CancellationToken,
) -> InspectReader<Connection, impl FnMut(&[u8])> {
    let mut counter = Counter::new();
    InspectReader::new(connection, move |read: &[u8]| {
        if counter.count(read, calls.has_calls(), Instant::now()) {
            flooded.cancel();
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).expect("short").to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, 0, 0, 0, 0, 0];
        frame.resize(HEADER_BYTES + payload, PING);
        frame
    }

    proptest! {
        /// However the bytes are cut, the frames in them are what is counted.
        #[test]
        fn control_frames_are_counted_wherever_reads_end(
            frames in prop::collection::vec((0_u8..10, 0_usize..40), 0..50),
            cuts in prop::collection::vec(1_usize..60, 1..20),
        ) {
            let mut bytes = PREFACE.to_vec();
            for (kind, payload) in &frames {
                bytes.extend(frame(*kind, *payload));
            }
            let mut counter = Counter::new();
            let now = Instant::now();
            let mut cuts = cuts.iter().cycle();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (read, left) = rest.split_at((*cuts.next().expect("endless")).min(rest.len()));
                counter.count(read, false, now);
                rest = left;
            }
            let control = frames.iter().filter(|(kind, _)| [SETTINGS, PING].contains(kind));
            prop_assert_eq!(counter.frames as usize, control.count());
        }
    }

    #[test]
    fn control_frames_are_a_flood_only_within_the_window_and_without_a_call() {
        let pings = frame(PING, 8).repeat(600);
        let began = Instant::now();
        let floods = |steps: &[(u64, bool)]| {
            let mut counter = Counter::new();
            counter.count(PREFACE, false, began);
            let mut steps = steps.iter();
            steps.any(|(after_s, has_calls)| {
                let now = began + Duration::from_secs(*after_s);
                counter.count(&pings, *has_calls, now)
            })
        };
        assert!(floods(&[(0, false), (9, false)]));
        assert!(!floods(&[(0, false), (11, false), (22, false)]));
        assert!(!floods(&[(0, true), (1, true), (2, true)]));
        assert!(!floods(&[(0, false), (1, true), (2, false)]));
    }
}
