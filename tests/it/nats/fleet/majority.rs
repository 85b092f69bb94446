//! NATS without a majority: nothing is stored, so nothing is answered as done.

use clerkcast::proto::receive_response::Kind;
use clerkcast::proto::{Delivery, ReceiveRequest, Subscription};
use futures_util::future::join_all;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::Fleet;
use crate::harness::{Gateway, eventually};
use crate::subscriptions::{Caller, Worker, event_id, named, refusal, seconds, worker_of};

/// A subscription beside the one that is under load. One of its events is with its worker.
const BESIDE: &str = "beside";

async fn worker_beside(gateway: &Gateway) -> (Worker, Delivery) {
    let mut caller = Caller::of(gateway).await;
    let created = caller
        .create(Subscription {
            ack_deadline: seconds(3600),
            ..named(BESIDE)
        })
        .await;
    created.expect("created");
    let one_at_a_time = ReceiveRequest {
        max_outstanding: 1,
        heartbeat_interval: seconds(1),
        ..worker_of(BESIDE)
    };
    let mut worker = caller.receive(one_at_a_time).await.expect("opened");
    let held = worker.delivery().await;
    (worker, held)
}

async fn refuses_to_acknowledge(gateway: &Gateway, held: &Delivery) {
    let mut caller = Caller::of(gateway).await;
    let answered = caller.acknowledge(BESIDE, &[&held.ack_id]).await;
    let status = answered.expect_err("nothing can be stored");
    let (code, reason, _) = refusal(&status);
    assert_eq!((code, &*reason), (Code::Unavailable, "NOT_STORED"));
    assert!(status.get_error_details().retry_info().is_some());
    let message = status.message();
    assert!(message.contains("repeat the same call"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fleet_acknowledged_and_accounted_when_nats_loses_its_majority() {
    let fault = async |fleet: &mut Fleet| {
        let (mut worker, held) = worker_beside(&fleet.gateways[0]).await;
        for server in &mut fleet.servers[1..] {
            server.kill();
        }
        let gateways = fleet.gateways.iter();
        join_all(gateways.map(|gateway| refuses_to_acknowledge(gateway, &held))).await;
        // What was answered before is noted by now.
        let answered = fleet.ledger.lock().acknowledged_per_key();
        let gateways = fleet.gateways.iter();
        join_all(gateways.map(|gateway| refuses_to_acknowledge(gateway, &held))).await;
        assert_eq!(fleet.ledger.lock().acknowledged_per_key(), answered);
        for _ in 0..2 {
            let frame = worker.next().await.expect("the stream stays open");
            assert!(matches!(frame, Some(Kind::Heartbeat(_))), "{frame:?}");
        }

        for server in &mut fleet.servers[1..] {
            server.run();
        }
        eventually("the same call succeeds", || async {
            let mut caller = Caller::of(&fleet.gateways[1]).await;
            match caller.acknowledge(BESIDE, &[&held.ack_id]).await {
                Ok(lost) => {
                    assert_eq!(lost, [""; 0]);
                    true
                }
                Err(status) => {
                    assert_eq!(refusal(&status).1, "NOT_STORED");
                    false
                }
            }
        })
        .await;
        let next = worker.delivery().await;
        assert_ne!(event_id(&next), event_id(&held), "acknowledged");
    };
    Fleet::on_cluster().await.survives(fault).await;
}
