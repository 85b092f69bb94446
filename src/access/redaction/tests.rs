use proptest::prelude::*;
use prost::Message as _;
use serde_json::Value;

use super::*;
use crate::clerk::samples::SAMPLES;
use crate::clerk::{Envelope, catalog, decode, schema};
use crate::event::UnixMillis;
use crate::proto;

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn redaction(removed: &[&str], granted: &[&str]) -> Redaction {
    Redaction::new(&strings(removed), &strings(granted)).expect("known fields")
}

fn encoded(body: &[u8]) -> Vec<u8> {
    let envelope = Envelope {
        id: "msg_1",
        source: "default",
        send_time: UnixMillis::new(1),
    };
    decode(envelope, body).event.to_vec()
}

fn event(encoded: &[u8]) -> proto::Event {
    proto::Event::decode(encoded).expect("an event")
}

fn payload(redaction: &Redaction, event_type: &str, body: &str) -> Option<String> {
    let payload = redaction.payload(event_type, body.as_bytes())?;
    Some(String::from_utf8(payload.into_owned()).expect("UTF-8"))
}

fn body_of(event_type: &str) -> String {
    let sample = SAMPLES
        .iter()
        .find(|sample| sample.event_type == event_type);
    sample.expect("a declared type").body.to_owned()
}

#[test]
fn sealed_fields_are_removed_from_both_renderings_unless_granted_by_name() {
    let sealed = Redaction::default();
    for (event_type, grant, secrets) in [
        (
            "email.created",
            "messages",
            &["subject", "body", "body_plain", "data"][..],
        ),
        ("sms.created", "messages", &["message", "data"]),
        (
            "organizationInvitation.created",
            "invitation_urls",
            &["url"],
        ),
    ] {
        let body = body_of(event_type);
        let whole: Value = serde_json::from_str(&body).expect("JSON");
        let json = payload(&sealed, event_type, &body).expect("JSON has fields");
        let shown: Value = serde_json::from_str(&json).expect("JSON");
        for secret in secrets {
            assert!(
                !whole["data"][secret].is_null(),
                "{event_type} has no {secret}"
            );
            assert!(
                shown["data"].get(secret).is_none(),
                "{event_type} shows {secret}"
            );
        }
        assert_eq!(shown["data"]["id"], whole["data"]["id"]);
        let stored = encoded(body.as_bytes());
        let typed = sealed.event(event_type, Cow::Borrowed(&stored));
        assert_eq!(event(&typed), event(&encoded(shown.to_string().as_bytes())));
        let granted = redaction(&[], &[grant]);
        assert_eq!(payload(&granted, event_type, &body), Some(body));
        let typed = granted.event(event_type, Cow::Borrowed(&stored));
        assert!(matches!(typed, Cow::Borrowed(_)));
    }
}

