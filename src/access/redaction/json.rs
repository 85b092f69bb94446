//! Removes keys from a JSON body, and leaves the rest of its text as it is.

use serde_json::value::RawValue;

use super::plan::{Mark, Plan};
use crate::clerk::json::{Object, parse};

/// Maximum depth that is searched. A deeper value is removed, because the search is recursive.
const LEVELS_MAX: usize = 64;

/// The keys of the envelope, which stay.
const ENVELOPE_KEYS: [&str; 4] = ["type", "object", "timestamp", "instance_id"];

/// The body without what the plan removes; none if the body holds nothing of it.
pub(super) fn redact(plan: &Plan, envelope: &Object<'_>) -> Option<Vec<u8>> {
    let redacted = rewrite(envelope, |key, raw| {
        if ENVELOPE_KEYS.contains(&key) {
            return Verdict::Keep;
        }
        judge(plan, Some(0), key, raw, LEVELS_MAX)
    });
    redacted.map(String::into_bytes)
}

enum Verdict {
    Keep,
    Remove,
    Replace(String),
}

fn judge(plan: &Plan, node: Option<usize>, key: &str, raw: &RawValue, levels: usize) -> Verdict {
    match plan.mark(node, key) {
        Some(Mark::Remove) => Verdict::Remove,
        Some(Mark::Below(below)) => value(plan, Some(below), raw, levels),
        None if plan.looks_everywhere() => value(plan, None, raw, levels),
        None => Verdict::Keep,
    }
}

/// Judges a value: an object by its keys, an array by its elements.
fn value(plan: &Plan, node: Option<usize>, raw: &RawValue, levels: usize) -> Verdict {
    let is_nested = raw.get().starts_with(['{', '[']);
    if !is_nested {
        return Verdict::Keep;
    }
    let Some(levels) = levels.checked_sub(1) else {
        return Verdict::Remove;
    };
    let rewritten = if let Some(object) = Object::parse(raw.get()) {
        rewrite(&object, |key, raw| judge(plan, node, key, raw, levels))
    } else if let Some(elements) = parse::<Vec<&RawValue>>(raw) {
        rewrite_elements(&elements, |raw| value(plan, node, raw, levels))
    } else {
        return Verdict::Remove;
    };
    rewritten.map_or(Verdict::Keep, Verdict::Replace)
}

/// The object with its fields judged; none if every field stays as it is.
fn rewrite(object: &Object<'_>, judge: impl Fn(&str, &RawValue) -> Verdict) -> Option<String> {
    let fields = object.0.iter();
    let judged: Vec<_> = fields
        .map(|(key, raw)| (key, raw, judge(key, raw)))
        .collect();
    if judged
        .iter()
        .all(|(_, _, verdict)| matches!(verdict, Verdict::Keep))
    {
        return None;
    }
    let mut out = String::from("{");
    for (key, raw, verdict) in &judged {
        let text = match verdict {
            Verdict::Keep => raw.get(),
            Verdict::Replace(text) => text,
            Verdict::Remove => continue,
        };
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&serde_json::Value::from(key.as_ref()).to_string());
        out.push(':');
        out.push_str(text);
    }
    out.push('}');
    Some(out)
}

/// The array with its elements judged; none if every element stays as it is.
fn rewrite_elements(
    elements: &[&RawValue],
    judge: impl Fn(&RawValue) -> Verdict,
) -> Option<String> {
    let judged: Vec<_> = elements.iter().map(|raw| (raw, judge(raw))).collect();
    if judged
        .iter()
        .all(|(_, verdict)| matches!(verdict, Verdict::Keep))
    {
        return None;
    }
    let kept = judged.iter().filter_map(|(raw, verdict)| match verdict {
        Verdict::Keep => Some(raw.get()),
        Verdict::Replace(text) => Some(text.as_str()),
        Verdict::Remove => None,
    });
    Some(format!("[{}]", kept.collect::<Vec<_>>().join(",")))
}
