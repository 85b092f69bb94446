//! Reads JSON lazily: an object is split into its keys and raw values.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::number;

/// Minimum size of nearly every entry of Clerk's objects.
const ENTRY_BYTES: usize = 20;
/// Maximum number of entries to reserve memory for. Clerk's objects have fewer.
const ENTRIES_USUAL_MAX: usize = 64;
/// With more entries than this, a set finds the repeated keys; with fewer, comparing each pair
/// is faster.
const ENTRIES_COMPARED_MAX: usize = 16;

/// The keys and raw values of a JSON object, in order.
pub(crate) struct Object<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    pub(crate) fn parse(json: &'a str) -> Option<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let expected = Entries {
            count: (json.len() / ENTRY_BYTES).min(ENTRIES_USUAL_MAX),
        };
        let object = deserializer.deserialize_map(expected).ok()?;
        deserializer.end().ok().map(|()| object)
    }

    /// Keeps only the last entry of each repeated key.
    pub(crate) fn without_repeated_keys(mut self) -> Self {
        let entries = &mut self.0;
        if entries.len() > ENTRIES_COMPARED_MAX {
            let is_last: Vec<bool> = {
                let mut seen = HashSet::with_capacity(entries.len());
                let keys = entries.iter().rev().map(|(key, _)| key.as_ref());
                keys.map(|key: &str| seen.insert(key)).collect()
            };
            let mut is_last = is_last.into_iter().rev();
            entries.retain(|_| is_last.next().unwrap_or(true));
            return self;
        }
        let mut at = 0;
        while let Some((key, _)) = entries.get(at) {
            let mut later = entries.iter().skip(at + 1);
            if later.any(|(other, _)| other == key) {
                entries.remove(at);
            } else {
                at += 1;
            }
        }
        self
    }

    /// The value of `key`, the last one if the key is repeated; null counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, raw)| *raw).filter(|raw| raw.get() != "null")
    }

    /// All values of `key`, in case it is repeated.
    pub(crate) fn all(&self, key: &str) -> impl Iterator<Item = &'a RawValue> {
        let entries = self.0.iter().filter(move |(name, _)| name == key);
        entries.map(|(_, raw)| *raw)
    }

    /// The string at `path`; none if the value is absent, empty or not a string.
    pub(crate) fn string_at(&self, path: &[&str]) -> Option<String> {
        let (first, rest) = path.split_first()?;
        let raw = self.get(first)?;
        if rest.is_empty() {
            return string(raw)
                .map(Cow::into_owned)
                .filter(|text| !text.is_empty());
        }
        Object::parse(raw.get())?.string_at(rest)
    }
}

/// Reads the entries of an object, with memory reserved for `count` of them.
struct Entries {
    count: usize,
}

impl<'de> Visitor<'de> for Entries {
    type Value = Object<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut entries = Vec::with_capacity(self.count);
        while let Some(Text(key)) = map.next_key()? {
            entries.push((key, map.next_value()?));
        }
        Ok(Object(entries))
    }
}

/// A string, borrowed unless it holds an escape. Half a surrogate pair, which JSON can spell and
/// Unicode cannot, becomes U+FFFD instead of an error, because an error in a key would lose the
/// whole object.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Text<'de>, E> {
                // Nearly all strings are UTF-8, and checking is faster than mending.
                Ok(Text(match std::str::from_utf8(bytes) {
                    Ok(text) => Cow::Borrowed(text),
                    Err(_) => String::from_utf8_lossy(bytes),
                }))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text<'de>, E> {
                Ok(Text(String::from_utf8_lossy(bytes).into_owned().into()))
            }
        }
        // serde_json accepts half a surrogate pair in bytes only.
        deserializer.deserialize_bytes(Bytes)
    }
}

pub(crate) fn string<'a>(raw: &'a RawValue) -> Option<Cow<'a, str>> {
    // serde_json would accept an array of numbers for bytes.
    let quoted = raw.get().strip_prefix('"')?;
    // Without an escape, the text is what stands between the quotes.
    match quoted.strip_suffix('"') {
        Some(text) if !text.contains('\\') => Some(Cow::Borrowed(text)),
        _ => parse::<Text<'a>>(raw).map(|Text(text)| text),
    }
}

pub(crate) fn boolean(raw: &RawValue) -> Option<bool> {
    raw.get().parse().ok()
}

pub(crate) fn integer(raw: &RawValue) -> Option<i64> {
    number::integer(raw.get())
}

pub(crate) fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}
