//! Deliveries as `clerk webhooks listen --json` prints them, one JSON object a line.

use std::collections::HashMap;
use std::path::Path;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

use super::failure::Failure;
use super::input::{DELIVERIES_BYTES_MAX, read_input};

/// Headers that are about the recorded connection, not about the delivery.
const OF_CONNECTION: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A delivery as it was received.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) event_type: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Delivery {
    /// The svix-id header.
    pub(super) fn id(&self) -> &str {
        let id = self.headers.get("svix-id");
        id.and_then(|id| id.to_str().ok()).unwrap_or_default()
    }

    /// The headers to post it with again.
    pub(super) fn headers_to_post(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        for name in OF_CONNECTION {
            headers.remove(name);
        }
        headers
    }
}

/// A line; those of other types, such as `ready`, are about the connection to Clerk.
#[derive(Deserialize)]
struct Line {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    event_type: Option<String>,
    #[serde(default)]
    headers: Option<HashMap<String, serde_json::Value>>,
    #[serde(default)]
    body_b64: Option<String>,
}

/// Reads the deliveries of the file that `--delivery` names; at least one.
pub(super) fn read(path: &Path) -> Result<Vec<Delivery>, Failure> {
    parse(&read_input("--delivery", path, DELIVERIES_BYTES_MAX)?)
}

fn parse(text: &[u8]) -> Result<Vec<Delivery>, Failure> {
    let mut deliveries = Vec::new();
    for line in serde_json::Deserializer::from_slice(text).into_iter::<Line>() {
        let line = line.map_err(|_| unexpected())?;
        let is_other = line.kind.as_deref().is_some_and(|kind| kind != "event");
        match (line.headers, line.body_b64) {
            (Some(headers), Some(body)) => deliveries.push(Delivery {
                event_type: line.event_type.unwrap_or_default(),
                headers: header_map(&headers),
                body: STANDARD
                    .decode(body)
                    .map_err(|_| usage("body_b64 is not base64"))?
                    .into(),
            }),
            _ if is_other => {}
            _ => return Err(unexpected()),
        }
    }
    match deliveries.is_empty() {
        true => Err(unexpected()),
        false => Ok(deliveries),
    }
}

fn header_map(headers: &HashMap<String, serde_json::Value>) -> HeaderMap {
    let valid = headers.iter().filter_map(|(name, value)| {
        // Some tools print each header as a list.
        let value = value
            .as_str()
            .or_else(|| value.as_array()?.first()?.as_str())?;
        let name = HeaderName::from_bytes(name.to_lowercase().as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value.trim()).ok()?))
    });
    valid.collect()
}

fn unexpected() -> Failure {
    usage(
        "expected lines as `clerk webhooks listen --json` prints them, each a JSON object with `headers` and `body_b64`",
    )
}

fn usage(message: &str) -> Failure {
    Failure::Usage(format!("--delivery: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = r#"{"type":"ready","relay_url":"https://relay","forward_to":"http://a"}"#;
    const EVENT: &str = r#"{"type":"event","svix_id":"msg_1","event_type":"user.created","headers":{"Svix-Id":"msg_1","host":"relay","x":["a","b"]},"body_b64":"e30=","forward_status":200,"latency_ms":3}"#;

    #[test]
    fn lines_of_deliveries_are_read_and_others_are_passed_over() {
        let text = format!("{READY}\n{EVENT}\n{READY}\n{EVENT}\n");
        let deliveries = parse(text.as_bytes()).expect("two");
        assert_eq!(deliveries.len(), 2);
        let [first, _] = &deliveries[..] else {
            panic!("two");
        };
        assert_eq!((first.id(), &*first.event_type), ("msg_1", "user.created"));
        assert_eq!(&first.body[..], b"{}");
        let headers = first.headers_to_post();
        assert_eq!(headers.get("x").expect("kept"), "a");
        assert!(!headers.contains_key("host"));
        // One object on several lines, with the two fields alone.
        let pretty = "{\n \"headers\": {},\n \"body_b64\": \"\"\n}";
        assert_eq!(parse(pretty.as_bytes()).expect("one").len(), 1);
    }

    #[test]
    fn what_is_not_a_delivery_is_reported() {
        for (text, expected) in [
            ("", "expected lines"),
            (READY, "expected lines"),
            ("nonsense", "expected lines"),
            (r#"{"type":"event"}"#, "expected lines"),
            (r#"{"headers":{}}"#, "expected lines"),
            (r#"{"headers":{},"body_b64":"%"}"#, "not base64"),
        ] {
            let failure = parse(text.as_bytes()).expect_err(text);
            assert!(failure.to_string().contains(expected), "{text}: {failure}");
            assert_eq!(failure.exit_code(), 2);
        }
    }
}
