//! Clerk's ids, as filters and the configuration write them.

/// What an id is of, where events can be selected by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// `user_…`
    User,
    /// `org_…`
    Organization,
    /// `sess_…`
    Session,
    /// `ins_…`
    Instance,
}

/// Why no event can have an id. The message never repeats it: it may be an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// It holds nothing.
    #[error("empty; leave it out for all")]
    Empty,
    /// It has white space before, within or after it.
    #[error("an id with white space in it; write `{prefix}` and letters, digits, `_` or `-`", prefix = .0.prefix())]
    WhiteSpace(IdKind),
    /// It is an id of something else that events can be selected by.
    #[error("the id of {found}; did you mean `{field}`? here, write `{prefix}…`", found = .found.noun(), field = .found.field(), prefix = .expected.prefix())]
    OtherKind {
        /// What it is an id of.
        found: IdKind,
        /// What it should be an id of.
        expected: IdKind,
    },
    /// It is an id of something that events cannot be selected by.
    #[error("another kind of id; write the id of {noun}, `{prefix}…`", noun = .0.noun(), prefix = .0.prefix())]
    Unrelated(IdKind),
    /// It is an e-mail address, or looks like one.
    #[error("an address; write the id of {noun}, `{prefix}…`", noun = .0.noun(), prefix = .0.prefix())]
    Address(IdKind),
    /// There is nothing after the prefix.
    #[error("cut short: nothing follows `{prefix}`", prefix = .0.prefix())]
    CutShort(IdKind),
    /// It has the prefix, and characters that ids do not have.
    #[error("an id with a character that ids do not have; write `{prefix}` and letters, digits, `_` or `-`", prefix = .0.prefix())]
    Character(IdKind),
    /// It has no prefix.
    #[error("a name, not an id; write the id of {noun}, `{prefix}…`", noun = .0.noun(), prefix = .0.prefix())]
    Name(IdKind),
}

impl IdKind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::User,
        Self::Organization,
        Self::Session,
        Self::Instance,
    ];

    /// What such ids begin with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::User => "user_",
            Self::Organization => "org_",
            Self::Session => "sess_",
            Self::Instance => "ins_",
        }
    }

    /// The field of a filter that takes them.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::User => "user_ids",
            Self::Organization => "organization_ids",
            Self::Session => "session_ids",
            Self::Instance => "instance_ids",
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Self::User => "a user",
            Self::Organization => "an organization",
            Self::Session => "a session",
            Self::Instance => "an instance",
        }
    }

    /// Checks that an event can have `id` as an id of this kind.
    ///
    /// # Errors
    /// With what it seems to be instead.
    pub fn check(self, id: &str) -> Result<(), InvalidId> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if let Some(rest) = id.strip_prefix(self.prefix())
            && !rest.is_empty()
            && rest.chars().all(is_plain)
        {
            return Ok(());
        }
        let trimmed = id.trim();
        let has_prefix = |kind: &Self| trimmed.starts_with(kind.prefix());
        Err(if trimmed.is_empty() {
            InvalidId::Empty
        } else if id.contains('@') {
            InvalidId::Address(self)
        } else if let Some(found) = Self::ALL.into_iter().find(has_prefix)
            && found != self
        {
            InvalidId::OtherKind {
                found,
                expected: self,
            }
        } else if trimmed == self.prefix() {
            InvalidId::CutShort(self)
        } else if has_prefix(&self) && id.contains(char::is_whitespace) {
            InvalidId::WhiteSpace(self)
        } else if has_prefix(&self) {
            InvalidId::Character(self)
        } else if is_unrelated(trimmed) {
            InvalidId::Unrelated(self)
        } else {
            InvalidId::Name(self)
        })
    }
}

/// As `msg_2g7np7Hrk0SN6kj5EDMLDaKNL0S`: a word in lower case, then many letters and digits.
fn is_unrelated(text: &str) -> bool {
    text.split_once('_').is_some_and(|(kind, rest)| {
        let is_kind = |c: char| c.is_ascii_lowercase();
        kind.chars().all(is_kind) && rest.len() >= 20 && rest.is_ascii()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn filtered_an_id_that_no_event_can_have_is_refused() {
        for (id, seems) in [
            ("user_1 ", "white space"),
            (" user_1", "white space"),
            ("user_1\n", "white space"),
            ("user_1 user_2", "white space"),
            ("", "empty"),
            (" ", "empty"),
            ("org_1", "`organization_ids`"),
            ("sess_1", "`session_ids`"),
            ("ins_1 ", "`instance_ids`"),
            ("msg_2g7np7Hrk0SN6kj5EDMLDaKNL0S", "another kind of id"),
            ("ada@example.com", "address"),
            ("user_ada@example.com", "address"),
            ("user_", "cut short"),
            ("user_1,user_2", "character"),
            ("user_\u{200b}1", "character"),
            ("user_é", "character"),
            ("ada", "a name"),
            ("Ada Lovelace", "a name"),
            ("USER_1", "a name"),
        ] {
            let refused = IdKind::User.check(id).expect_err(id).to_string();
            assert!(refused.contains(seems), "{id:?}: {refused}");
            assert!(!refused.contains("ada"), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn an_id_is_its_prefix_and_plain_characters(id in "(user_|org_|sess_|ins_)?[a-zA-Z0-9_@é -]{0,4}") {
            for kind in IdKind::ALL {
                let rest = id.strip_prefix(kind.prefix());
                let is_id = rest.is_some_and(|rest| {
                    !rest.is_empty() && !rest.contains(['@', 'é', ' '])
                });
                prop_assert_eq!(kind.check(&id).is_ok(), is_id);
            }
        }
    }
}
