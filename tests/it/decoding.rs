//! JSON in, `Event` out: whatever Clerk, or whoever fills in a user's metadata, puts
//! into a body.

use clerkcast::clerk::samples::SAMPLES;
use clerkcast::clerk::{Decoded, DriftKind, Envelope, decode};
use clerkcast::event::UnixMillis;
use clerkcast::proto;
use clerkcast::proto::event::Data;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::Value;

use crate::harness::{from_earliest, start_unsealed};

fn decoded(body: &str) -> (Decoded, proto::Event) {
    let envelope = Envelope {
        id: "msg_1",
        source: "default",
        send_time: UnixMillis::new(1_700_000_000_000),
    };
    let decoded = decode(envelope, body.as_bytes());
    // What no client can decode is lost to it.
    let event = proto::Event::decode(&decoded.event[..]).expect("valid protobuf");
    (decoded, event)
}

fn sample(event_type: &str) -> Value {
    let found = SAMPLES
        .iter()
        .find(|sample| sample.event_type == event_type);
    serde_json::from_str(found.expect("a sample").body).expect("JSON")
}

#[test]
fn timestamps_are_taken_in_milliseconds_and_in_seconds() {
    for (timestamp, seconds, nanos) in [
        ("1744276393644", 1_744_276_393, 644_000_000),
        ("1716883200", 1_716_883_200, 0),
        ("1.7168832e9", 1_716_883_200, 0),
    ] {
        let (_, event) = decoded(&format!(
            r#"{{"type":"user.created","timestamp":{timestamp}}}"#
        ));
        assert_eq!(
            event.occur_time,
            Some(prost_types::Timestamp { seconds, nanos }),
            "{timestamp}"
        );
    }
    for odd in [
        "\"yesterday\"",
        "null",
        "1e300",
        "9223372036854775807",
        "-9223372036854775808",
        "1.5",
        "[]",
    ] {
        let (_, event) = decoded(&format!(r#"{{"type":"user.created","timestamp":{odd}}}"#));
        assert_eq!(event.occur_time, None, "{odd}");
        assert_eq!(event.r#type, "user.created");
    }
}

#[test]
fn null_and_absent_are_unset_and_zero_is_zero() {
    let (decoded, event) = decoded(
        r#"{"type":"user.created","data":{"id":"user_1","banned":false,"verification_attempts_remaining":0,"first_name":null,"last_name":""}}"#,
    );
    let Some(Data::User(user)) = event.data else {
        panic!("a user")
    };
    assert_eq!(user.banned, Some(false));
    assert_eq!(user.verification_attempts_remaining, Some(0));
    assert_eq!(user.first_name, None);
    assert_eq!(user.last_name.as_deref(), Some(""));
    assert_eq!(user.username, None);
    assert_eq!(decoded.drift, []);
}

#[test]
fn a_field_of_an_unexpected_type_is_left_out_and_the_rest_is_typed() {
    let mut body = sample("user.created");
    body["data"]["first_name"] = serde_json::json!({"given": "Ada"});
    body["data"]["email_addresses"][0]["verification"] = serde_json::json!(7);
    body["data"]["created_at"] = serde_json::json!("recently");
    body["data"]["favourite_color"] = serde_json::json!("green");
    let (decoded, event) = decoded(&body.to_string());
    let Some(Data::User(user)) = event.data else {
        panic!("a user")
    };
    assert_eq!(user.first_name, None);
    assert_eq!(user.last_name.as_deref(), Some("Byrne"));
    assert_eq!(
        user.email_addresses[0].email_address.as_deref(),
        Some("ada@example.com")
    );
    let mut drift: Vec<(&str, DriftKind)> = decoded
        .drift
        .iter()
        .map(|one| (one.path.as_str(), one.kind))
        .collect();
    drift.sort_by_key(|(path, _)| *path);
    let expected = [
        ("data.created_at", DriftKind::UnexpectedValue),
        (
            "data.email_addresses[].verification",
            DriftKind::UnexpectedValue,
        ),
        ("data.favourite_color", DriftKind::UnknownField),
        ("data.first_name", DriftKind::UnexpectedValue),
    ];
    assert_eq!(drift, expected);
}

#[test]
fn unexpected_metadata_spoils_no_other_field() {
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let objects = format!("{}1{}", "{\"a\":".repeat(60), "}".repeat(60));
    for (metadata, kept, drifts) in [
        (deep.as_str(), false, true),
        (objects.as_str(), true, true),
        (r#"{"a":"\ud800","\udc00":1}"#, true, false),
        (r#"{"a":1e999}"#, true, true),
        (r#"{"a":{"b":[1,null,true,"x",{}]}}"#, true, false),
    ] {
        let body = format!(
            r#"{{"type":"user.updated","data":{{"id":"user_1","unsafe_metadata":{metadata},"username":"ada"}}}}"#
        );
        let (decoded, event) = decoded(&body);
        assert_eq!(decoded.attributes.user_id.as_deref(), Some("user_1"));
        let Some(Data::User(user)) = event.data else {
            panic!("a user")
        };
        assert_eq!(user.username.as_deref(), Some("ada"));
        assert_eq!(
            user.unsafe_metadata.is_some(),
            kept,
            "{}",
            &metadata[..20.min(metadata.len())]
        );
        assert_eq!(decoded.drift.is_empty(), !drifts);
    }
}

#[test]
fn half_a_surrogate_pair_spoils_neither_a_field_nor_its_object() {
    let body =
        r#"{"type":"user.updated","data":{"id":"user_1","first_name":"\ud800Ada","\ud800":1}}"#;
    let (decoded, event) = decoded(body);
    let Some(Data::User(user)) = event.data else {
        panic!("a user")
    };
    assert_eq!(user.id.as_deref(), Some("user_1"));
    assert!(user.first_name.is_some_and(|name| name.ends_with("Ada")));
    assert_eq!(decoded.drift.len(), 1, "the key that is none of Clerk's");
}

#[test]
fn ids_are_promoted_from_wherever_a_type_carries_them() {
    for (event_type, data, user, organization, session) in [
        ("user.created", r#"{"id":"user_1"}"#, "user_1", "", ""),
        (
            "user.deleted",
            r#"{"id":"user_1","deleted":true}"#,
            "user_1",
            "",
            "",
        ),
        (
            "session.ended",
            r#"{"id":"sess_1","user_id":"user_1","last_active_organization_id":"org_1"}"#,
            "user_1",
            "org_1",
            "sess_1",
        ),
        ("organization.deleted", r#"{"id":"org_1"}"#, "", "org_1", ""),
        (
            "organizationDomain.created",
            r#"{"id":"orgdmn_1","organization_id":"org_1"}"#,
            "",
            "org_1",
            "",
        ),
        (
            "organizationMembership.deleted",
            r#"{"id":"orgmem_1","organization":{"id":"org_1"},"public_user_data":{"user_id":"user_1"}}"#,
            "user_1",
            "org_1",
            "",
        ),
        (
            "organizationInvitation.accepted",
            r#"{"id":"orginv_1","organization_id":"org_1","user_id":"user_1"}"#,
            "user_1",
            "org_1",
            "",
        ),
        (
            "email.created",
            r#"{"id":"ema_1","user_id":"user_1"}"#,
            "user_1",
            "",
            "",
        ),
        (
            "sms.created",
            r#"{"id":"sms_1","user_id":null}"#,
            "",
            "",
            "",
        ),
        (
            "subscription.active",
            r#"{"id":"sub_1","payer":{"user_id":"user_1","organization_id":""}}"#,
            "user_1",
            "",
            "",
        ),
        (
            "paymentAttempt.created",
            r#"{"id":"pay_1","payer":{"user_id":"","organization_id":"org_1"}}"#,
            "",
            "org_1",
            "",
        ),
        ("role.created", r#"{"id":"role_1"}"#, "", "", ""),
        (
            "planet.created",
            r#"{"id":"org_9","user_id":"user_9"}"#,
            "user_9",
            "org_9",
            "",
        ),
    ] {
        let (_, event) = decoded(&format!(r#"{{"type":"{event_type}","data":{data}}}"#));
        let found = [
            event.user_id.as_str(),
            &event.organization_id,
            &event.session_id,
        ];
        assert_eq!(found, [user, organization, session], "{event_type}");
    }
}

#[test]
fn a_deleted_role_is_typed_by_the_shape_that_arrived() {
    let (_, event) =
        decoded(r#"{"type":"role.deleted","data":{"id":"role_1","object":"role","deleted":true}}"#);
    assert!(matches!(event.data, Some(Data::DeletedObject(_))));
    let (_, event) = decoded(
        r#"{"type":"role.deleted","data":{"id":"role_1","object":"role","key":"org:admin","name":"Admin","permissions":[]}}"#,
    );
    let Some(Data::Role(role)) = event.data else {
        panic!("a role")
    };
    assert_eq!(role.key.as_deref(), Some("org:admin"));
}

/// Any JSON text, from the plain to the malicious.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<f64>()
            .prop_filter("JSON has no such number", |value| value.is_finite())
            .prop_map(|value| format!("{value:e}")),
        ".{0,20}".prop_map(|text| Value::from(text).to_string()),
        Just("1e999".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
        Just(r#""\ud800""#.to_owned()),
        (1_usize..3000).prop_map(|depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth))),
        (1_usize..300).prop_map(|depth| format!(
            "{}0{}",
            "{\"a\":".repeat(depth),
            "}".repeat(depth)
        )),
        Just(r#"{"a":1,"a":2,"":{}}"#.to_owned()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|elements| format!("[{}]", elements.join(","))),
            prop::collection::vec(("[a-z_]{1,12}", inner), 0..4).prop_map(|fields| {
                let fields: Vec<String> = fields
                    .into_iter()
                    .map(|(key, value)| format!("\"{key}\":{value}"))
                    .collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}

/// A sample with the value at one place, whichever it is, replaced by any JSON.
fn any_body() -> impl Strategy<Value = (String, String)> {
    (0..SAMPLES.len(), any::<prop::sample::Index>(), any_json()).prop_map(|(index, place, json)| {
        let mut body: Value = serde_json::from_str(SAMPLES[index].body).expect("JSON");
        let mut pointers = Vec::new();
        collect_pointers(&body, String::new(), &mut pointers);
        let pointer = &pointers[place.index(pointers.len())];
        *body.pointer_mut(pointer).expect("collected from it") = "@@HERE@@".into();
        let text = body.to_string().replace("\"@@HERE@@\"", &json);
        (pointer.clone(), text)
    })
}

fn collect_pointers(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                collect_pointers(value, format!("{at}/{key}"), pointers);
            }
        }
        Value::Array(elements) => {
            for (index, value) in elements.iter().enumerate() {
                collect_pointers(value, format!("{at}/{index}"), pointers);
            }
        }
        _ => {}
    }
    if !at.is_empty() {
        pointers.push(at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn any_json_at_any_field_still_decodes((pointer, body) in any_body()) {
        let (decoded, event) = decoded(&body);
        prop_assert_eq!(&event.r#type, &decoded.attributes.event_type);
        // Only what stands at the type itself can take the type away.
        if pointer != "/type" {
            prop_assert!(!event.r#type.is_empty());
        }
        if pointer != "/data" && pointer != "/type" {
            prop_assert!(event.data.is_some());
        }
        for timestamp in [event.occur_time, event.send_time].into_iter().flatten() {
            prop_assert!((-62_135_596_800..=253_402_300_799).contains(&timestamp.seconds));
        }
    }

    #[test]
    fn any_text_at_all_decodes(body in ".{0,200}") {
        let (decoded, _) = decoded(&body);
        prop_assert!(decoded.event.len() < 4 << 20);
    }
}

/// The same through the whole gateway: accepted, delivered, and the payload is the body.
#[tokio::test]
async fn any_json_at_any_field_is_ingested_and_its_payload_kept() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    let (gateway, _directory) = start_unsealed();
    let mut runner = TestRunner::default();
    let strategy = any_body();
    let mut sent = Vec::new();
    for number in 0..300 {
        let tree = strategy.new_tree(&mut runner).expect("generated");
        let (_, body) = tree.current();
        gateway.accept(&format!("msg_{number}"), body.clone()).await;
        sent.push(body);
    }
    let request = proto::SubscribeRequest {
        include_payload: true,
        ..from_earliest()
    };
    let received = gateway.history(request).await;
    let received: Vec<String> = received
        .into_iter()
        .filter_map(|event| event.payload_json)
        .collect();
    assert_eq!(received, sent);
}
