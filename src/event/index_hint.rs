//! Which index helps to find events.

use super::Values;

/// Which index may answer a scan. It only narrows: the reader decides. Clones share
/// the values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum IndexHint {
    /// Every record is a candidate.
    #[default]
    All,
    /// Only records of these types.
    Types(Values),
    /// Only records that concern these users.
    Users(Values),
    /// Only records that concern these organizations.
    Organizations(Values),
    /// Only records of these sessions.
    Sessions(Values),
}
