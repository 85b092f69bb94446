//! The kinds of calls.

/// What a method answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One message.
    Unary,
    /// The stream of a subscriber, or of a worker.
    Subscriber,
    /// A stream that asks for little and never ends: a health watch, reflection.
    Side,
}
