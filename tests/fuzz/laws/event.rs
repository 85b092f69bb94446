//! Bodies, once they are believed, and cursors.

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clerkcast::access::Redaction;
use clerkcast::clerk;
use clerkcast::clerk::catalog::CATALOG;
use clerkcast::event::{Cursor, Epoch, Position, Run, UnixMillis};
use clerkcast::proto::Event;
use prost::Message as _;

/// Any body becomes an event that decodes, whole and without what a policy removes, and
/// what filters see of it is what subscribers see.
#[derive(Arbitrary, Debug)]
pub(crate) enum Body {
    Any(Vec<u8>),
    Typed { type_index: u16, data: String },
}

impl Body {
    pub(crate) fn hold(self) {
        let body = match self {
            Self::Any(bytes) => bytes,
            Self::Typed { type_index, data } => {
                let name = CATALOG[usize::from(type_index) % CATALOG.len()].name;
                format!(r#"{{"data":{data},"object":"event","type":"{name}"}}"#).into_bytes()
            }
        };
        let envelope = clerk::Envelope {
            id: "msg_1",
            source: "default",
            send_time: UnixMillis::new(0),
        };
        let decoded = clerk::decode(envelope, &body);
        let event = Event::decode(&decoded.event[..]).expect("an event");
        let seen = decoded.attributes.as_ref();
        assert_eq!(
            (event.id.as_str(), event.source.as_str()),
            ("msg_1", "default")
        );
        assert_eq!(event.r#type, seen.event_type);
        assert_eq!(event.user_id, seen.user_id.unwrap_or_default());
        assert_eq!(event.session_id, seen.session_id.unwrap_or_default());
        let shown = REDACTION.event(seen.event_type, decoded.event[..].into());
        let shown = Event::decode(&shown[..]).expect("still an event");
        assert_eq!(shown.r#type, event.r#type);
        assert!(
            shown
                .http_request
                .is_none_or(|request| request == Default::default())
        );
        if let Some(payload) = REDACTION.payload(seen.event_type, &body) {
            assert!(std::str::from_utf8(&payload).is_ok() || std::str::from_utf8(&body).is_err());
        }
    }
}

/// As much as a policy can remove.
static REDACTION: LazyLock<Redaction> = LazyLock::new(|| {
    let sets = [
        "contact",
        "names",
        "metadata",
        "network",
        "backup_codes",
        "verifications",
    ];
    Redaction::new(&sets.map(str::to_owned), &[]).expect("sets")
});

/// A cursor is read as it was written, in this version and in those before it, and nothing
/// else is taken for one.
#[derive(Arbitrary, Debug)]
pub(crate) enum CursorText {
    Any(String),
    Numbers {
        epoch: u64,
        position: u64,
        run: u32,
    },
    /// Any content of any version, with the right check.
    Checked {
        version: u8,
        content: Vec<u8>,
    },
}

impl CursorText {
    pub(crate) fn hold(self) {
        match self {
            Self::Any(text) => {
                if let Ok(cursor) = text.parse::<Cursor>() {
                    Self::is_one(cursor, &text);
                }
            }
            Self::Numbers {
                epoch,
                position,
                run,
            } => Self::written(epoch, position, run),
            Self::Checked { version, content } => {
                let text = checked(version, &content);
                match text.parse::<Cursor>() {
                    Ok(cursor) => {
                        assert!(matches!((version, content.len()), (1, 16) | (3, 20)));
                        Self::is_one(cursor, &text);
                    }
                    Err(_) => assert!(!matches!((version, content.len()), (1, 16) | (3, 20))),
                }
            }
        }
    }

    fn written(epoch: u64, position: u64, run: u32) {
        let cursor = Cursor {
            epoch: Epoch::new(epoch),
            run: Run::new(run),
            position: Position::new(position),
        };
        let text = cursor.to_string();
        assert_eq!(text.parse(), Ok(cursor));
        assert_eq!(text.len(), Cursor::TEXT_BYTES);
        assert!(text.starts_with(|first: char| first.is_ascii_alphabetic()));
        assert!(text[1..].parse::<Cursor>().is_err());
        let numbers = [epoch.to_be_bytes(), position.to_be_bytes()].concat();
        let before_runs = checked(1, &numbers);
        let run = Run::NONE;
        assert_eq!(before_runs.parse(), Ok(Cursor { run, ..cursor }));
        let as_written = [&numbers[..], &cursor.run.number().to_be_bytes()].concat();
        assert_eq!(checked(3, &as_written), text);
    }

    /// What is read is what is written again, but for the version.
    fn is_one(cursor: Cursor, text: &str) {
        if text.len() == Cursor::TEXT_BYTES {
            assert_eq!(cursor.to_string(), text);
        } else {
            assert_eq!((text.len(), cursor.run), (26, Run::NONE));
        }
    }
}

/// A cursor's string, by its description.
fn checked(version: u8, content: &[u8]) -> String {
    let mut bytes = vec![version];
    bytes.extend(content);
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    let [a, b, c, d] = hash.to_be_bytes();
    bytes.extend([a ^ c, b ^ d]);
    URL_SAFE_NO_PAD.encode(bytes)
}
