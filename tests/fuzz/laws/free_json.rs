//! Free JSON, as what a big number is and how deep a value lies would have it.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use clerkcast::clerk::{self, DriftKind};
use clerkcast::event::UnixMillis;
use clerkcast::proto::Event;
use clerkcast::proto::event::Data;
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

/// Deeper objects and arrays cannot be carried; the free value itself is the first level.
const LEVELS_MAX: usize = 28;
/// Of one event, as drift.
const DRIFT_MAX: usize = 16;

/// What free JSON holds arrives exactly, or is missing alone and noted as drift; the payload
/// is not touched.
#[derive(Arbitrary, Debug)]
pub(crate) struct FreeJson {
    fields: Vec<(Key, Json)>,
}

#[derive(Arbitrary, Debug)]
enum Json {
    Null,
    Bool(bool),
    Near(i8),
    Integer(i128),
    LongInteger(Vec<u8>),
    Fraction(f64),
    Digits { fraction: f64, precision: u8 },
    BeyondDouble(u16),
    Text(String),
    Array(Vec<Self>),
    Object(Vec<(Key, Self)>),
    Nested { levels: u8, value: Box<Self> },
}

/// Few, so that some occur twice.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Key(u8);

impl Key {
    fn name(self) -> String {
        format!("key_{}", self.0 % 6)
    }
}

impl FreeJson {
    pub(crate) fn hold(self) {
        let mut drift = Vec::new();
        let text = object_text(&self.fields);
        let body = format!(
            r#"{{"type":"user.updated","data":{{"id":"user_1","unsafe_metadata":{text},"username":"ada"}}}}"#
        );
        let expected = object(&self.fields, LEVELS_MAX, "data.unsafe_metadata", &mut drift);
        let envelope = clerk::Envelope {
            id: "msg_1",
            source: "default",
            send_time: UnixMillis::new(0),
        };
        let decoded = clerk::decode(envelope, body.as_bytes());
        let event = Event::decode(&decoded.event[..]).expect("an event");
        let Some(Data::User(user)) = event.data else {
            panic!("a user")
        };
        assert_eq!(user.username.as_deref(), Some("ada"));
        assert_eq!(user.unsafe_metadata, expected, "{text}");
        let noted = decoded.drift.iter().map(|one| {
            assert_eq!(one.kind, DriftKind::UnexpectedValue);
            one.path.clone()
        });
        let noted: Vec<String> = noted.collect();
        drift.truncate(DRIFT_MAX);
        assert_eq!(noted, drift, "{text}");
    }
}

