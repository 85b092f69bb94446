//! One change to a body, undone, and what that shows about the body.

/// What kind of change was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintKind {
    /// White space, line ends, the end of the file.
    Layout,
    /// What some serializers escape and others do not.
    Escaping,
    /// Base64, a byte-order mark, a charset.
    Encoding,
    /// A JSON string, a field of an object.
    Wrapping,
}

impl HintKind {
    /// The name in `--json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Layout => "layout",
            Self::Escaping => "escaping",
            Self::Encoding => "encoding",
            Self::Wrapping => "wrapping",
        }
    }
}

/// What was done to a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The kind of the change that came last.
    pub kind: HintKind,
    /// What was undone, and where that happens.
    pub hint: String,
}

/// One change, undone.
#[derive(Clone, Debug)]
pub(super) struct Undone {
    pub(super) kind: HintKind,
    /// After "it verifies".
    pub(super) what: &'static str,
    /// Where that happens.
    pub(super) place: &'static str,
    pub(super) body: Vec<u8>,
}

impl Undone {
    pub(super) fn to_diagnosis(&self, inner: Option<&Self>) -> Diagnosis {
        let hint = match inner {
            None => format!("it verifies {}: {}", self.what, self.place),
            Some(inner) => format!(
                "it verifies {} and {}: {}; {}",
                self.what, inner.what, self.place, inner.place
            ),
        };
        Diagnosis {
            kind: self.kind,
            hint,
        }
    }
}
