//! The subject of a cell. A name has `/` between its words where the subject has `.`, so a
//! prefix of whole words is a filter of subjects.

/// The subjects of a bucket.
#[derive(Debug)]
pub(in super::super) struct Keys {
    /// What all subjects begin with.
    prefix: String,
}

impl Keys {
    /// The subjects of the bucket whose stream has this name.
    pub(in super::super) fn of_stream(stream: &str) -> Self {
        let bucket = stream.strip_prefix("KV_").unwrap_or(stream);
        Self {
            prefix: format!("$KV.{bucket}."),
        }
    }

    /// Every subject of the bucket.
    pub(in super::super) fn all(&self) -> String {
        self.filter("")
    }

    /// The subjects of all names with a prefix, which ends with a `/` or is empty.
    pub(in super::super) fn filter(&self, prefix: &str) -> String {
        format!("{}>", self.subject(prefix))
    }

    /// The subject of a name.
    pub(in super::super) fn subject(&self, name: &str) -> String {
        format!("{}{}", self.prefix, name.replace('/', "."))
    }

    /// The name that has this subject. None if no cell has it.
    pub(in super::super) fn name(&self, subject: &str) -> Option<String> {
        let key = subject.strip_prefix(&self.prefix)?;
        let name = key.replace('.', "/");
        let is_name = !key.contains('/') && crate::log::cells::check_name(&name).is_ok();
        is_name.then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_round_trips_through_its_subject() {
        let keys = Keys::of_stream("KV_CLERKCAST_CELLS");
        let name = "dead/crm-eu/00000000000003e8";
        let subject = keys.subject(name);
        assert_eq!(subject, "$KV.CLERKCAST_CELLS.dead.crm-eu.00000000000003e8");
        assert_eq!(keys.name(&subject).as_deref(), Some(name));
        assert_eq!(keys.all(), "$KV.CLERKCAST_CELLS.>");
        assert_eq!(
            keys.filter("dead/crm-eu/"),
            "$KV.CLERKCAST_CELLS.dead.crm-eu.>"
        );
    }

    /// Other clients may write other keys into the bucket.
    #[test]
    fn a_foreign_key_is_not_a_name() {
        let keys = Keys::of_stream("KV_CLERKCAST_CELLS");
        for key in ["dead/crm", "A", "a=b", "a..b", ""] {
            let subject = format!("$KV.CLERKCAST_CELLS.{key}");
            assert_eq!(keys.name(&subject), None, "{key}");
        }
        assert_eq!(keys.name("$KV.OTHER.state.crm"), None);
    }
}
