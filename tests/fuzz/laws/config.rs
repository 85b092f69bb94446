//! What an operator writes.

use std::collections::BTreeSet;

use arbitrary::Arbitrary;
use clerkcast::app::FileConfig;

use super::SECRET;

/// Whatever a configuration file holds, it is taken or refused, and no message repeats a
/// secret of it.
#[derive(Arbitrary, Debug)]
pub(crate) struct ConfigFile {
    lines: Vec<Line>,
}

#[derive(Arbitrary, Debug)]
enum Line {
    Table(u8),
    Setting(u8, Value),
    Any(String),
}

#[derive(Arbitrary, Debug)]
enum Value {
    Secret,
    Secrets,
    Cut,
    Bare,
    Number(i64),
    Text(String),
}

const TABLES: [&str; 4] = ["[[sources]]", "[[principals]]", "[anonymous]", "[other]"];
const KEYS: [&str; 18] = [
    "name",
    "signing_secrets",
    "signing_secrets_env",
    "instance_id",
    "token_hash",
    "token_hashes",
    "client_certificate",
    "types",
    "sources",
    "redact",
    "grant",
    "payload",
    "max_streams",
    "http_listen",
    "retain_for",
    "log_level",
    "grpc_open",
    "no_such_key",
];
/// What must not be repeated of [`SECRET`].
const SECRET_PART: &str = "C2FVsBQIhrscChlQIMV";

impl ConfigFile {
    pub(crate) fn hold(self) {
        let lines = self.lines.iter().map(Line::text);
        let text = lines.collect::<Vec<_>>().join("\n");
        let keeps = |error: anyhow::Error| {
            let said = format!("{error:#}");
            assert!(!said.contains(SECRET_PART), "{said}");
        };
        let file = match FileConfig::parse("clerkcast.toml", &text) {
            Ok(file) => file,
            Err(error) => return keeps(error),
        };
        if let Err(error) = file.sources() {
            keeps(error);
        }
        let sources = BTreeSet::from(["default".to_owned()]);
        if let Err(error) = file.principals(&sources, false) {
            keeps(error);
        }
    }
}

impl Line {
    fn text(&self) -> String {
        let one_of = |names: &[&str], index: u8| names[usize::from(index) % names.len()].to_owned();
        match self {
            Self::Table(index) => one_of(&TABLES, *index),
            Self::Setting(key, value) => format!("{} = {}", one_of(&KEYS, *key), value.text()),
            Self::Any(text) => text.clone(),
        }
    }
}

impl Value {
    fn text(&self) -> String {
        match self {
            Self::Secret => format!("\"{SECRET}\""),
            Self::Secrets => format!("[\"{SECRET}\", \"{SECRET}\"]"),
            Self::Cut => format!("\"{SECRET}"),
            Self::Bare => SECRET.to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => format!("{text:?}"),
        }
    }
}
