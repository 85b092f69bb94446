//! What a policy takes away, as answers carry it.

use crate::access::Narrowed;
use crate::{filter, proto};

/// The message for what a policy takes away.
#[must_use]
pub fn message(narrowed: Narrowed) -> proto::Narrowed {
    let Narrowed {
        filter:
            filter::Narrowed {
                withheld_types,
                types,
                exclude_types,
                sources,
            },
        redacted_fields,
    } = narrowed;
    proto::Narrowed {
        withheld_types,
        types,
        exclude_types,
        sources,
        redacted_fields,
    }
}