fn object_text(fields: &[(Key, Json)]) -> String {
    let fields = fields
        .iter()
        .map(|(key, value)| format!("\"{}\":{}", key.name(), value.text()));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn object(
    fields: &[(Key, Json)],
    levels: usize,
    path: &str,
    drift: &mut Vec<String>,
) -> Option<Struct> {
    let levels = levels.checked_sub(1)?;
    let mut carried = BTreeMap::new();
    for (at, (key, value)) in fields.iter().enumerate() {
        let name = key.name();
        if fields[at + 1..]
            .iter()
            .any(|(later, _)| later.name() == name)
        {
            continue;
        }
        let path = format!("{path}.{name}");
        match value.carried(levels, &path, drift) {
            Some(value) => drop(carried.insert(name, value)),
            None => drift.push(path),
        }
    }
    Some(Struct { fields: carried })
}

impl Json {
    fn text(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(truth) => truth.to_string(),
            Self::Near(offset) => near(*offset).to_string(),
            Self::Integer(integer) => integer.to_string(),
            Self::LongInteger(digits) => long_integer(digits),
            Self::Fraction(fraction) => format!("{:e}", finite(*fraction)),
            Self::Digits {
                fraction,
                precision,
            } => digits(*fraction, *precision),
            Self::BeyondDouble(exponent) => format!("1e{}", 309 + u32::from(*exponent)),
            Self::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Self::Array(elements) => {
                let elements = elements.iter().map(Self::text);
                format!("[{}]", elements.collect::<Vec<_>>().join(","))
            }
            Self::Object(fields) => object_text(fields),
            Self::Nested { levels, value } => {
                let levels = usize::from(levels % 40);
                let (open, close) = ("[{\"a\":".repeat(levels), "}]".repeat(levels));
                format!("{open}{}{close}", value.text())
            }
        }
    }

    /// What protobuf carries of it.
    fn carried(&self, levels: usize, path: &str, drift: &mut Vec<String>) -> Option<Value> {
        let kind = match self {
            Self::Null => Kind::NullValue(0),
            Self::Bool(truth) => Kind::BoolValue(*truth),
            Self::Near(offset) => Kind::NumberValue(exact(near(*offset))?),
            Self::Integer(integer) => Kind::NumberValue(exact(*integer)?),
            // As long as it is, it is beyond 2^53.
            Self::LongInteger(_) | Self::BeyondDouble(_) => return None,
            Self::Fraction(fraction) => Kind::NumberValue(finite(*fraction)),
            Self::Digits { fraction, .. } => Kind::NumberValue(finite(*fraction)),
            Self::Text(text) => Kind::StringValue(text.clone()),
            Self::Array(elements) => Kind::ListValue(list(elements, levels, path, drift)?),
            Self::Object(fields) => Kind::StructValue(object(fields, levels, path, drift)?),
            Self::Nested {
                levels: nested,
                value,
            } => return value.carried_below(usize::from(nested % 40), levels, path, drift),
        };
        Some(Value { kind: Some(kind) })
    }

    /// The same inside as many arrays of one object each.
    fn carried_below(
        &self,
        nested: usize,
        levels: usize,
        path: &str,
        drift: &mut Vec<String>,
    ) -> Option<Value> {
        let Some(nested) = nested.checked_sub(1) else {
            return self.carried(levels, path, drift);
        };
        let levels = levels.checked_sub(1)?;
        let path = format!("{path}[]");
        let inner = levels.checked_sub(1).map(|levels| {
            let below = format!("{path}.a");
            let value = self.carried_below(nested, levels, &below, drift);
            if value.is_none() {
                drift.push(below);
            }
            let fields = value.map(|value| ("a".to_owned(), value));
            let fields = fields.into_iter().collect();
            Kind::StructValue(Struct { fields })
        });
        if inner.is_none() {
            drift.push(path);
        }
        let element = Value {
            kind: Some(inner.unwrap_or(Kind::NullValue(0))),
        };
        let list = ListValue {
            values: vec![element],
        };
        Some(Value {
            kind: Some(Kind::ListValue(list)),
        })
    }
}

fn list(
    elements: &[Json],
    levels: usize,
    path: &str,
    drift: &mut Vec<String>,
) -> Option<ListValue> {
    let levels = levels.checked_sub(1)?;
    let path = format!("{path}[]");
    let values = elements.iter().map(|element| {
        let value = element.carried(levels, &path, drift);
        value.unwrap_or_else(|| {
            drift.push(path.clone());
            Value {
                kind: Some(Kind::NullValue(0)),
            }
        })
    });
    Some(ListValue {
        values: values.collect(),
    })
}

/// An integer around 2^53 or its negative.
fn near(offset: i8) -> i128 {
    let edge = if offset % 2 == 0 { 1_i128 } else { -1 } << 53;
    edge + i128::from(offset / 2)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "within 2^53, where each integer is a double"
)]
fn exact(integer: i128) -> Option<f64> {
    (integer.unsigned_abs() <= 1 << 53).then_some(integer as f64)
}

fn long_integer(digits: &[u8]) -> String {
    let digits = digits.iter().map(|digit| char::from(b'0' + digit % 10));
    format!("-9{}{}", "0".repeat(16), digits.collect::<String>())
}

fn finite(fraction: f64) -> f64 {
    if fraction.is_finite() { fraction } else { 0.1 }
}

/// With so many digits after the point that no other double is as near.
fn digits(fraction: f64, precision: u8) -> String {
    format!("{:.*e}", 17 + usize::from(precision), finite(fraction))
}
