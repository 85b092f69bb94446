//! What a task learns of changes to its state, without a watch of its own: the gateway has one, and
//! hands each change to the task that it concerns.

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::log::Revision;

/// The changes of one state that its task has not taken yet. Many count as one, since reading
/// shows what is there.
#[derive(Debug, Default)]
pub(super) struct StateChanges {
    untaken: Mutex<Option<Untaken>>,
    added: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Untaken {
    /// The latest revision that was reported.
    UpTo(Revision),
    /// The cell was deleted, or changes were missed.
    Unclear,
}

impl StateChanges {
    /// Notes a change. The revision is absent where the cell was deleted, or changes were missed.
    pub(super) fn note(&self, revision: Option<Revision>) {
        let change = revision.map_or(Untaken::Unclear, Untaken::UpTo);
        let mut untaken = self.untaken.lock();
        *untaken = (*untaken).max(Some(change));
        drop(untaken);
        self.added.notify_one();
    }

    /// Takes the changes, so that none of them wakes the task again. Returns whether another
    /// process may have made one: what this one wrote, or has `known` since, comes back too.
    pub(super) fn take(&self, known: Option<Revision>) -> bool {
        match self.untaken.lock().take() {
            Some(Untaken::UpTo(revision)) => Some(revision) > known,
            Some(Untaken::Unclear) => true,
            None => false,
        }
    }

    /// Completes once another process may have made a change, and takes it. Cancel-safe.
    pub(super) async fn made_elsewhere(&self, known: Option<Revision>) {
        while !self.take(known) {
            self.added.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn revision(number: u64) -> Option<Revision> {
        Some(Revision::new(number))
    }

    #[test]
    fn only_changes_beyond_what_is_known_are_news_and_each_of_them_once() {
        let changes = StateChanges::default();
        assert!(!changes.take(None));
        for (noted, is_news) in [
            (vec![revision(4)], false),
            (vec![revision(5)], false),
            (vec![revision(6)], true),
            (vec![revision(6), revision(4)], true),
            (vec![None], true),
            (vec![None, revision(4)], true),
            (vec![revision(4), None], true),
        ] {
            for change in &noted {
                changes.note(*change);
            }
            assert_eq!(changes.take(revision(5)), is_news, "{noted:?}");
            assert!(!changes.take(revision(5)), "{noted:?}");
        }
        // Nothing is known, so everything is news.
        changes.note(revision(1));
        assert!(changes.take(None));
    }

    #[test]
    fn a_change_of_before_the_wait_ends_it() {
        let changes = StateChanges::default();
        changes.note(revision(6));
        let waited = changes.made_elsewhere(revision(5)).now_or_never();
        assert_eq!(waited, Some(()));
        changes.note(revision(5));
        let mut waiting = Box::pin(changes.made_elsewhere(revision(5)));
        assert_eq!((&mut waiting).now_or_never(), None, "its own");
        changes.note(revision(6));
        assert_eq!(waiting.now_or_never(), Some(()));
    }
}
