//! What arrives typed is what was written: numbers, ids, repeated keys.

use clerkcast::access::Redaction;
use clerkcast::clerk::samples::SAMPLES;
use clerkcast::clerk::{Decoded, DriftKind, Envelope, decode};
use clerkcast::event::UnixMillis;
use clerkcast::proto;
use clerkcast::proto::event::Data;
use clerkcast::proto::{EventFilter, SubscribeRequest};
use proptest::prelude::*;
use prost::Message as _;
use prost_types::value::Kind;
use serde_json::{Value, json};

use crate::harness::{Gateway, from_earliest};

fn decoded(body: &str) -> (Decoded, proto::Event) {
    let envelope = Envelope {
        id: "msg_1",
        source: "default",
        send_time: UnixMillis::new(1_700_000_000_000),
    };
    let decoded = decode(envelope, body.as_bytes());
    let event = proto::Event::decode(&decoded.event[..]).expect("valid protobuf");
    (decoded, event)
}

fn user(event: proto::Event) -> proto::clerk::v1::User {
    match event.data {
        Some(Data::User(user)) => user,
        other => panic!("a user, not {other:?}"),
    }
}

/// The number that the text becomes, in free JSON and in a field of its own.
fn number(text: &str) -> (Option<f64>, Option<f64>) {
    let body = format!(
        r#"{{"type":"paymentAttempt.created","data":{{"subscription_items":[{{"credit":{{"cycle_remaining_percent":{text}}}}}]}}}}"#
    );
    let (_, event) = decoded(&body);
    let Some(Data::PaymentAttempt(attempt)) = event.data else {
        panic!("a payment attempt")
    };
    let credit = attempt.subscription_items[0].credit.as_ref();
    let typed = credit.and_then(|credit| credit.cycle_remaining_percent);
    let body = format!(r#"{{"type":"user.updated","data":{{"public_metadata":{{"a":{text}}}}}}}"#);
    let metadata = user(decoded(&body).1).public_metadata.expect("metadata");
    let free = metadata.fields.get("a").map(|value| match value.kind {
        Some(Kind::NumberValue(number)) => number,
        ref other => panic!("a number, not {other:?}"),
    });
    (free, typed)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// A double's shortest text, and any longer one, is nearest to that double. The
    /// textbook shortcut, digits times a power of ten, misses one in six.
    #[test]
    fn fidelity_fractions_are_the_nearest_double(bits in any::<u64>(), precision in 17_usize..60) {
        let double = f64::from_bits(bits);
        prop_assume!(double.is_finite());
        for text in [format!("{double:e}"), format!("{double:.precision$e}"), format!("{double:?}")] {
            let is_integer = !text.contains(['.', 'e']);
            let (free, typed) = number(&text);
            prop_assert_eq!(typed.map(f64::to_bits), Some(bits), "{}", text);
            if !is_integer {
                prop_assert_eq!(free.map(f64::to_bits), Some(bits), "{}", text);
            }
        }
    }
}

#[test]
fn fidelity_a_fraction_keeps_its_last_bit() {
    for text in [
        "9.454911602196235e-13",
        "0.1",
        "5e-324",
        "1.7976931348623157e308",
    ] {
        let expected = text.parse().ok();
        assert_eq!(number(text), (expected, expected), "{text}");
    }
    assert_eq!(number("1.8e308"), (None, None));
}

/// Through the whole gateway: what is left out costs itself alone, and the payload has it.
#[tokio::test]
async fn lossless_payload_has_what_is_left_out() {
    let deep = format!("{}1{}", "[".repeat(28), "]".repeat(28));
    let body = format!(
        r#"{{"type":"user.updated","data":{{"id":"user_1","username":"ada","public_metadata":{{"account":4611686018427387907,"plan":"pro","seats":[1,9007199254740993,3],"huge":1e400,"deep":{deep},"edge":9007199254740992}}}}}}"#
    );
    let gateway = Gateway::start();
    gateway.accept("msg_1", body.clone()).await;
    let request = SubscribeRequest {
        include_payload: true,
        ..from_earliest()
    };
    let events = gateway.history(request).await;
    assert_eq!(events[0].payload_json.as_deref(), Some(&body[..]));
    let user = user(events[0].clone());
    assert_eq!(user.username.as_deref(), Some("ada"));
    let metadata = user.public_metadata.expect("metadata");
    let keys: Vec<&str> = metadata.fields.keys().map(String::as_str).collect();
    assert_eq!(keys, ["deep", "edge", "plan", "seats"]);
    let number = |number| prost_types::Value {
        kind: Some(Kind::NumberValue(number)),
    };
    assert_eq!(metadata.fields["edge"], number(9_007_199_254_740_992.0));
    let null = prost_types::Value {
        kind: Some(Kind::NullValue(0)),
    };
    let seats = prost_types::ListValue {
        values: vec![number(1.0), null, number(3.0)],
    };
    assert_eq!(metadata.fields["seats"].kind, Some(Kind::ListValue(seats)));

    for field in ["account", "seats[]", "huge"] {
        let counted = format!(
            "clerkcast_event_drift_total{{event_type=\"user.updated\",field=\"data.public_metadata.{field}\",kind=\"unexpected_value\"}}"
        );
        assert_eq!(gateway.metric(&counted).await, 1.0, "{field}");
    }
}

/// What a user puts there can neither hide another field's drift nor show up in a metric.
#[tokio::test]
async fn drift_inside_free_json_hides_no_other_and_shows_no_address() {
    let many: Vec<String> = (0..500).map(|n| format!("\"k{n}\":1e999")).collect();
    let body = format!(
        r#"{{"type":"user.updated","data":{{"id":"user_1","unsafe_metadata":{{"ada@example.com":1e999,{}}},"tomorrow":1}}}}"#,
        many.join(",")
    );
    let (of_it, _) = decoded(&body);
    assert!(of_it.drift.iter().any(|one| one.path == "data.tomorrow"));
    assert!(of_it.drift.len() < 20);
    let gateway = Gateway::start();
    gateway.accept("msg_1", body).await;
    let metrics = gateway.admin_get("/metrics").await.text;
    assert!(metrics.contains("field=\"data.tomorrow\""));
    assert!(!metrics.contains("ada@example.com"));
}

/// Where each family has its ids, written down once more.
fn ids_of_family(family: &str) -> [&'static str; 3] {
    match family {
        "user" => ["/id", "", ""],
        "session" => ["/user_id", "/last_active_organization_id", "/id"],
        "organization" => ["", "/id", ""],
        "organizationDomain" => ["", "/organization_id", ""],
        "organizationMembership" => ["/public_user_data/user_id", "/organization/id", ""],
        "organizationInvitation" => ["/user_id", "/organization_id", ""],
        "email" | "sms" => ["/user_id", "", ""],
        "paymentAttempt" | "subscription" | "subscriptionItem" => {
            ["/payer/user_id", "/payer/organization_id", ""]
        }
        _ => ["", "", ""],
    }
}

fn ids(event: &proto::Event) -> [&str; 3] {
    [&event.user_id, &event.organization_id, &event.session_id]
}

#[test]
fn the_46_types_keep_their_ids() {
    for sample in SAMPLES {
        let (family, _) = sample.event_type.split_once('.').expect("a family");
        let body: Value = serde_json::from_str(sample.body).expect("JSON");
        let expected = ids_of_family(family).map(|path| {
            let found = (!path.is_empty())
                .then(|| body["data"].pointer(path))
                .flatten();
            found.and_then(Value::as_str).unwrap_or_default()
        });
        let (_, event) = decoded(sample.body);
        assert_eq!(ids(&event), expected, "{}", sample.event_type);
        // An id that is not spelled as Clerk's are is an id all the same.
        let odd = sample.body.replace("user_3", "u-3").replace("org_3", "o-3");
        let (_, event) = decoded(&odd);
        let expected = expected.map(|id| id.replace("user_3", "u-3").replace("org_3", "o-3"));
        assert_eq!(ids(&event), expected.each_ref().map(String::as_str));
    }
}

/// Types that Clerk does not have, and the ids that they concern: user, organization, session.
fn types_of_tomorrow() -> Vec<(String, Value, [&'static str; 3])> {
    let invented = [
        (
            "user.impersonated",
            json!({"id": "imp_1", "user_id": "user_1"}),
            ["user_1", "", ""],
        ),
        (
            "user.merged",
            json!({"id": "user_1", "user_id": "merge_7"}),
            ["user_1", "", ""],
        ),
        (
            "userPasskey.created",
            json!({"id": "pk_1", "user_id": "user_1"}),
            ["user_1", "", ""],
        ),
        ("User.Archived", json!({"id": "user_1"}), ["user_1", "", ""]),
        (
            "session.touched",
            json!({"id": "sess_1", "user_id": "user_1", "last_active_organization_id": "org_1"}),
            ["user_1", "org_1", "sess_1"],
        ),
        (
            "Session.stepUp",
            json!({"id": "sess_1", "user_id": "user_1", "last_active_organization_id": "org_1"}),
            ["user_1", "org_1", "sess_1"],
        ),
        (
            "session.reverified",
            json!({"id": "rev_1", "session_id": "sess_1", "user_id": "user_1"}),
            ["user_1", "", "sess_1"],
        ),
        (
            "organization.archived",
            json!({"id": "org_1", "created_by": "user_2"}),
            ["", "org_1", ""],
        ),
        (
            "organization.transferred",
            json!({"id": "tr_1", "organization_id": "org_1", "user_id": "user_1"}),
            ["user_1", "org_1", ""],
        ),
        (
            "organizationDomain.claimed",
            json!({"id": "orgdmn_1", "organization_id": "org_1"}),
            ["", "org_1", ""],
        ),
        (
            "organizationRole.granted",
            json!({"id": "role_1", "organization_id": "org_1"}),
            ["", "org_1", ""],
        ),
        (
            "organizationMembership.suspended",
            json!({"id": "orgmem_1", "organization": {"id": "org_1"}, "public_user_data": {"user_id": "user_1"}}),
            ["user_1", "org_1", ""],
        ),
        (
            "organizationInvitation.expired",
            json!({"id": "orginv_1", "organization_id": "org_1"}),
            ["", "org_1", ""],
        ),
        (
            "email.bounced",
            json!({"id": "ema_1", "user_id": "user_1"}),
            ["user_1", "", ""],
        ),
        (
            "sms.failed",
            json!({"id": "sms_1", "user_id": "user_1"}),
            ["user_1", "", ""],
        ),
        (
            "role.granted",
            json!({"id": "role_1", "user_id": "user_1"}),
            ["user_1", "", ""],
        ),
        (
            "permission.granted",
            json!({"id": "perm_1", "organization_id": "org_1"}),
            ["", "org_1", ""],
        ),
        (
            "waitlistEntry.approved",
            json!({"id": "wl_1", "user_id": "user_1"}),
            ["user_1", "", ""],
        ),
        (
            "subscription.paused",
            json!({"id": "sub_1", "payer": {"user_id": "user_1", "organization_id": ""}}),
            ["user_1", "", ""],
        ),
        (
            "subscriptionItem.renewed",
            json!({"id": "item_1", "payer_id": "p", "payer": {"user_id": "", "organization_id": "org_1"}}),
            ["", "org_1", ""],
        ),
        (
            "paymentAttempt.disputed",
            json!({"id": "pay_1", "payer": {"user_id": "user_1"}}),
            ["user_1", "", ""],
        ),
        (
            "signIn",
            json!({"id": "sia_1", "user_id": "user_1", "session_id": "sess_1"}),
            ["user_1", "", "sess_1"],
        ),
        (
            "planet.created",
            json!({"id": "planet_1", "user_id": "u1", "organization_id": "user_1"}),
            ["", "", ""],
        ),
        (
            "planet.moved",
            json!({"id": "user_", "session_id": 7}),
            ["", "", ""],
        ),
    ];
    let invented = invented.map(|(name, data, ids)| (name.to_owned(), data, ids));
    invented.into_iter().collect()
}

#[tokio::test]
async fn filtered_types_of_tomorrow_are_found_by_their_ids() {
    let gateway = Gateway::start();
    let types = types_of_tomorrow();
    for (name, data, expected) in &types {
        let body = json!({"type": name, "data": data}).to_string();
        let (_, event) = decoded(&body);
        assert_eq!(ids(&event), *expected, "{name} {data}");
        gateway.accept(&format!("msg_{name}"), body).await;
    }
    // A sample's data under a verb of tomorrow is found like today's.
    for sample in SAMPLES {
        let (family, _) = sample.event_type.split_once('.').expect("a family");
        let renamed = sample
            .body
            .replace(sample.event_type, &format!("{family}.teleported"));
        let (_, today) = decoded(sample.body);
        let (_, tomorrow) = decoded(&renamed);
        assert_eq!(ids(&tomorrow), ids(&today), "{}", sample.event_type);
    }
    let filters = [
        EventFilter {
            user_ids: vec!["user_1".to_owned()],
            ..EventFilter::default()
        },
        EventFilter {
            organization_ids: vec!["org_1".to_owned()],
            ..EventFilter::default()
        },
        EventFilter {
            session_ids: vec!["sess_1".to_owned()],
            ..EventFilter::default()
        },
    ];
    for (at, filter) in filters.into_iter().enumerate() {
        let request = SubscribeRequest {
            filter: Some(filter),
            ..from_earliest()
        };
        let found = gateway.history(request).await;
        let found: Vec<&str> = found.iter().map(|event| event.r#type.as_str()).collect();
        let expected = types.iter().filter(|(_, _, ids)| !ids[at].is_empty());
        let expected: Vec<&str> = expected.map(|(name, _, _)| name.as_str()).collect();
        assert_eq!(found, expected);
    }
}

const REPEATED: &str = r#"{
  "type": "email.created", "type": "user.updated",
  "instance_id": "ins_1", "instance_id": "ins_2",
  "timestamp": 1, "timestamp": 1744276393644,
  "data": {"id": "user_1", "first_name": "Zoe"},
  "event_attributes": {"http_request": {"client_ip": "192.0.2.1"}},
  "event_attributes": {"http_request": {"client_ip": "192.0.2.2"}, "http_request": {"client_ip": "192.0.2.3", "client_ip": "192.0.2.4"}},
  "data": {"id": "user_2", "id": "user_3", "first_name": "Ada", "first_name": "Mia", "username": "ada", "username": null,
    "public_metadata": {"a": 1, "a": 9007199254740993, "b": 1, "b": "last", "c": 1, "c": null}}
}"#;

#[tokio::test]
async fn the_last_of_two_keys_counts_everywhere() {
    let (of_it, event) = decoded(REPEATED);
    assert_eq!(event.r#type, "user.updated");
    assert_eq!(of_it.attributes.event_type, "user.updated");
    assert_eq!(event.instance_id, "ins_2");
    assert_eq!(
        event.occur_time.map(|time| time.seconds),
        Some(1_744_276_393)
    );
    assert_eq!([&event.object_id, &event.user_id], ["user_3", "user_3"]);
    assert_eq!(of_it.attributes.object_id.as_deref(), Some("user_3"));
    let request = event.http_request.clone().expect("a request");
    assert_eq!(request.client_ip.as_deref(), Some("192.0.2.4"));
    let user = user(event);
    assert_eq!(
        (user.id.as_deref(), user.first_name.as_deref()),
        (Some("user_3"), Some("Mia"))
    );
    assert_eq!(user.username, None);
    let metadata = user.public_metadata.expect("metadata").fields;
    assert_eq!(metadata.keys().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(
        metadata["b"].kind,
        Some(Kind::StringValue("last".to_owned()))
    );
    assert_eq!(metadata["c"].kind, Some(Kind::NullValue(0)));
    let [drift] = &of_it.drift[..] else {
        panic!("one number too large: {:?}", of_it.drift)
    };
    assert_eq!(
        (drift.path.as_str(), drift.kind),
        ("data.public_metadata.a", DriftKind::UnexpectedValue)
    );

    // Null is absent, also where another value came first.
    let (_, event) = decoded(
        r#"{"type":"user.updated","instance_id":"ins_1","timestamp":1744276393644,"data":{"id":"user_1"},"event_attributes":{"http_request":{}},"type":null,"instance_id":null,"timestamp":null,"data":null,"event_attributes":null}"#,
    );
    let expected = proto::Event {
        id: "msg_1".to_owned(),
        source: "default".to_owned(),
        send_time: event.send_time,
        ..proto::Event::default()
    };
    assert_eq!(event, expected);

    let gateway = Gateway::start();
    gateway.accept("msg_1", REPEATED).await;
    for (types, user, count) in [
        ("user.updated", "user_3", 1),
        ("user.updated", "user_1", 0),
        ("user.updated", "user_2", 0),
        ("email.created", "user_3", 0),
    ] {
        let request = SubscribeRequest {
            filter: Some(EventFilter {
                types: vec![types.to_owned()],
                user_ids: vec![user.to_owned()],
                ..EventFilter::default()
            }),
            ..from_earliest()
        };
        assert_eq!(
            gateway.history(request).await.len(),
            count,
            "{types} {user}"
        );
    }

    // What is sealed is so by the same reading, and no first value slips through.
    let redaction = Redaction::new(&["data.first_name".to_owned()], &[]).expect("a field");
    let shown = redaction.payload("user.updated", REPEATED.as_bytes());
    let shown = String::from_utf8(shown.expect("JSON").into_owned()).expect("text");
    for name in ["Zoe", "Ada", "Mia"] {
        assert!(!shown.contains(name), "{shown}");
    }
    let typed = redaction.event("user.updated", of_it.event[..].into());
    let typed = proto::Event::decode(&typed[..]).expect("an event");
    assert!(!format!("{typed:?}").contains("Mia"));
    let message =
        r#"{"type":"planet.sent","data":{"object":"user","body":"123456","object":"email"}}"#;
    let (of_it, _) = decoded(message);
    let typed = Redaction::default().event("planet.sent", of_it.event[..].into());
    let typed = proto::Event::decode(&typed[..]).expect("an event");
    assert!(!format!("{typed:?}").contains("123456"));
}
