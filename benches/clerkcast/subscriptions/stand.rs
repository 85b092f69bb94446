//! JetStream with the baseline's backlog, and gateways on the same servers.

use async_nats::jetstream::Context;
use tempfile::TempDir;

use super::backlog::user_id;
use crate::support::jetstream::{
    BASELINE_SUBJECT, OUR_SUBJECT, gateway, make_baseline, messages_of, publish_all, stored_record,
};
use crate::support::nats_server::NatsServers;
use crate::support::posts::{post_all, signed, user_created};
use crate::support::process::Server;

const PUBLISHED_AT_ONCE: usize = 128;

pub(super) struct Stand {
    /// Go first, while their servers are there.
    gateways: Vec<Server>,
    directories: Vec<TempDir>,
    pub(super) context: Context,
    pub(super) servers: NatsServers,
}

impl Stand {
    /// One server, one gateway, and as many events in its stream as in that of the baseline.
    pub(super) async fn set_up(events: usize) -> Self {
        let servers = NatsServers::start(1).await;
        let mut stand = Self {
            gateways: Vec::new(),
            directories: Vec::new(),
            context: servers.connect().await,
            servers,
        };
        stand.add_gateway();
        post_all(stand.gateways[0].http, 1, &signed(1, &user_created())).await;
        make_baseline(&stand.context).await;
        let record = stored_record(&stand.context).await;
        for (subject, missing) in [(OUR_SUBJECT, events - 1), (BASELINE_SUBJECT, events)] {
            let users = (0..missing).map(user_id);
            let messages = messages_of(users, &record);
            publish_all(&stand.context, subject, PUBLISHED_AT_ONCE, messages).await;
        }
        stand
    }

    pub(super) fn add_gateway(&mut self) {
        let directory = TempDir::new().expect("a directory");
        self.gateways.push(gateway(&self.servers, &directory, "1"));
        self.directories.push(directory);
    }

    pub(super) fn gateways(&self) -> Vec<&Server> {
        self.gateways.iter().collect()
    }
}
