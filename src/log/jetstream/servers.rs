//! Chooses the server to connect to: the one whose last attempt is the longest ago.
//!
//! A server that is cut off from the others keeps its clients, and can neither store nor
//! read for them. A client that asks for another connection must not come back to the same
//! server by chance.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::{Event, ReconnectToServer, Server, ServerAddr};
use parking_lot::Mutex;

/// Maximum number of errors that are logged for one connection; they can hold words of a server.
const REPORTED_MAX: usize = 16;

/// The order in which servers are tried, and what is logged about it.
#[derive(Debug, Default)]
pub(super) struct ServerChoice {
    tried: Mutex<Tried>,
    /// Varies the first choice from gateway to gateway.
    hasher: RandomState,
    /// Whether the gateway gives up the connection on purpose, which deserves no warning.
    is_moving: AtomicBool,
    /// The errors that were logged since the last connection was made.
    reported: Mutex<HashSet<String>>,
}

#[derive(Debug, Default)]
struct Tried {
    /// The number of the last attempt to connect to each address.
    last: HashMap<String, u64>,
    attempts: u64,
}

impl ServerChoice {
    /// Chooses among the known servers, and notes the attempt.
    pub(super) fn choose(&self, servers: &[Server]) -> Option<ReconnectToServer> {
        let addresses = servers.iter().map(|server| &server.addr);
        let addr = self.choose_address(addresses)?.clone();
        Some(ReconnectToServer { addr, delay: None })
    }

    fn choose_address<'a>(
        &self,
        addresses: impl Iterator<Item = &'a ServerAddr>,
    ) -> Option<&'a ServerAddr> {
        let name = |address: &ServerAddr| format!("{}:{}", address.host(), address.port());
        let mut tried = self.tried.lock();
        let chosen = addresses.min_by_key(|address| {
            let name = name(address);
            let last = tried.last.get(&name).copied().unwrap_or_default();
            (last, self.hasher.hash_one(&name))
        })?;
        tried.attempts += 1;
        let attempts = tried.attempts;
        tried.last.insert(name(chosen), attempts);
        Some(chosen)
    }

    /// Notes that the gateway is about to change to another server.
    pub(super) fn note_move(&self) {
        self.is_moving.store(true, Ordering::Relaxed);
    }

    /// Reports a change of the connection: one line per change, and one per kind of error,
    /// however often servers are tried meanwhile.
    pub(super) fn note(&self, event: &Event) {
        if matches!(event, Event::Connected) {
            self.reported.lock().clear();
        }
        let is_moving = self.is_moving.load(Ordering::Relaxed);
        match event {
            Event::Connected if is_moving => {
                self.is_moving.store(false, Ordering::Relaxed);
                tracing::debug!("connected to another NATS server");
            }
            Event::Disconnected if is_moving => {
                tracing::debug!("giving up the connection to NATS for another");
            }
            Event::Connected => tracing::info!("connected to NATS"),
            Event::Disconnected => {
                tracing::warn!("the connection to NATS is lost; reconnecting");
            }
            Event::ServerError(error) if self.is_new(error.to_string()) => {
                tracing::warn!(%error, "NATS reports an error");
            }
            Event::ClientError(error) if self.is_new(error.to_string()) => {
                tracing::warn!(%error, "cannot connect to NATS; trying again");
            }
            _ => tracing::debug!(?event, "the connection to NATS changed"),
        }
    }

    fn is_new(&self, error: String) -> bool {
        let mut reported = self.reported.lock();
        reported.len() < REPORTED_MAX && reported.insert(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_server_is_tried_again_before_the_others() {
        let servers = [1, 2, 3].map(|number| {
            let url = format!("nats://10.0.0.{number}");
            url.parse::<ServerAddr>().expect("a URL")
        });
        let choice = ServerChoice::default();
        let mut chosen = Vec::new();
        for _ in 0..9 {
            let address = choice.choose_address(servers.iter());
            chosen.push(address.expect("there are some").host().to_owned());
        }
        for three in chosen.windows(3) {
            let different: HashSet<&String> = three.iter().collect();
            assert_eq!(different.len(), 3, "{chosen:?}");
        }
        assert_eq!(choice.choose_address([].iter()), None);
    }
}
