use proptest::prelude::*;

use super::*;
use crate::event::Position;
use crate::subscriptions::Lease;

fn crm() -> Name {
    "crm".parse().expect("a name")
}

fn ack_id(position: u64) -> AckId {
    AckId {
        generation: 7,
        position: Position::new(position),
        lease: Lease::new(3),
    }
}

fn fields(problem: &Problem) -> Vec<&str> {
    let violations = problem.violations.iter();
    violations
        .map(|violation| violation.field.as_str())
        .collect()
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn create_with(subscription: proto::Subscription) -> Result<Creation, Problem> {
    let asked = proto::CreateSubscriptionRequest {
        subscription: Some(subscription),
        start: None,
    };
    create(asked, (&KnownNames::default(), &Scope::default()))
}

#[test]
fn all_that_is_wrong_with_a_creation_is_reported_at_once() {
    let asked = proto::CreateSubscriptionRequest {
        subscription: Some(proto::Subscription {
            name: "CRM".to_owned(),
            filter: Some(proto::EventFilter {
                types: vec!["user.craeted".to_owned()],
                ..proto::EventFilter::default()
            }),
            order_by: 9,
            ack_deadline: seconds(0),
            max_deliveries: 101,
            min_retry_delay: seconds(-5),
            max_retry_delay: seconds(24 * 3600 + 1),
            on_expired: 9,
            ..proto::Subscription::default()
        }),
        start: Some(CreateStart::AfterCursor("x".to_owned())),
    };
    let refused = create(asked, (&KnownNames::default(), &Scope::default()));
    assert_eq!(
        fields(&refused.expect_err("wrong")),
        [
            "subscription.filter.types[0]",
            "after_cursor",
            "subscription.name",
            "subscription.order_by",
            "subscription.on_expired",
            "subscription.ack_deadline",
            "subscription.max_deliveries",
            "subscription.min_retry_delay",
            "subscription.max_retry_delay",
        ]
    );
    let empty = proto::CreateSubscriptionRequest::default();
    let refused = create(empty, (&KnownNames::default(), &Scope::default()));
    assert_eq!(
        fields(&refused.expect_err("no name")),
        ["subscription.name"]
    );
}

#[test]
fn a_name_is_enough_and_filters_are_sets() {
    let creation = create_with(proto::Subscription {
        name: "crm".to_owned(),
        ..proto::Subscription::default()
    });
    let creation = creation.expect("right");
    assert_eq!(creation.settings, Settings::default());
    assert_eq!(creation.start, Start::Latest);
    let creation = create_with(proto::Subscription {
        name: "crm".to_owned(),
        filter: Some(proto::EventFilter {
            user_ids: ["user_2", "user_1", "user_2"].map(str::to_owned).to_vec(),
            ..proto::EventFilter::default()
        }),
        ..proto::Subscription::default()
    });
    let settings = creation.expect("right").settings;
    assert_eq!(settings.filter.user_ids, ["user_1", "user_2"]);
}

#[test]
fn one_wrong_ack_id_refuses_the_whole_call() {
    let crm = crm();
    let other = "billing".parse().expect("a name");
    let text = |position| ack_id(position).to_text(&crm);
    let asked = proto::AcknowledgeRequest {
        subscription: "crm".to_owned(),
        ack_ids: vec![text(1), text(2), text(1), ack_id(4).to_text(&other)],
        failures: vec![
            proto::Failure {
                ack_id: text(2),
                retry_delay: seconds(24 * 3600 + 1),
                ..proto::Failure::default()
            },
            proto::Failure {
                ack_id: text(5),
                retry_delay: seconds(-1),
                ..proto::Failure::default()
            },
        ],
        extend_ack_ids: vec![String::new()],
        release_ack_ids: vec![text(6)],
    };
    let refused = acknowledge(&asked).expect_err("wrong");
    assert_eq!(
        fields(&refused),
        [
            "ack_ids[2]",
            "ack_ids[3]",
            "extend_ack_ids[0]",
            "failures[0].ack_id",
            "failures[0].retry_delay",
            "failures[1].retry_delay",
        ]
    );
    assert!(
        refused.violations[1]
            .description
            .starts_with("not an ack id of this subscription")
    );
    let many = proto::AcknowledgeRequest {
        subscription: "crm".to_owned(),
        ack_ids: (0..1001).map(text).collect(),
        ..proto::AcknowledgeRequest::default()
    };
    assert_eq!(
        fields(&acknowledge(&many).expect_err("too many")),
        ["ack_ids"]
    );
}

#[test]
fn outcomes_are_read_as_they_are_meant() {
    let crm = crm();
    let text = |position| ack_id(position).to_text(&crm);
    let asked = proto::AcknowledgeRequest {
        subscription: "crm".to_owned(),
        ack_ids: vec![text(1)],
        failures: vec![
            proto::Failure {
                ack_id: text(2),
                reason: "x".repeat(1023) + "é",
                retry_delay: seconds(60),
                dead: false,
            },
            proto::Failure {
                ack_id: text(3),
                dead: true,
                ..proto::Failure::default()
            },
        ],
        extend_ack_ids: vec![text(4)],
        release_ack_ids: vec![text(5)],
    };
    let (name, reports) = acknowledge(&asked).expect("right");
    assert_eq!(name, crm);
    let outcomes: Vec<(u64, Outcome)> = reports
        .iter()
        .map(|report| (report.ack_id.position.number(), report.outcome))
        .collect();
    let delay = Some(Duration::from_secs(60));
    assert_eq!(
        outcomes,
        [
            (1, Outcome::Done),
            (4, Outcome::Extended),
            (5, Outcome::Released),
            (2, Outcome::Failed { delay }),
            (3, Outcome::Rejected),
        ]
    );
    assert_eq!(reports[3].reason.len(), 1023, "cut at a character");
}

#[test]
fn numbers_of_a_worker_are_bounded() {
    let asked = |max_outstanding, max_events, interval| proto::ReceiveRequest {
        subscription: "crm".to_owned(),
        max_outstanding,
        max_events,
        heartbeat_interval: interval,
        ..proto::ReceiveRequest::default()
    };
    let options = |request| receive(request).expect("right").options;
    assert_eq!(options(asked(0, 0, None)).outstanding_max, 16);
    assert_eq!(options(asked(1000, 0, None)).outstanding_max, 1000);
    assert_eq!(options(asked(0, 5, None)).events_max, Some(5));
    for (request, field) in [
        (asked(1001, 0, None), "max_outstanding"),
        (asked(-1, 0, None), "max_outstanding"),
        (asked(0, -1, None), "max_events"),
        (asked(0, 0, seconds(0)), "heartbeat_interval"),
        (
            proto::ReceiveRequest {
                worker_name: "w\n".to_owned(),
                ..asked(0, 0, None)
            },
            "worker_name",
        ),
        (
            proto::ReceiveRequest {
                worker_name: "w".repeat(101),
                ..asked(0, 0, None)
            },
            "worker_name",
        ),
        (proto::ReceiveRequest::default(), "subscription"),
    ] {
        let refused = receive(request).expect_err(field);
        assert_eq!(fields(&refused), [field]);
    }
}

#[test]
fn dead_letters_are_resolved_by_their_ids_or_all_of_them() {
    let asked = |action: DeadLetterAction, ids: usize, all| proto::ResolveDeadLettersRequest {
        subscription: "crm".to_owned(),
        action: action.into(),
        event_ids: vec!["msg_1".to_owned(); ids],
        all,
    };
    use DeadLetterAction::{Drop, Replay, Unspecified};
    for (request, field) in [
        (asked(Unspecified, 1, false), "action"),
        (asked(Replay, 0, false), "event_ids"),
        (asked(Replay, 1, true), "all"),
        (asked(Drop, 1001, false), "event_ids"),
    ] {
        let refused = resolve(request).expect_err(field);
        assert_eq!(fields(&refused), [field]);
    }
    let (_, letters, resolution) = resolve(asked(Drop, 0, true)).expect("right");
    assert_eq!((letters, resolution), (Letters::All, Resolution::Drop));
    let (_, letters, _) = resolve(asked(Replay, 2, false)).expect("right");
    assert_eq!(letters, Letters::Ids(vec!["msg_1".to_owned(); 2]));
}

#[test]
fn names_to_list_are_bounded_and_judged_one_by_one() {
    let asked = |names: usize| proto::ListSubscriptionsRequest {
        names: vec!["crm".to_owned(); names],
    };
    assert_eq!(list(&asked(0)).expect("all"), []);
    assert_eq!(list(&asked(1000)).expect("right"), vec![crm(); 1000]);
    let mut too_many = asked(1001);
    // No name of too many is looked at.
    too_many.names[0] = "-".to_owned();
    assert_eq!(fields(&list(&too_many).expect_err("one more")), ["names"]);
    let mut misnamed = asked(3);
    misnamed.names[1] = "-".to_owned();
    assert_eq!(fields(&list(&misnamed).expect_err("no name")), ["names[1]"]);
}

#[test]
fn a_seek_says_where_to() {
    let asked = |to| proto::SeekSubscriptionRequest {
        name: "crm".to_owned(),
        to,
    };
    for (to, field) in [
        (None, "to"),
        (
            Some(To::StartPosition(StartPosition::Unspecified.into())),
            "start_position",
        ),
        (Some(To::StartPosition(9)), "start_position"),
        (Some(To::AfterCursor("x".to_owned())), "after_cursor"),
    ] {
        let refused = seek(&asked(to)).expect_err(field);
        assert_eq!(fields(&refused), [field]);
    }
    let to = Some(To::StartPosition(StartPosition::Earliest.into()));
    assert_eq!(seek(&asked(to)), Ok((crm(), Start::Earliest)));
}

proptest! {
    /// Whatever numbers a duration is made of, it is read or refused.
    #[test]
    fn no_duration_panics(seconds in any::<i64>(), nanos in any::<i32>()) {
        let duration = Some(prost_types::Duration { seconds, nanos });
        let created = create_with(proto::Subscription {
            name: "crm".to_owned(),
            ack_deadline: duration,
            min_retry_delay: duration,
            max_retry_delay: duration,
            ..proto::Subscription::default()
        });
        if let Ok(creation) = created {
            let hour = Duration::from_secs(3600);
            prop_assert!(creation.settings.ack_deadline <= hour);
        }
        let failure = proto::Failure {
            ack_id: ack_id(1).to_text(&crm()),
            retry_delay: duration,
            ..proto::Failure::default()
        };
        let _read_or_refused = acknowledge(&proto::AcknowledgeRequest {
            subscription: "crm".to_owned(),
            failures: vec![failure],
            ..proto::AcknowledgeRequest::default()
        });
    }
}
