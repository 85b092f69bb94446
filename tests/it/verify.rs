//! `clerkcast verify`, for bodies that something changed on their way.

use std::cell::Cell;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clerkcast::clerk::samples::SAMPLES;
use clerkcast::webhook::{HintKind, diagnose};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{OTHER_SECRET, SECRET, binary, sign};

/// A body as Clerk would sign it: without white space, its keys in no alphabetical order,
/// and what serializers disagree on in its strings.
fn signed_body(sample: &str, text: &str) -> String {
    let mut value: Value = serde_json::from_str(sample).expect("JSON");
    value["data"]["zz_text"] = text.into();
    value["data"]["empty"] = json!({"a": [], "o": {}, "n": [1, -2.50, 1e3, null]});
    backwards(&value)
}

/// Compact, with keys from last to first.
fn backwards(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().rev();
            let fields = fields.map(|(key, value)| format!("{}:{}", json!(key), backwards(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(backwards).collect();
            format!("[{}]", elements.join(","))
        }
        leaf => leaf.to_string(),
    }
}

/// The compact text with other white space; `indent` breaks lines.
fn spaced(compact: &str, comma: &str, colon: &str, indent: Option<&str>) -> String {
    let mut out = String::new();
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    let characters: Vec<char> = compact.chars().collect();
    for (at, character) in characters.iter().enumerate() {
        if in_string {
            out.push(*character);
            in_string = escaped || *character != '"';
            escaped = !escaped && *character == '\\';
            continue;
        }
        let next = characters.get(at + 1);
        let line =
            |depth: usize| indent.map_or(String::new(), |by| format!("\n{}", by.repeat(depth)));
        match character {
            '{' | '[' => {
                out.push(*character);
                depth += 1;
                if !matches!(next, Some('}' | ']')) {
                    out.push_str(&line(depth));
                }
            }
            '}' | ']' => {
                depth -= 1;
                if !out.ends_with(['{', '[']) {
                    out.push_str(&line(depth));
                }
                out.push(*character);
            }
            ',' => out.push_str(&format!("{comma}{}", line(depth))),
            ':' => out.push_str(colon),
            _ => {
                in_string = *character == '"';
                out.push(*character);
            }
        }
    }
    out
}

/// The characters that `is_escaped` names, as `\u` and hexadecimal digits.
fn escaped(text: &str, is_escaped: impl Fn(char) -> bool, uppercase: bool) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if !is_escaped(character) {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            out.push_str(&match uppercase {
                true => format!("\\u{unit:04X}"),
                false => format!("\\u{unit:04x}"),
            });
        }
    }
    out
}

fn non_ascii(text: &str) -> String {
    escaped(text, |c| !c.is_ascii(), false)
}

fn html(text: &str) -> String {
    escaped(text, |c| "<>&".contains(c), false)
}

fn in_lines(text: &str) -> String {
    let lines = text.as_bytes().chunks(76);
    let lines = lines.map(|line| format!("{}\r\n", String::from_utf8_lossy(line)));
    lines.collect()
}