#[test]
fn sealed_fields_are_removed_from_types_that_clerk_may_add() {
    let sealed = Redaction::default();
    let body = r#"{"type":"email.resent","data":{"id":"ema_1","body":"123456"}}"#;
    let stored = encoded(body.as_bytes());
    assert!(format!("{:?}", event(&stored)).contains("123456"));
    let typed = sealed.event("email.resent", Cow::Owned(stored));
    assert!(!format!("{:?}", event(&typed)).contains("123456"));
    let shown = payload(&sealed, "email.resent", body);
    assert_eq!(
        shown.as_deref(),
        Some(r#"{"type":"email.resent","data":{"id":"ema_1"}}"#)
    );
}

#[test]
fn what_signs_somebody_in_is_sealed_whatever_the_type_is_called() {
    let sealed = Redaction::default();
    let granted = redaction(&[], &["messages", "invitation_urls"]);
    let is_shown = |redaction: &Redaction, event_type: &str, data: &str| {
        let body = serde_json::json!({"type": event_type, "data": "@"})
            .to_string()
            .replace("\"@\"", data);
        let typed = redaction.event(event_type, Cow::Owned(encoded(body.as_bytes())));
        let shown = payload(redaction, event_type, &body).expect("JSON has fields");
        [format!("{:?}", event(&typed)), shown].map(|text| text.contains("123456"))
    };
    let message = r#"{"id":"ema_1","body":"123456"}"#;
    let text = r#"{"id":"sms_1","message":"123456"}"#;
    let url = r#"{"id":"inv_1","url":"https://a.example/?ticket=123456"}"#;
    for (event_type, data) in [
        ("EMAIL.created", message),
        ("Email.resent", message),
        (" email .created", message),
        ("email", message),
        ("sms", text),
        ("SMS.sent", text),
        ("ORGANIZATIONINVITATION.created", url),
        ("Invitation", url),
        ("waitlistentry.invited", url),
        ("", r#"{"object":"email","body":"123456"}"#),
        ("message.sent", r#"{"object":"email","subject":"123456"}"#),
        ("message.sent", r#"{"object":"EMAIL","subject":"123456"}"#),
        (
            "message.sent",
            r#"{"data":{"otp_code":"123456"},"object":" sms_message "}"#,
        ),
        (
            "message.sent",
            r#"{"object":"user","object":"sms_message","message":"123456"}"#,
        ),
        (
            "emails.created",
            r#"{"object":"\u0065mail","body_plain":"123456"}"#,
        ),
        // Of declared types too, whose messages lack some of the fields.
        (
            "organizationInvitation.created",
            r#"{"object":"email","data":{"code":"123456"}}"#,
        ),
        (
            "user.created",
            r#"{"object":"sms_message","message":"123456"}"#,
        ),
    ] {
        let shown = is_shown(&sealed, event_type, data);
        assert_eq!(shown, [false, false], "{event_type:?} {data}");
        let [_, payload] = is_shown(&granted, event_type, data);
        assert!(payload, "{event_type:?} {data}");
    }
    for (event_type, data) in [
        ("emails.created", message),
        ("planet.created", text),
        ("user.email", message),
        (
            "planet.created",
            r#"{"object":"email_address","body":"123456"}"#,
        ),
        (
            "planet.created",
            r#"{"a":{"object":"email"},"body":"123456"}"#,
        ),
    ] {
        let shown = is_shown(&sealed, event_type, data);
        assert_eq!(shown, [true, true], "{event_type:?} {data}");
    }
    // Policies name the sets of a pattern as well.
    let asked = |text: &str| sealed.names(&[text.parse().expect("a pattern")]);
    for text in ["EMAIL.created", "Ema*", "email", "sms.*", "*"] {
        assert!(asked(text).contains(&"messages".to_owned()), "{text}");
    }
    for text in ["user.*", "emails.*", "smsx"] {
        assert_eq!(asked(text), [""; 0], "{text}");
    }
}

#[test]
fn sets_remove_personal_fields_at_any_depth() {
    let all = redaction(&["names", "network", "verifications"], &[]);
    for name in [
        "birthday",
        "gender",
        "label",
        "google_id",
        "provider_user_id",
        "city",
        "country",
        "nonce",
        "external_verification_redirect_url",
    ] {
        for data in [
            format!(r#"{{"{name}":"secret"}}"#),
            format!(r#"{{"a":[{{"b":{{"{name}":"secret"}}}}]}}"#),
            format!(
                r#"{{"external_accounts":[{{"{name}":"secret"}}],"public_metadata":{{"{name}":"secret"}}}}"#
            ),
        ] {
            for event_type in ["user.created", "planet.created", "session.created"] {
                let body = format!(r#"{{"type":"{event_type}","data":{data}}}"#);
                let shown = payload(&all, event_type, &body).expect("JSON has fields");
                assert!(!shown.contains("secret"), "{shown}");
                let typed = all.event(event_type, Cow::Owned(encoded(body.as_bytes())));
                assert!(!format!("{:?}", event(&typed)).contains("secret"), "{body}");
            }
        }
    }
}

#[test]
fn json_around_a_removed_field_stays_byte_for_byte() {
    let metadata = redaction(&["metadata"], &[]);
    let body = "{ \"data\" : {\"id\":\"user_1\", \"first_name\":\"\\u0041da\",  \"private_metadata\":{\"a\":1}, \"created_at\": 1.0e3 }, \"type\":\"user.created\" }";
    let shown = payload(&metadata, "user.created", body).expect("JSON has fields");
    assert_eq!(
        shown,
        "{\"data\":{\"id\":\"user_1\",\"first_name\":\"\\u0041da\",\"created_at\":1.0e3},\"type\":\"user.created\"}"
    );
    let without = "{ \"type\" : \"user.created\", \"data\" : { \"id\" : \"user_1\" } }";
    assert_eq!(
        payload(&metadata, "user.created", without).as_deref(),
        Some(without)
    );
}

#[test]
fn a_key_cannot_hide_from_its_removal() {
    let contact = redaction(&["contact", "data.private_metadata"], &[]);
    let nested = format!("{}\"secret\"{}", "{\"a\":".repeat(500), "}".repeat(500));
    let deep = format!(r#"{{"type":"user.created","data":{{"id":"user_1","x":{nested}}}}}"#);
    for body in [
        r#"{"type":"user.created","data":{"email_addresses":1,"email_addresses":["secret"]}}"#,
        r#"{"type":"user.created","data":{"email\u005faddresses":["secret"]}}"#,
        r#"{"type":"user.created","data":{"a":[[{"b":{"phone_number":"secret"}}]]}}"#,
        r#"{"type":"user.created","d":{"email_address":"secret"},"data":{"id":"user_1"}}"#,
        "\u{feff}{\"type\":\"user.created\",\"data\":{\"email_address\":\"secret\"}}",
        r#"{"data":{"private_metadata":"secret"},"type":"user.created","data":{"private_metadata":"secret"}}"#,
        &deep,
    ] {
        let shown = payload(&contact, "user.created", body).expect("JSON has fields");
        assert!(!shown.contains("secret"), "{shown}");
        let typed = contact.event("user.created", Cow::Owned(encoded(body.as_bytes())));
        assert!(!format!("{:?}", event(&typed)).contains("secret"));
    }
    for unreadable in [
        "secret",
        "[\"secret\"]",
        "{\"data\":{\"email_address\":\"secret\"}",
        "\"\u{0}",
    ] {
        assert_eq!(payload(&contact, "", unreadable), None);
    }
    assert_eq!(
        payload(&Redaction::default(), "", "ping").as_deref(),
        Some("ping")
    );
}

#[test]
fn a_rule_that_would_remove_nothing_is_refused_with_the_nearest_right_one() {
    for (misspelled, right) in [
        ("data.private_metdata", "data.private_metadata"),
        ("**.email_adresses", "**.email_addresses"),
        ("contacts", "contact"),
        (
            "event_attributes.http_request.clientip",
            "event_attributes.http_request.client_ip",
        ),
    ] {
        let error = Redaction::new(&strings(&[misspelled]), &[])
            .expect_err(misspelled)
            .to_string();
        assert!(
            error.ends_with(&format!("did you mean {right}?")),
            "{error}"
        );
    }
    assert!(Redaction::new(&strings(&["", "data.", "*"])[..1], &[]).is_err());
    assert!(Redaction::new(&strings(&["id", "type"])[1..], &[]).is_err());
    assert!(Redaction::new(&[], &strings(&["contact"])).is_err());
    assert!(Redaction::new(&strings(&["data.public_metadata.plan"]), &[]).is_ok());
    assert!(Redaction::new(&strings(&["data.email_addresses[].verification"]), &[]).is_ok());
    let left = uncovered_places(&strings(&["data.private_metadata"]));
    assert!(
        left.contains(&"data.user.private_metadata".to_owned()),
        "{left:?}"
    );
    assert!(uncovered_places(&strings(&["**.private_metadata"])).is_empty());
}

#[test]
fn every_set_names_fields_that_exist() {
    for set in [
        "contact",
        "names",
        "metadata",
        "network",
        "backup_codes",
        "verifications",
    ] {
        let rules = rule::parse(set).expect("a set");
        let known = schema::json_paths().names();
        // Some are known from free JSON alone.
        let found = rules.iter().filter(|rule| match rule {
            Rule::At(path) => schema::json_paths().has(path),
            Rule::Anywhere(name) => known.contains(name),
        });
        assert!(found.count() * 4 >= rules.len() * 3, "{set}");
    }
}

/// Removes a path or a name from JSON, as simply as can be.
fn remove(value: &mut Value, rule: &str) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|value| remove(value, rule)),
        Value::Object(fields) => match rule.strip_prefix("**.") {
            Some(name) => {
                fields.remove(name);
                fields.values_mut().for_each(|value| remove(value, rule));
            }
            None => match rule.split_once('.') {
                Some((key, rest)) => {
                    if let Some(value) = fields.get_mut(key) {
                        remove(value, rest);
                    }
                }
                None => drop(fields.remove(rule)),
            },
        },
        _ => {}
    }
}

fn any_rule() -> impl Strategy<Value = String> {
    let known = schema::json_paths();
    let names: Vec<String> = known
        .names()
        .iter()
        .map(|name| format!("**.{name}"))
        .collect();
    let paths: Vec<String> = known.paths().map(|path| path.join(".")).collect();
    prop_oneof![
        prop::sample::select(names),
        prop::sample::select(paths),
        Just("data.public_metadata.theme".to_owned()),
    ]
}

/// The event without what follows from the body's ids, which no rule removes.
fn without_envelope(event: proto::Event) -> proto::Event {
    proto::Event {
        http_request: event
            .http_request
            .filter(|request| *request != proto::HttpRequest::default()),
        data: event.data,
        ..proto::Event::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Both renderings, and a model that is as simple as can be, remove the same.
    #[test]
    fn both_renderings_agree_with_a_naive_removal(
        sample in prop::sample::select(SAMPLES),
        rules in prop::collection::vec(any_rule(), 0..6),
    ) {
        // Which of two shapes a body is of depends on the keys that it has.
        let kind = catalog::find(sample.event_type).expect("declared");
        prop_assume!(kind.shapes.len() == 1);
        let body = sample.body;
        let granted = strings(&["messages", "invitation_urls"]);
        let redaction = Redaction::new(&rules, &granted).expect("known fields");
        let mut expected: Value = serde_json::from_str(body).expect("JSON");
        for rule in &rules {
            let envelope: Vec<(&str, Value)> = ["type", "object", "timestamp", "instance_id"]
                .into_iter()
                .map(|key| (key, expected[key].clone()))
                .collect();
            remove(&mut expected, rule);
            for (key, value) in envelope {
                expected[key] = value;
            }
        }
        let shown = payload(&redaction, kind.name, body).expect("JSON has fields");
        let shown_value: Value = serde_json::from_str(&shown).expect("JSON");
        prop_assert_eq!(&shown_value, &expected);
        let stored = encoded(body.as_bytes());
        let typed = redaction.event(kind.name, Cow::Borrowed(&stored));
        let decoded = event(&encoded(shown.as_bytes()));
        prop_assert_eq!(without_envelope(event(&typed)), without_envelope(decoded));
        prop_assert_eq!(event(&typed).id, "msg_1");
    }

    /// Every body is either shown without the removed fields or withheld.
    #[test]
    fn no_body_makes_redaction_panic(body in "\\PC*", type_name in "[a-z.]{0,12}") {
        let all = redaction(&["contact", "names", "metadata", "network", "data"], &[]);
        let _ = payload(&all, &type_name, &body);
        let _ = all.event(&type_name, Cow::Borrowed(body.as_bytes()));
    }
}
