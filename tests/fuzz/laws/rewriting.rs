//! Bodies that something rewrote on their way.

use std::cell::Cell;

use arbitrary::Arbitrary;
use clerkcast::webhook::{HintKind, diagnose};
use serde_json::Value;

/// More than all tries together may write.
const TRIED_BYTES_MAX: usize = 20 << 20;

/// Whatever arrives, looking for what was done to it ends, and only what was signed is found.
/// What is laid out or escaped in another way means the same.
#[derive(Arbitrary, Debug)]
pub(crate) struct Rewriting {
    signed: Text,
    received: Received,
}

#[derive(Arbitrary, Debug)]
enum Text {
    Any(Vec<u8>),
    Strings(Vec<(String, String)>),
}

#[derive(Arbitrary, Debug)]
enum Received {
    Any(Vec<u8>),
    Pretty,
    Quoted,
    Marked,
    Cut(u16),
    Changed(u16, u8),
}

impl Rewriting {
    pub(crate) fn hold(self) {
        let signed = match self.signed {
            Text::Any(bytes) => bytes,
            Text::Strings(fields) => {
                let fields = fields.iter().map(|(key, text)| {
                    format!(
                        "{}:{}",
                        Value::from(key.as_str()),
                        Value::from(text.as_str())
                    )
                });
                format!("{{{}}}", fields.collect::<Vec<_>>().join(",")).into_bytes()
            }
        };
        let as_json: Option<Value> = serde_json::from_slice(&signed).ok();
        let received = match self.received {
            Received::Any(bytes) => bytes,
            Received::Pretty => as_json
                .as_ref()
                .map_or(Vec::new(), |value| format!("{value:#}").into_bytes()),
            Received::Quoted => Value::from(String::from_utf8_lossy(&signed))
                .to_string()
                .into_bytes(),
            Received::Marked => [b"\xef\xbb\xbf", &signed[..]].concat(),
            Received::Cut(at) => signed[..signed.len().min(at.into())].to_vec(),
            Received::Changed(at, to) => {
                let mut bytes = signed.clone();
                if let Some(byte) = bytes.get_mut(usize::from(at)) {
                    *byte = to;
                }
                bytes
            }
        };
        let (tried_bytes, found) = (Cell::new(0), Cell::new(false));
        let diagnosis = diagnose(&received, |tried| {
            tried_bytes.set(tried_bytes.get() + tried.len());
            found.set(tried == signed);
            found.get()
        });
        assert!(tried_bytes.get() <= TRIED_BYTES_MAX);
        assert_eq!(diagnosis.is_some(), found.get());
        let is_of_form = |kind| matches!(kind, HintKind::Layout | HintKind::Escaping);
        let value: Option<Value> = serde_json::from_slice(&received).ok();
        if let (Some(diagnosis), Some(value)) = (diagnosis, value)
            && is_of_form(diagnosis.kind)
        {
            assert_eq!(as_json, Some(value), "{}", diagnosis.hint);
        }
    }
}
