//! The tables of `docs/reference.md` against the descriptors: every field and frame is in them,
//! with its name in JSON, and nothing else.

use std::collections::BTreeSet;

use clerkcast::api::reason;
use clerkcast::proto::DESCRIPTORS;
use prost_reflect::MessageDescriptor;

use super::page;

/// The section of the page below this heading.
fn section(heading: &str) -> String {
    let page = page("docs/reference.md");
    let rest = page.split(&format!("\n## {heading}\n")).nth(1);
    let rest = rest.unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n## ").next().unwrap_or_default().to_owned()
}

/// The cells of the rows of the tables in a text, without what stands around code.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| {
        row.split('|')
            .skip(1)
            .map(|cell| cell.trim().trim_matches('`'))
            .collect()
    })
}

fn message(name: &str) -> MessageDescriptor {
    let found = DESCRIPTORS.get_message_by_name(name);
    found.unwrap_or_else(|| panic!("no message {name}"))
}

/// The names of the fields in the proto file and in JSON.
fn names(message: &MessageDescriptor) -> BTreeSet<(String, String)> {
    let fields = message.fields();
    fields
        .map(|field| (field.name().to_owned(), field.json_name().to_owned()))
        .collect()
}

fn pair(name: &str, json: &str) -> (String, String) {
    (name.to_owned(), json.to_owned())
}

#[test]
fn the_reference_has_every_field_of_an_event() {
    let text = section("Events");
    let mut documented = BTreeSet::new();
    for row in rows(&text) {
        match row[..] {
            // Which types have the field, then the field.
            [_, name, json, of, _] => {
                let of = of.trim_matches('`');
                let field = message("clerkcast.v1.Event").get_field_by_name(name);
                if let Some(field) = field {
                    let kind = field.kind();
                    let kind = kind.as_message().expect("a message");
                    assert!(kind.full_name() == of || kind.name() == of, "{row:?}");
                    documented.insert(pair(name, json));
                } else {
                    assert_eq!(name, "field", "{row:?}");
                }
            }
            [name, json, _, _] if name != "field" => {
                documented.insert(pair(name, json));
            }
            _ => {}
        }
    }
    assert_eq!(documented, names(&message("clerkcast.v1.Event")));
}

#[test]
fn the_reference_has_every_frame() {
    let text = section("Frames");
    let rows = rows(&text).filter(|row| row[0] != "frame");
    let documented: BTreeSet<_> = rows.map(|row| pair(row[0], row[1])).collect();
    let mut frames = names(&message("clerkcast.v1.SubscribeResponse"));
    frames.remove(&pair("cursor", "cursor"));
    assert_eq!(documented, frames);
}

#[test]
fn the_reference_has_every_field_of_a_request_and_of_a_filter() {
    for (heading, name, elsewhere) in [
        (
            "Starting and ending",
            "clerkcast.v1.SubscribeRequest",
            &["filter"][..],
        ),
        ("Filters", "clerkcast.v1.EventFilter", &[]),
    ] {
        let text = section(heading);
        let documented: BTreeSet<String> = rows(&text)
            .map(|row| row[0].to_owned())
            .filter(|name| !name.starts_with("field"))
            .collect();
        let message = message(name);
        let fields = message.fields().map(|field| field.name().to_owned());
        let fields = fields.filter(|name| !elsewhere.contains(&name.as_str()));
        assert_eq!(documented, fields.collect(), "{heading}");
    }
}

#[test]
fn the_reference_has_every_reason() {
    let text = section("Reasons");
    for reason in reason::ALL {
        assert!(text.contains(&format!("`{reason}`")), "no {reason}");
    }
}
