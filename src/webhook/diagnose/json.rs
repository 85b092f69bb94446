//! JSON written in other ways: its tokens stay in the order in which they were read.

use std::collections::HashSet;
use std::ops::Range;

use serde::de::IgnoredAny;

use super::style::{INDENTED, LAYOUTS, Layout, STYLES, Style, class, is_disputed};
use super::undone::{HintKind, Undone};

const REPARSED: &str = "the body was parsed and re-serialized, and only the raw bytes are signed; hand on the body as it came (express.raw(), await request.text(), php://input)";

/// Beyond, a text is taken as it is: on lines of its own, each bracket is indented by its
/// depth. No serializer of webhooks comes near; many parsers stop here.
const DEPTH_MAX: usize = 128;

/// A JSON text, as its tokens.
#[derive(Debug)]
pub(super) struct Json<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    /// One of each character in it that serializers disagree on.
    disputed: String,
}

#[derive(Debug)]
struct Token {
    range: Range<usize>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Open,
    Close,
    Comma,
    Colon,
    /// A number, `true`, `false` or `null`.
    Word,
    /// A string with its quotes, and its content, if that can be written in several ways.
    Text(Option<Box<str>>),
}

impl<'a> Json<'a> {
    /// None where it is not JSON, or nested deeper than [`DEPTH_MAX`].
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        let bytes = text.as_bytes();
        let mut json = Self {
            text,
            tokens: Vec::new(),
            disputed: String::new(),
        };
        let (mut at, mut depth) = (0, 0_usize);
        while let Some(byte) = bytes.get(at) {
            let start = at;
            at += 1;
            let kind = match byte {
                b' ' | b'\t' | b'\n' | b'\r' => continue,
                b'{' | b'[' => {
                    depth += 1;
                    if depth > DEPTH_MAX {
                        return None;
                    }
                    Kind::Open
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    Kind::Close
                }
                b',' => Kind::Comma,
                b':' => Kind::Colon,
                b'"' => {
                    at = end_of_string(bytes, at);
                    Kind::Text(json.content(start..at))
                }
                _ => {
                    let is_word = |byte: &&u8| !b",]} \t\r\n".contains(*byte);
                    at += bytes.get(at..)?.iter().take_while(is_word).count();
                    Kind::Word
                }
            };
            let range = start..at;
            json.tokens.push(Token { range, kind });
        }
        Some(json)
    }

    /// The content of a string, if serializers disagree on how to write it.
    fn content(&mut self, quoted: Range<usize>) -> Option<Box<str>> {
        let raw = self.slice(quoted);
        if !unquoted(raw).bytes().any(is_disputed) {
            return None;
        }
        // Half a surrogate pair stays as it is.
        let content: Box<str> = serde_json::from_str(raw).ok()?;
        for class in content.chars().filter_map(class) {
            if !self.disputed.contains(class) {
                self.disputed.push(class);
            }
        }
        Some(content)
    }

    fn slice(&self, range: Range<usize>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }

    /// The contents of the largest strings in it, and the largest objects and arrays.
    pub(super) fn largest_values(&self, count: usize) -> Vec<&str> {
        let mut open = Vec::new();
        let mut values = Vec::new();
        for (at, token) in self.tokens.iter().enumerate() {
            let is_key = matches!(
                self.tokens.get(at + 1),
                Some(Token {
                    kind: Kind::Colon,
                    ..
                })
            );
            match &token.kind {
                Kind::Open => open.push(token.range.start),
                Kind::Close => {
                    let start = open.pop().unwrap_or_default();
                    // The whole is not a part.
                    if !open.is_empty() {
                        values.push(self.slice(start..token.range.end));
                    }
                }
                Kind::Text(content) if !is_key => {
                    let raw = unquoted(self.slice(token.range.clone()));
                    values.push(content.as_deref().unwrap_or(raw));
                }
                _ => {}
            }
        }
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.truncate(count);
        values
    }

    /// The content of the whole text, if it is a string.
    pub(super) fn as_string(&self) -> Option<&str> {
        match &self.tokens[..] {
            [
                Token {
                    range,
                    kind: Kind::Text(content),
                },
            ] => Some(
                content
                    .as_deref()
                    .unwrap_or_else(|| unquoted(self.slice(range.clone()))),
            ),
            _ => None,
        }
    }

    /// The bytes that its numbers are, if all of them are.
    pub(super) fn as_bytes(&self) -> Option<Vec<u8>> {
        let words = self
            .tokens
            .iter()
            .filter(|token| matches!(token.kind, Kind::Word));
        let bytes: Option<Vec<u8>> = words
            .map(|word| self.slice(word.range.clone()).parse().ok())
            .collect();
        bytes.filter(|bytes| bytes.len() > 1)
    }

    /// Two spaces a level.
    pub(super) fn indented(&self) -> Vec<u8> {
        self.write(&INDENTED, None)
    }

    /// With other white space.
    pub(super) fn layouts(&self) -> impl Iterator<Item = Undone> {
        let layouts = LAYOUTS.iter().map(|layout| Undone {
            kind: HintKind::Layout,
            what: layout.what,
            place: REPARSED,
            body: self.write(layout, None),
        });
        layouts.chain(std::iter::once_with(|| self.sorted()).flatten())
    }

    /// With its keys in alphabetical order, which is that of most of Clerk's bodies.
    fn sorted(&self) -> Option<Undone> {
        let value: serde_json::Value = serde_json::from_str(self.text).ok()?;
        Some(Undone {
            kind: HintKind::Layout,
            what: "with its keys in alphabetical order",
            place: REPARSED,
            body: value.to_string().into_bytes(),
        })
    }

    /// With strings escaped in other ways, and all else as it is.
    pub(super) fn escapings(&self) -> impl Iterator<Item = Undone> {
        let styles = self.styles().into_iter();
        styles.map(|style| Undone {
            kind: HintKind::Escaping,
            what: style.what,
            place: REPARSED,
            body: self.escaped(style),
        })
    }

    /// With other white space, and strings escaped in other ways.
    pub(super) fn layouts_and_escapings(&self) -> impl Iterator<Item = Undone> {
        let styles = self.styles().into_iter();
        let pairs = styles.flat_map(|style| LAYOUTS.iter().map(move |layout| (layout, style)));
        pairs.map(|(layout, style)| Undone {
            kind: HintKind::Layout,
            what: style.what_with_layout,
            place: REPARSED,
            body: self.write(layout, Some(style)),
        })
    }

    /// The styles that differ here.
    fn styles(&self) -> Vec<&'static Style> {
        if self.disputed.is_empty() {
            return Vec::new();
        }
        let mut seen = HashSet::new();
        let differs = |style: &&Style| {
            let mut probe = Vec::new();
            style.quote(&self.disputed, &mut probe);
            seen.insert(probe)
        };
        STYLES.iter().filter(differs).collect()
    }

    fn escaped(&self, style: &Style) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len());
        let mut copied = 0;
        for token in &self.tokens {
            if let Kind::Text(Some(content)) = &token.kind {
                out.extend_from_slice(self.slice(copied..token.range.start).as_bytes());
                style.quote(content, &mut out);
                copied = token.range.end;
            }
        }
        out.extend_from_slice(self.slice(copied..self.text.len()).as_bytes());
        out
    }

    fn write(&self, layout: &Layout, style: Option<&Style>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.text.len());
        let mut depth = 0_usize;
        let mut is_empty = false;
        for token in &self.tokens {
            // Brackets with nothing between them stay together.
            let was_opened = std::mem::replace(&mut is_empty, matches!(token.kind, Kind::Open));
            match token.kind {
                Kind::Close => {
                    depth = depth.saturating_sub(1);
                    if !was_opened {
                        layout.break_line(depth, &mut out);
                    }
                }
                _ if was_opened => layout.break_line(depth, &mut out),
                _ => {}
            }
            match (&token.kind, style) {
                (Kind::Comma, _) => {
                    out.extend_from_slice(layout.comma.as_bytes());
                    layout.break_line(depth, &mut out);
                }
                (Kind::Colon, _) => out.extend_from_slice(layout.colon.as_bytes()),
                (Kind::Text(Some(content)), Some(style)) => style.quote(content, &mut out),
                (kind, _) => {
                    depth += usize::from(matches!(kind, Kind::Open));
                    out.extend_from_slice(self.slice(token.range.clone()).as_bytes());
                }
            }
        }
        out.extend_from_slice(layout.end.as_bytes());
        out
    }
}

/// Behind the quote that ends the string whose inside begins at `at`.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    bytes.len()
}

fn unquoted(raw: &str) -> &str {
    raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_nested_too_deeply_is_not_parsed() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Json::parse(&nested(DEPTH_MAX)).is_some());
        for depth in [DEPTH_MAX + 1, 256 << 10] {
            assert!(Json::parse(&nested(depth)).is_none(), "{depth}");
        }
        // Brackets beside each other, and in strings, are not nested.
        let flat = vec!["[\"[[[[\"]"; DEPTH_MAX].join(",");
        assert!(Json::parse(&format!("[{flat}]")).is_some());
    }
}