fn percent(text: &str) -> String {
    let bytes = text.bytes().map(|byte| match byte {
        b' ' => "+".to_owned(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    bytes.collect()
}

fn latin_1_read_as_utf_8(text: &str) -> String {
    text.bytes().map(char::from).collect()
}

type Change = fn(&str) -> Vec<u8>;

/// What frameworks, proxies and editors do.
fn changes() -> Vec<(HintKind, &'static str, Change)> {
    use HintKind::{Encoding, Escaping, Layout, Wrapping};
    vec![
        (Layout, "newline", |body| format!("{body}\n").into()),
        (Layout, "spaces at the end", |body| {
            format!("{body}  \r\n").into()
        }),
        (Layout, "spaces around", |body| {
            format!(" \n{body}\n").into()
        }),
        (Layout, "space after colons", |body| {
            spaced(body, ",", ": ", None).into()
        }),
        (Layout, "json.dumps", |body| {
            spaced(body, ", ", ": ", None).into()
        }),
        (Layout, "two spaces", |body| {
            spaced(body, ",", ": ", Some("  ")).into()
        }),
        (Layout, "four spaces", |body| {
            spaced(body, ",", ": ", Some("    ")).into()
        }),
        (Layout, "tabs, CRLF", |body| {
            spaced(body, ",", ": ", Some("\t"))
                .replace('\n', "\r\n")
                .into()
        }),
        (Layout, "a space before colons", |body| {
            spaced(body, ",", " : ", Some("   ")).into()
        }),
        (Escaping, "ASCII", |body| non_ascii(body).into()),
        (Escaping, "ASCII, capitals", |body| {
            escaped(body, |c| !c.is_ascii(), true).into()
        }),
        (Escaping, "slashes", |body| body.replace('/', "\\/").into()),
        (Escaping, "PHP", |body| {
            non_ascii(&body.replace('/', "\\/")).into()
        }),
        (Escaping, "Go", |body| html(body).into()),
        (Escaping, ".NET", |body| {
            escaped(body, |c| "<>&'+`".contains(c) || !c.is_ascii(), true).into()
        }),
        (Escaping, "HTML", |body| {
            let body = body.replace('&', "&amp;").replace('"', "&quot;");
            body.replace('<', "&lt;").replace('>', "&gt;").into()
        }),
        (Encoding, "base64", |body| STANDARD.encode(body).into()),
        (Encoding, "base64 for URLs", |body| {
            URL_SAFE_NO_PAD.encode(body).into()
        }),
        (Encoding, "base64 in lines", |body| {
            in_lines(&STANDARD.encode(body)).into()
        }),
        (Encoding, "hexadecimal", |body| {
            body.bytes()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
                .into()
        }),
        (Encoding, "byte-order mark", |body| {
            format!("\u{feff}{body}").into()
        }),
        (Encoding, "UTF-16", |body| {
            let units = std::iter::once(0xfeff).chain(body.encode_utf16());
            units.flat_map(u16::to_le_bytes).collect()
        }),
        (Encoding, "UTF-8 taken for Latin-1", |body| {
            latin_1_read_as_utf_8(body).into()
        }),
        (Encoding, "Buffer", |body| {
            json!({"type": "Buffer", "data": body.as_bytes()})
                .to_string()
                .into()
        }),
        (Wrapping, "string", |body| json!(body).to_string().into()),
        (Wrapping, "field", |body| {
            json!({"httpMethod": "POST", "headers": {"svix-id": "msg_1"}, "body": body})
                .to_string()
                .into()
        }),
        (Wrapping, "object in a field", |body| {
            format!("{{\"event\": {body}, \"received_at\": \"2026-11-26\"}}").into()
        }),
        (Wrapping, "a queue's records", |body| {
            json!({"Records": [{"messageId": "1", "body": body}]})
                .to_string()
                .into()
        }),
        (Wrapping, "quotes", |body| format!("'{body}'").into()),
        (Wrapping, "form", |body| format!("payload={body}").into()),
    ]
}

/// Changes that two hands made, and the kind of the later one.
fn pairs() -> Vec<(HintKind, &'static str, Change)> {
    use HintKind::{Encoding, Layout, Wrapping};
    vec![
        (Layout, "Python", |body| {
            spaced(&non_ascii(body), ", ", ": ", None).into()
        }),
        (Layout, "PHP, pretty", |body| {
            spaced(&body.replace('/', "\\/"), ",", ": ", Some("    ")).into()
        }),
        (Layout, "Go, newline", |body| {
            format!("{}\n", html(body)).into()
        }),
        (Encoding, "base64 of a file", |body| {
            STANDARD.encode(format!("{body}\n")).into()
        }),
        (Encoding, "byte-order mark and lines", |body| {
            format!("\u{feff}{}", spaced(body, ",", ": ", Some("  "))).into()
        }),
        (Encoding, "form, encoded", |body| {
            format!("payload%3D{}", percent(body)).into()
        }),
        (Wrapping, "isBase64Encoded", |body| {
            json!({"isBase64Encoded": true, "body": STANDARD.encode(body)})
                .to_string()
                .into()
        }),
        (Wrapping, "string of a string", |body| {
            json!(json!(body).to_string()).to_string().into()
        }),
        (Wrapping, "pretty object in a field", |body| {
            spaced(
                &format!("{{\"event\":{body},\"n\":1}}"),
                ",",
                ": ",
                Some("  "),
            )
            .into()
        }),
        (Wrapping, "string with slashes escaped", |body| {
            json!({"body": body.replace('/', "\\/")}).to_string().into()
        }),
    ]
}

const TEXT: &str =
    "Zoë 🦀 <a href=\"https://a.example/?x=1&y='2'\">a+b=`c`</a>\n\t\u{2028}\u{7f}\\";

#[test]
fn verify_names_what_was_done_to_the_body() {
    for sample in SAMPLES {
        let body = signed_body(sample.body, TEXT);
        for (kind, name, change) in changes().into_iter().chain(pairs()) {
            let received = change(&body);
            let found = diagnose(&received, |tried| tried == body.as_bytes());
            let found = found.unwrap_or_else(|| panic!("{name} of {}", sample.event_type));
            assert_eq!(found.kind, kind, "{name}: {}", found.hint);
            assert!(found.hint.starts_with("it verifies ") && found.hint.contains(": "));
        }
        // Clerk may sign what others escape, or the file itself.
        for signed in [
            html(&body),
            non_ascii(&body),
            body.replace('/', "\\/"),
            spaced(&body, ",", ": ", Some("  ")),
            sample.body.to_owned(),
        ] {
            let parsed: Value = serde_json::from_str(&signed).expect("JSON");
            let ordered = if signed == sample.body {
                parsed.to_string()
            } else {
                backwards(&parsed)
            };
            for received in [
                ordered.clone(),
                format!("{ordered}\n"),
                spaced(&ordered, ", ", ": ", None),
            ] {
                let found = diagnose(received.as_bytes(), |tried| tried == signed.as_bytes());
                assert!(
                    signed == received || found.is_some(),
                    "{signed} from {received}"
                );
            }
        }
    }
    // Latin-1 has no crab.
    let body = signed_body(SAMPLES[0].body, "Zoë");
    let latin_1: Vec<u8> = body
        .chars()
        .map(|c| u8::try_from(c).expect("Latin-1"))
        .collect();
    let found = diagnose(&latin_1, |tried| tried == body.as_bytes());
    assert_eq!(found.map(|found| found.kind), Some(HintKind::Encoding));
}

#[test]
fn a_large_body_is_tried_in_a_bounded_number_of_ways() {
    let text = "Zoë 🦀 </a>&'".repeat(29_000);
    let body = signed_body(SAMPLES[0].body, &text);
    for received in [
        format!("{body}\n"),
        non_ascii(&body),
        json!(body).to_string(),
    ] {
        assert!(received.len() > 450_000, "{}", received.len());
        let found = diagnose(received.as_bytes(), |tried| tried == body.as_bytes());
        assert!(found.is_some());
        let tried_bytes = Cell::new(0);
        let count = |tried: &[u8]| {
            tried_bytes.set(tried_bytes.get() + tried.len());
            false
        };
        assert_eq!(diagnose(received.as_bytes(), count), None);
        assert!(tried_bytes.get() <= 20 << 20, "{}", tried_bytes.get());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is done to its form, a body whose content was changed is never found to be
    /// the one that was signed.
    #[test]
    fn verify_never_says_yes_to_another_body(
        sample in prop::sample::select(SAMPLES),
        at in any::<prop::sample::Index>(),
        change in any::<prop::sample::Index>(),
    ) {
        let body = signed_body(sample.body, TEXT);
        let letters = body.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric());
        let letters: Vec<(usize, char)> = letters.collect();
        let (at, letter) = letters[at.index(letters.len())];
        let other = match letter {
            '0' | 'z' | 'Z' => '1',
            letter => char::from(letter as u8 - 1),
        };
        let mut forged = body.clone();
        forged.replace_range(at..=at, &other.to_string());
        let all: Vec<_> = changes().into_iter().chain(pairs()).collect();
        let (_, name, change) = all[change.index(all.len())];
        for received in [forged.clone().into_bytes(), change(&forged)] {
            let found = diagnose(&received, |tried| tried == body.as_bytes());
            prop_assert_eq!(found, None, "{} of {}", name, forged);
        }
    }
}

/// The command's answer to a body: exit code, standard output, and what `--json` says.
fn verify(secret: &str, signed: &str, received: &[u8]) -> (Option<i32>, String, Value) {
    let headers = sign(SECRET, "msg_1", 1_731_705_121, signed.as_bytes());
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), received).expect("written");
    let run = |json: &[&str]| {
        let output = binary()
            .args(["verify", "--secret", secret, "--id", &headers[0].1])
            .args([
                "--timestamp",
                &headers[1].1,
                "--signature",
                &headers[2].1,
                "--payload",
            ])
            .arg(file.path())
            .args(json)
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        (output.status.code(), text)
    };
    let (code, text) = run(&[]);
    let (_, json) = run(&["--json"]);
    (code, text, serde_json::from_str(&json).expect("JSON"))
}

#[test]
fn verify_reports_what_was_undone_and_still_refuses_the_body() {
    let body = signed_body(SAMPLES[0].body, TEXT);
    for (kind, name, change) in changes().into_iter().chain(pairs()) {
        let (code, text, verdict) = verify(SECRET, &body, &change(&body));
        assert_eq!(code, Some(1), "{name}");
        assert!(text.starts_with("not verified: "), "{text}");
        assert_eq!(verdict["verified"], false);
        assert_eq!(verdict["hint_kind"], kind.name(), "{name}: {verdict}");
        let hint = verdict["hint"].as_str().expect("a hint");
        assert!(text.contains(&format!("hint: {hint}\n")), "{text}");
    }
    let (code, text, verdict) = verify(SECRET, &body, body.as_bytes());
    assert_eq!((code, &verdict["verified"]), (Some(0), &json!(true)));
    assert_eq!(
        (&verdict["hint"], &verdict["hint_kind"], &verdict["note"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert!(!text.contains("hint"));
    // Where nothing explains it, what is left is said.
    for (secret, received, note) in [
        (OTHER_SECRET, body.as_str(), "the body is JSON"),
        (SECRET, "{\"type\":\"user.created\"", "the body is not JSON"),
        (SECRET, "", "the body is empty"),
    ] {
        let (code, text, verdict) = verify(secret, &body, received.as_bytes());
        assert_eq!(code, Some(1));
        assert!(text.contains(note) && text.contains("note: "), "{text}");
        assert_eq!(
            (&verdict["hint"], &verdict["hint_kind"]),
            (&Value::Null, &Value::Null)
        );
        assert!(
            verdict["note"]
                .as_str()
                .is_some_and(|said| said.contains(note))
        );
    }
}

#[test]
fn verify_without_arguments_shows_an_example() {
    let output = binary().arg("verify").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        shown.contains("Examples:") && shown.contains("clerkcast verify --id msg_"),
        "{shown}"
    );
}
