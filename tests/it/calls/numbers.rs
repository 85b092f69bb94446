//! No number of a request panics, and a panic floods no log.

use std::process::Command;

use clerkcast::proto;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage as _, Value};

use super::methods;
use super::raw::{Outcome, Raw};
use crate::harness::Gateway;

const SECONDS: [i64; 8] = [
    i64::MIN,
    i64::MIN + 1,
    -62_135_596_801,
    -1,
    0,
    253_402_300_800,
    i64::MAX - 1,
    i64::MAX,
];
const NANOS: [i32; 6] = [i32::MIN, -1, 0, 999_999_999, 1_000_000_000, i32::MAX];

/// Values at the edges for a numeric or time field; none for others.
fn edges(field: &FieldDescriptor) -> Vec<Value> {
    match field.kind() {
        Kind::Int32 => [i32::MIN, -1, 0, 1, i32::MAX].map(Value::I32).into(),
        Kind::Int64 => [i64::MIN, -1, 0, 1, i64::MAX].map(Value::I64).into(),
        Kind::Enum(_) => [i32::MIN, -1, 99, i32::MAX].map(Value::EnumNumber).into(),
        Kind::Message(it)
            if ["google.protobuf.Timestamp", "google.protobuf.Duration"]
                .contains(&it.full_name()) =>
        {
            let pairs = SECONDS.iter().flat_map(|seconds| {
                NANOS.iter().map(|nanos| {
                    let mut value = DynamicMessage::new(it.clone());
                    value.set_field_by_name("seconds", Value::I64(*seconds));
                    value.set_field_by_name("nanos", Value::I32(*nanos));
                    Value::Message(value)
                })
            });
            pairs.collect()
        }
        _ => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_number_panics() {
    let gateway = Gateway::start();
    let mut caller = Raw::connect(&gateway.grpc, None, 1 << 20).await;
    let mut asked = 0;
    for method in [methods(false), methods(true)].concat() {
        let (service, name) = method.split_once('/').expect("a path");
        let service = proto::DESCRIPTORS.get_service_by_name(service);
        let service = service.expect("known");
        let input = service.methods().find(|it| it.name() == name);
        let input = input.expect("known").input();
        for field in input.fields() {
            for value in edges(&field) {
                let mut request = DynamicMessage::new(input.clone());
                request.set_field(&field, value);
                let what = format!("{}: {request}", request.descriptor().name());
                let answered = caller.unread(&method, &request).await;
                let outcome = match answered {
                    // A stream that is open has accepted it.
                    Ok(_) if method.ends_with("/Subscribe") => continue,
                    Ok(unread) => unread.read().await,
                    Err(outcome) => outcome,
                };
                match outcome {
                    Outcome::Answered(_) => {}
                    Outcome::Refused(status) => assert_ne!(status.code(), tonic::Code::Internal),
                    Outcome::Reset(error) => panic!("{what}: {error}"),
                }
                asked += 1;
            }
        }
    }
    assert!(asked > 50, "{asked}");
    assert_eq!(gateway.metric("clerkcast_panics_total").await, 0.0);
    assert!(!gateway.log_text().contains("panic"));
}

/// Panics where its parent asks for it.
#[test]
fn panics_for_its_parent() {
    if std::env::var_os("CLERKCAST_TEST_PANICS").is_none() {
        return;
    }
    let level = "info".parse().expect("a level");
    let _log =
        clerkcast::telemetry::init(clerkcast::telemetry::LogFormat::Json, &level).expect("a log");
    for number in 0..1000 {
        let caught = std::panic::catch_unwind(|| panic!("number {number}"));
        assert!(caught.is_err());
    }
}

#[test]
fn a_panic_is_logged_within_the_limit() {
    let itself = std::env::current_exe().expect("a path");
    let output = Command::new(itself)
        .args(["--exact", "calls::numbers::panics_for_its_parent"])
        .args(["--nocapture", "--test-threads", "1"])
        .env("CLERKCAST_TEST_PANICS", "1")
        .env("RUST_BACKTRACE", "1")
        .output()
        .expect("it runs");
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    let lines: Vec<&str> = said.lines().collect();
    // Ten a second, and they take less than ten seconds.
    assert!((10..=100).contains(&lines.len()), "{}", lines.len());
    for line in lines {
        let line: serde_json::Value = serde_json::from_str(line).expect("a log line");
        assert_eq!(line["message"], "a thread panicked");
        assert!(line["location"].as_str().expect("a place").contains(".rs:"));
    }
}
