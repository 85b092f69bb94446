//! The configuration file as it was written: values with their lines.
//!
//! The file is read by hand rather than into a struct, so that one pass reports every error with
//! its line.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem};

/// Maximum number of syntax errors to report at once, because the first explain the others.
const SYNTAX_ERRORS_MAX: usize = 10;
/// Minimum similarity of a suggestion to the text.
const SIMILARITY_MIN: f64 = 0.6;
/// The tables, beside the options.
const TABLES: [&str; 3] = ["sources", "principals", "anonymous"];

/// A key at the top of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// A number that may have a fraction.
    Fraction,
    /// `true` or `false`.
    Switch,
}

/// A configuration file that was read.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its name in messages.
    pub(super) name: String,
    /// Options by key, with the lines that set them.
    pub(super) options: BTreeMap<&'static str, (String, usize)>,
    /// The `[[sources]]` tables.
    pub(super) sources: Vec<Table>,
    /// The `[[principals]]` tables.
    pub(super) principals: Vec<Table>,
    /// The `[anonymous]` table.
    pub(super) anonymous: Option<Table>,
    /// Errors of syntax, keys and types.
    pub(super) problems: Vec<Problem>,
    /// Whether it is TOML.
    pub(super) is_toml: bool,
    /// The options that a file may set.
    known: Vec<&'static str>,
}

/// The document of a gateway without a file.
impl Default for Document {
    fn default() -> Self {
        Self {
            name: String::new(),
            options: BTreeMap::new(),
            sources: Vec::new(),
            principals: Vec::new(),
            anonymous: None,
            problems: Vec::new(),
            is_toml: true,
            known: Vec::new(),
        }
    }
}

/// A table of the file.
#[derive(Clone)]
pub(super) struct Table {
    /// The path of its keys in messages, such as `sources[1]`.
    pub(super) path: String,
    /// The line on which it begins.
    pub(super) line: usize,
    fields: Vec<(String, Node)>,
}

/// Leaves out the values, which may be secrets.
impl std::fmt::Debug for Table {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = formatter.debug_set();
        fields.entries(self.fields.iter().map(|(key, _)| key));
        fields.finish()
    }
}

/// A value and its line.
#[derive(Clone)]
struct Node {
    line: usize,
    value: Value,
}

#[derive(Clone)]
enum Value {
    Text(String),
    Number(i64),
    Fraction(String),
    Switch(bool),
    List(Vec<Node>),
    Table(Table),
    /// A value of a type that no option has.
    Other(&'static str),
}

/// A value of a table, with its line.
#[derive(Clone, Debug, Default)]
pub(super) struct Located<T> {
    pub(super) line: usize,
    pub(super) value: T,
}

impl Document {
    /// Parses `text`, which messages call `name` and which may set `keys`, and collects every
    /// error.
    #[must_use]
    pub fn parse(name: &str, text: &str, keys: &[Key]) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut document = Self {
            name: name.to_owned(),
            is_toml: errors.is_empty(),
            known: keys.iter().map(|key| key.name).collect(),
            ..Self::default()
        };
        if document.is_toml {
            let lines = Lines::of(text);
            document.read(lines.table(String::new(), &root), keys);
        }
        for error in errors.iter().take(SYNTAX_ERRORS_MAX) {
            let line = error.span().map_or(1, |span| Lines::of(text).at(&span));
            let key = key_in_line(text, line);
            document.note(line, key, without_value(error.message()));
        }
        document
    }

    fn note(&mut self, line: usize, key: String, message: String) {
        let problem = Problem::new(self.place(line), key, message);
        self.problems.push(problem);
    }

    /// Whether it lists sources of its own.
    #[must_use]
    pub fn has_sources(&self) -> bool {
        let has_error = || self.problems.iter().any(|problem| problem.key == "sources");
        !self.sources.is_empty() || has_error()
    }

    /// The text of an option, and the line that sets it.
    #[must_use]
    pub fn option(&self, key: &str) -> Option<(&str, usize)> {
        let (text, line) = self.options.get(key)?;
        Some((text, *line))
    }

    /// Takes an option out, as if the file did not set it.
    pub fn forget_option(&mut self, key: &str) {
        self.options.remove(key);
    }

    /// The line of a key in a `[[sources]]` table.
    #[must_use]
    pub fn line_in_source(&self, index: usize, key: &str) -> Option<usize> {
        self.sources.get(index).map(|table| table.line_of(key))
    }

    /// Errors of syntax, keys and types.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether it is TOML.
    #[must_use]
    pub fn is_toml(&self) -> bool {
        self.is_toml
    }

