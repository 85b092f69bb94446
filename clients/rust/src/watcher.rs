//! What is called when something happens to a connection.

use std::fmt;
use std::sync::Arc;

/// What is called with each `T`.
pub(crate) struct Watcher<T>(Arc<dyn Fn(&T) + Send + Sync>);

impl<T> Watcher<T> {
    pub(crate) fn new(report: impl Fn(&T) + Send + Sync + 'static) -> Self {
        Self(Arc::new(report))
    }

    pub(crate) fn report(&self, what: &T) {
        (self.0)(what);
    }
}

impl<T> Clone for Watcher<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Watcher<T> {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl<T> fmt::Debug for Watcher<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Watcher")
    }
}
