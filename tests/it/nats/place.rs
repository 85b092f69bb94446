//! Where a gateway keeps its log, so that one test holds both to a guarantee.

use super::server::Server;
use crate::harness::{Gateway, Options};

pub(crate) struct Place {
    server: Option<Server>,
}

impl Place {
    /// In the gateway's data directory.
    pub(crate) fn embedded() -> Self {
        Self { server: None }
    }

    /// On a server of NATS.
    pub(crate) fn nats() -> Self {
        Self {
            server: Some(Server::start()),
        }
    }

    pub(crate) fn start(&self) -> Gateway {
        self.start_with(Options::default())
    }

    pub(crate) fn start_with(&self, mut options: Options) -> Gateway {
        if let Some(server) = &self.server {
            options.args.extend(on(&[server]).args);
        }
        Gateway::start_with(options)
    }
}

/// The flags of a gateway whose log these servers hold.
pub(crate) fn on(servers: &[&Server]) -> Options {
    let urls = servers.iter().map(|server| server.url());
    let urls = urls.collect::<Vec<_>>().join(",");
    Options::args(&["--log", "nats", "--nats-url", &urls])
}