    /// The place of a line, for messages.
    #[must_use]
    pub fn place(&self, line: usize) -> Place {
        Place::File {
            name: self.name.clone(),
            line,
        }
    }

    fn read(&mut self, root: Table, keys: &[Key]) {
        for (key, node) in root.fields {
            let line = node.line;
            let option = keys.iter().find(|option| option.name == key);
            let read = match option {
                Some(option) => text_of(option, &node).map(|text| {
                    self.options.insert(option.name, (text, line));
                }),
                None if TABLES.contains(&key.as_str()) => self.read_table(&key, &node),
                None => {
                    let known = keys.iter().map(|option| option.name).chain(TABLES);
                    Err(unknown(&key, known))
                }
            };
            if let Err(message) = read {
                self.note(line, key, message);
            }
        }
    }

    fn read_table(&mut self, key: &str, node: &Node) -> Result<(), String> {
        let of_tables = || type_error(&node.value, "tables, as in [[sources]]");
        match (key, &node.value) {
            ("anonymous", Value::Table(table)) => self.anonymous = Some(table.clone()),
            ("anonymous", other) => return Err(type_error(other, "a table, as in [anonymous]")),
            (_, Value::List(items)) => {
                let mut tables = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let Value::Table(table) = &item.value else {
                        return Err(of_tables());
                    };
                    tables.push(Table {
                        path: format!("{key}[{index}]"),
                        line: item.line,
                        ..table.clone()
                    });
                }
                if key == "sources" {
                    self.sources = tables;
                } else {
                    self.principals = tables;
                }
            }
            _ => return Err(of_tables()),
        }
        Ok(())
    }
}

/// The value of an option, as a flag would write it.
fn text_of(option: &Key, node: &Node) -> Result<String, String> {
    match (option.kind, &node.value) {
        (Kind::Text, Value::Text(text)) => Ok(text.clone()),
        (Kind::Number | Kind::Fraction, Value::Number(number)) => Ok(number.to_string()),
        (Kind::Fraction, Value::Fraction(text)) => Ok(text.clone()),
        (Kind::Switch, Value::Switch(switch)) => Ok(switch.to_string()),
        (Kind::Text, other) => Err(type_error(other, "a string")),
        (Kind::Number, other) => Err(type_error(other, "a whole number")),
        (Kind::Fraction, other) => Err(type_error(other, "a number")),
        (Kind::Switch, other) => Err(type_error(other, "true or false")),
    }
}

impl Table {
    /// The line of a key, or that of the table where the key is missing.
    pub(super) fn line_of(&self, key: &str) -> usize {
        let mut fields = self.fields.iter();
        let found = fields.find(|(name, _)| name == key);
        found.map_or(self.line, |(_, node)| node.line)
    }

    /// Reads the table with `read`, which takes the fields that it knows. Every other field is
    /// an error.
    pub(super) fn read<T>(
        &self,
        document: &Document,
        problems: &mut Vec<Problem>,
        read: impl FnOnce(&mut Fields<'_>) -> T,
    ) -> T {
        let mut fields = Fields {
            table: self,
            document,
            problems,
            known: Vec::new(),
        };
        let value = read(&mut fields);
        fields.refuse_unknown();
        value
    }
}

/// A table that is being read.
pub(super) struct Fields<'a> {
    table: &'a Table,
    document: &'a Document,
    pub(super) problems: &'a mut Vec<Problem>,
    known: Vec<&'static str>,
}

