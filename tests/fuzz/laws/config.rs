//! What an operator writes.

use arbitrary::Arbitrary;
use clerkcast::app::file::{Environment, check_whole};
use clerkcast::cli::options::{Settings, check, parse};

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
const KEYS: [&str; 19] = [
    "name",
    "signing_secrets",
    "signing_secrets_env",
    "signing_secrets_file",
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
    fn text(&self) -> String {
        let lines = self.lines.iter().map(Line::text);
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn hold(self) {
        keep_secrets(&self.text());
    }
}

/// Everything that can be said of a file, without its secrets.
fn keep_secrets(text: &str) {
    let settings = Settings {
        document: parse("clerkcast.toml", text),
        environment: Environment::LeftOut,
        ..Settings::default()
    };
    for problem in check(&settings).err().unwrap_or_default() {
        for said in [problem.to_string(), problem.as_line()] {
            assert!(!said.contains(SECRET_PART), "{said}");
        }
    }
}

/// Wherever a file is cut, what is left of it is not taken in its place.
#[derive(Arbitrary, Debug)]
pub(crate) struct ConfigCut {
    file: ConfigFile,
    ends_with_newline: bool,
    cut: u16,
}

impl ConfigCut {
    pub(crate) fn hold(self) {
        let mut whole = self.file.text();
        if self.ends_with_newline {
            whole.push('\n');
        }
        let mut cut = usize::from(self.cut) % (whole.len() + 1);
        while !whole.is_char_boundary(cut) {
            cut -= 1;
        }
        let left = &whole[..cut];
        let is_taken = check_whole(left, &whole).is_ok();
        assert_eq!(is_taken, left == whole, "{left:?} of {whole:?}");
        // At a start there is nothing to compare it with; it is read like any other.
        keep_secrets(left);
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
