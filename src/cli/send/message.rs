//! What `send` posts.

use std::path::Path;

use axum::http::HeaderMap;
use bytes::Bytes;

use crate::clerk::samples::SAMPLES;
use crate::cli::delivery::{self, Delivery};
use crate::cli::failure::Failure;
use crate::cli::input::{BODY_BYTES_MAX, read_input};
use crate::cli::post::{Signer, new_id};
use crate::event::{Excerpt, UnixMillis};
use crate::filter::nearest::Suggestions;

/// What to post, perhaps several times.
pub(super) enum Message {
    Sample {
        event_type: &'static str,
        body: &'static str,
    },
    File(Bytes),
    Recorded(Delivery),
}

/// One delivery of a message, which is posted until it is accepted.
pub(super) enum Outgoing<'a> {
    /// Signed at each attempt.
    Signed {
        signer: &'a Signer,
        id: String,
        body: Bytes,
    },
    /// As it was recorded.
    Recorded(&'a Delivery),
}

impl Message {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Sample { event_type, .. } => event_type,
            Self::File(_) => "file",
            Self::Recorded(delivery) => &delivery.event_type,
        }
    }

    /// The delivery: a sample with the present time, or a file as it is, each with its own id
    /// unless one is given.
    pub(super) fn deliver<'a>(
        &'a self,
        signer: Option<&'a Signer>,
        id: Option<&str>,
    ) -> Result<Outgoing<'a>, Failure> {
        let body = match self {
            Self::Recorded(delivery) => return Ok(Outgoing::Recorded(delivery)),
            Self::File(bytes) => bytes.clone(),
            Self::Sample { body, .. } => sample_as_of_now(body)?,
        };
        Ok(Outgoing::Signed {
            signer: signer.ok_or_else(crate::cli::secrets::no_secret)?,
            id: id.map_or_else(new_id, |id| Ok(id.to_owned()))?,
            body,
        })
    }
}

impl Outgoing<'_> {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Signed { id, .. } => id,
            Self::Recorded(delivery) => delivery.id(),
        }
    }

    /// What to post at this attempt.
    pub(super) fn attempt(&self) -> Result<(HeaderMap, Bytes), Failure> {
        match self {
            Self::Signed { signer, id, body } => Ok((signer.headers(id, body)?, body.clone())),
            Self::Recorded(delivery) => Ok((delivery.headers_to_post(), delivery.body.clone())),
        }
    }
}

/// The deliveries of the file that `--delivery` names.
pub(super) fn recorded(path: &Path) -> Result<Vec<Message>, Failure> {
    let deliveries = delivery::read(path)?;
    Ok(deliveries.into_iter().map(Message::Recorded).collect())
}

/// The content of the file that `--file` names.
pub(super) fn file(path: &Path) -> Result<Vec<Message>, Failure> {
    let bytes = read_input("--file", path, BODY_BYTES_MAX)?;
    Ok(vec![Message::File(bytes.into())])
}

/// Samples of these types; of all, if there are none.
pub(super) fn samples(types: &[String]) -> Result<Vec<Message>, Failure> {
    let all = ["*".to_owned()];
    let asked = if types.is_empty() { &all[..] } else { types };
    let mut messages = Vec::new();
    for wanted in asked {
        let before = messages.len();
        let matching = SAMPLES
            .iter()
            .filter(|sample| match wanted.strip_suffix('*') {
                Some(prefix) => sample.event_type.starts_with(prefix),
                None => sample.event_type == wanted,
            });
        messages.extend(matching.map(|sample| Message::Sample {
            event_type: sample.event_type,
            body: sample.body,
        }));
        if messages.len() == before {
            return Err(Failure::Usage(format!(
                "TYPE: no sample of type {}; {}",
                Excerpt(wanted),
                advice(wanted)
            )));
        }
    }
    Ok(messages)
}

/// The sample with the present as its `timestamp`.
pub(in crate::cli) fn sample_as_of_now(body: &str) -> Result<Bytes, Failure> {
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(body);
    let mut event =
        parsed.map_err(|error| Failure::Failed(format!("a sample is broken: {error}")))?;
    event["timestamp"] = UnixMillis::now().milliseconds().into();
    Ok(event.to_string().into())
}

/// A suggestion in place of a type without a sample.
fn advice(wanted: &str) -> String {
    let suggestions = Suggestions::new(SAMPLES.iter().map(|sample| sample.event_type));
    let samples = suggestions.allowed(|_| true);
    let name = wanted.trim_end_matches('*').trim_end_matches('.');
    match samples.nearest(name) {
        Some(nearest) => format!("did you mean {}?", Excerpt(&nearest)),
        None => format!("there are {}", samples.families()),
    }
}
