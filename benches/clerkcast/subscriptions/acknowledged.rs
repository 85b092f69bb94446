//! Acknowledged deliveries a second, of a backlog: with the embedded log and on NATS, with one
//! gateway and with three that share one subscription.

use clerkcast::proto::OrderBy;
use tempfile::TempDir;

use super::consumers::{Acknowledgement, consume};
use super::stand::Stand;
use super::workers::drain;
use super::{Crew, backlog};
use crate::support::process::Server;
use crate::support::{Row, table};

const ROUNDS: usize = 5;
const EVENTS: usize = 20_000;
const CREW: Crew = Crew {
    workers: 4,
    outstanding: 64,
    calls: 1,
};
/// The same, with a call under way while another waits for the disk.
const CREW_OF_TWO_CALLS: Crew = Crew { calls: 2, ..CREW };
const GATEWAYS: usize = 3;

pub(super) async fn run() {
    let mut stand = Stand::set_up(EVENTS).await;
    embedded(&stand).await;
    let one = on_nats(&stand, "one gateway").await;
    while stand.gateways().len() < GATEWAYS {
        stand.add_gateway();
    }
    let three = on_nats(&stand, "three gateways").await;
    table(
        "subscriptions: acknowledged deliveries/s on NATS, 4 workers × 64 (goal: 1 or more, 0.7 or more)",
        "JetStream, double_ack",
        &[one, three],
    );
}

async fn embedded(stand: &Stand) {
    let directory = TempDir::new().expect("a directory");
    backlog::fill(directory.path(), EVENTS).await;
    let gateway = Server::gateway(directory.path());
    let mut confirmed = Row::new("beside double_ack");
    let mut unconfirmed = Row::new("beside acks without confirmation");
    let mut of_two_calls = Row::new("two calls at once, beside double_ack");
    for _ in 0..ROUNDS {
        let ours = drain(&[&gateway], OrderBy::User, CREW, EVENTS).await;
        let base = baseline(stand, Acknowledgement::Confirmed).await;
        confirmed.push(ours, base);
        let ours_of_two = drain(&[&gateway], OrderBy::User, CREW_OF_TWO_CALLS, EVENTS).await;
        of_two_calls.push(ours_of_two, base);
        unconfirmed.push(ours, baseline(stand, Acknowledgement::Unconfirmed).await);
    }
    table(
        "subscriptions: acknowledged deliveries/s, 4 workers × 64 (goal: 2 or more, 0.5 or more)",
        "JetStream",
        &[confirmed, unconfirmed, of_two_calls],
    );
}

async fn on_nats(stand: &Stand, name: &str) -> Row {
    let mut row = Row::new(name);
    let gateways = stand.gateways();
    for _ in 0..ROUNDS {
        let base = baseline(stand, Acknowledgement::Confirmed).await;
        row.push(drain(&gateways, OrderBy::User, CREW, EVENTS).await, base);
    }
    row
}

async fn baseline(stand: &Stand, acknowledgement: Acknowledgement) -> f64 {
    consume(stand, acknowledgement, CREW, EVENTS).await
}
