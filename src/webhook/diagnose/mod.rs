//! Explains why a body's signature does not match: undoes the changes that frameworks, proxies
//! and editors make to a body, singly and in pairs, until the signature matches.
//!
//! ```text
//!   body ─┬─► layout, escaping ──────────────────────────┐
//!         ├─► encoding, wrapping ─┬──────────────────────┼─► is it signed?
//!         │                       └─► any one of the four┤
//!         └─► layout and escaping ───────────────────────┘
//! ```
//!
//! Pure, and bounded by the bytes that it writes. It only judges the body that it was
//! given: it reports what it undid, and the body stays refused.

mod json;
mod style;
mod text;
mod undone;

use json::Json;
use undone::Undone;

pub use undone::{Diagnosis, HintKind};

/// What all tries together may write: a usual body is tried in all ways, one of 512 KiB in
/// some forty, the likely ones.
const TRIED_BYTES_MAX: usize = 20 << 20;

/// What was done to `body`, if undoing it gives what `is_signed` takes.
#[must_use]
pub fn diagnose(body: &[u8], is_signed: impl Fn(&[u8]) -> bool) -> Option<Diagnosis> {
    let mut search = Search {
        is_signed,
        bytes_left: TRIED_BYTES_MAX,
    };
    let json = std::str::from_utf8(body).ok().and_then(Json::parse);
    let covers: Vec<Undone> = text::encodings(body)
        .into_iter()
        .chain(text::wrappings(body, json.as_ref()))
        .collect();
    search
        .rewritten(body, json.as_ref())
        .or_else(|| search.first_of(covers.iter().cloned()))
        .map(|undone| undone.to_diagnosis(None))
        .or_else(|| search.pairs(body, json.as_ref(), &covers))
}

/// JSON on lines of its own, with its keys in their order.
#[must_use]
pub fn pretty(body: &str) -> Option<String> {
    let json = Json::parse(body)?;
    String::from_utf8(json.indented()).ok()
}

struct Search<F> {
    is_signed: F,
    bytes_left: usize,
}

impl<F: Fn(&[u8]) -> bool> Search<F> {
    /// Changes of layout or escaping.
    fn rewritten(&mut self, body: &[u8], json: Option<&Json<'_>>) -> Option<Undone> {
        let found = self
            .first_of(text::layouts(body))
            .or_else(|| self.first_of(text::entities(body)));
        let Some(json) = json else { return found };
        found
            .or_else(|| self.first_of(json.layouts()))
            .or_else(|| self.first_of(json.escapings()))
    }

    fn pairs(
        &mut self,
        body: &[u8],
        json: Option<&Json<'_>>,
        covers: &[Undone],
    ) -> Option<Diagnosis> {
        let both = json.and_then(|json| self.first_of(json.layouts_and_escapings()));
        if let Some(undone) = both {
            return Some(undone.to_diagnosis(None));
        }
        let ends = text::layouts(body).collect::<Vec<_>>();
        for outer in ends.iter().chain(covers) {
            let json = std::str::from_utf8(&outer.body).ok().and_then(Json::parse);
            let inner = match outer.kind {
                HintKind::Layout => self.first_of(text::layouts(&outer.body)),
                _ => self.rewritten(&outer.body, json.as_ref()),
            };
            let inner = inner
                .or_else(|| self.first_of(text::encodings(&outer.body)))
                .or_else(|| self.first_of(text::wrappings(&outer.body, json.as_ref())));
            if let Some(inner) = inner {
                return Some(outer.to_diagnosis(Some(&inner)));
            }
        }
        None
    }

    /// The first that is signed, as long as there are bytes left to try.
    fn first_of(&mut self, all: impl IntoIterator<Item = Undone>) -> Option<Undone> {
        for undone in all {
            self.bytes_left = self.bytes_left.checked_sub(undone.body.len())?;
            if (self.is_signed)(&undone.body) {
                return Some(undone);
            }
        }
        None
    }
}