impl Fields<'_> {
    /// The line of a key, or that of the table where the key is missing.
    pub(super) fn line(&self, key: &str) -> usize {
        self.table.line_of(key)
    }

    /// Whether the table has a key that nothing has read, which may be misspelled.
    pub(super) fn has_unknown(&self) -> bool {
        let mut fields = self.table.fields.iter();
        fields.any(|(key, _)| !self.known.contains(&key.as_str()))
    }

    /// Reports an error in a key.
    pub(super) fn refuse(&mut self, key: &str, message: impl std::fmt::Display) {
        self.refuse_at(self.line(key), key, message);
    }

    /// Reports an error in a key, on another line than the key's.
    pub(super) fn refuse_at(&mut self, line: usize, key: &str, message: impl std::fmt::Display) {
        let path = match (self.table.path.as_str(), key) {
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        };
        let problem = Problem::new(self.document.place(line), path, message);
        self.problems.push(problem);
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<Located<String>> {
        self.value(key, "a string", |value| match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        })
    }

    pub(super) fn switch(&mut self, key: &'static str) -> Option<Located<bool>> {
        self.value(key, "true or false", |value| match value {
            Value::Switch(switch) => Some(*switch),
            _ => None,
        })
    }

    pub(super) fn count(&mut self, key: &'static str) -> Option<Located<usize>> {
        self.value(key, "a whole number", |value| match value {
            Value::Number(number) => usize::try_from(*number).ok(),
            _ => None,
        })
    }

    /// The strings of a list; empty where the key is missing.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<Located<String>> {
        let list = self.value(key, "a sequence", |value| match value {
            Value::List(items) => Some(items.clone()),
            _ => None,
        });
        let mut texts = Vec::new();
        for (index, node) in list.unwrap_or_default().value.iter().enumerate() {
            match &node.value {
                Value::Text(text) => texts.push(Located {
                    line: node.line,
                    value: text.clone(),
                }),
                other => {
                    let message = format!("{key}[{index}]: {}", type_error(other, "a string"));
                    self.refuse_at(node.line, key, message);
                }
            }
        }
        texts
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        take: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<Located<T>> {
        self.known.push(key);
        let (_, node) = self.table.fields.iter().find(|(name, _)| name == key)?;
        let line = node.line;
        match take(&node.value) {
            Some(value) => Some(Located { line, value }),
            None => {
                self.refuse(key, type_error(&node.value, expected));
                None
            }
        }
    }

    fn refuse_unknown(&mut self) {
        let table = self.table;
        for (key, node) in &table.fields {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let message = if self.document.known.contains(&key.as_str()) {
                // TOML gives a table all lines up to the next one.
                format!("`{key}` is an option of the gateway: write it above the first [[table]]")
            } else {
                unknown(key, self.known.iter().copied())
            };
            self.refuse_at(node.line, key, message);
        }
    }
}

fn unknown(key: &str, known: impl Iterator<Item = &'static str>) -> String {
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(key, name);
    let nearest = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest {
        Some(name) if likeness(name) >= SIMILARITY_MIN => {
            format!("unknown field `{key}`; did you mean {name}?")
        }
        _ => format!("unknown field `{key}`"),
    }
}

fn type_error(found: &Value, expected: &str) -> String {
    let found = match found {
        Value::Text(_) => "a string",
        Value::Number(_) => "a number",
        Value::Fraction(_) => "a fraction",
        Value::Switch(_) => "true or false",
        Value::List(_) => "a sequence",
        Value::Table(_) => "a table",
        Value::Other(name) => name,
    };
    format!("invalid type, expected {expected} and found {found}")
}

/// Where lines begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(breaks).collect())
    }

    fn at(&self, span: &Range<usize>) -> usize {
        self.0.partition_point(|start| *start <= span.start).max(1)
    }

    fn table(&self, path: String, table: &Spanned<DeTable<'_>>) -> Table {
        self.table_of(path, self.at(&table.span()), table.get_ref())
    }

    fn table_of(&self, path: String, line: usize, table: &DeTable<'_>) -> Table {
        let mut fields: Vec<(String, Node)> = Vec::new();
        for (key, value) in table {
            let mut node = self.node(value);
            if !matches!(node.value, Value::Table(_)) {
                node.line = self.at(&key.span());
            }
            fields.push((key.get_ref().to_string(), node));
        }
        fields.sort_by_key(|(_, node)| node.line);
        Table { path, line, fields }
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Node {
        let line = self.at(&value.span());
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(integer) => {
                match i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(number) => Value::Number(number),
                    Err(_) => Value::Other("a number that is too large"),
                }
            }
            DeValue::Boolean(switch) => Value::Switch(*switch),
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| self.node(item)).collect())
            }
            DeValue::Table(table) => Value::Table(self.table_of(String::new(), line, table)),
            DeValue::Float(fraction) => Value::Fraction(fraction.as_str().to_owned()),
            DeValue::Datetime(_) => Value::Other("a time"),
        };
        Node { line, value }
    }
}

/// The key that a line sets, for messages. The value is left out, because it may be a secret.
fn key_in_line(text: &str, line: usize) -> String {
    let line = text.lines().nth(line - 1).unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_lowercase() || c == '_';
    match line.split_once('=') {
        Some((key, _)) if key.trim().chars().all(is_plain) => key.trim().to_owned(),
        _ => String::new(),
    }
}

/// The parser may quote a value, and that value may be a secret.
fn without_value(message: &str) -> String {
    match (message.split_once(": "), message.rsplit_once(", expected ")) {
        (Some((what, _)), Some((_, expected))) if what.starts_with("invalid") => {
            format!("{what}, expected {expected}")
        }
        _ => message.to_owned(),
    }
}
