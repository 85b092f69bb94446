//! File descriptors: each connection needs one, and the usual soft limit is 1,024.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::event::numbers::saturating;

/// Raises this process's limit on open files as far as the system allows, and returns the new
/// limit.
#[must_use]
pub fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    // `None` means no limit.
    allowed.map_or(usize::MAX, saturating)
}
