//! How much each long test does: in every run, and with `CLERKCAST_SOAK=1`, for hours.

/// A figure that a soak makes larger.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Figure {
    /// `kill -9` under load.
    CrashRounds,
    /// The same, with workers of a subscription.
    SubscriptionCrashRounds,
    /// Images of a disk that lost power.
    PowerCutImages,
    /// Events of a log that is opened again: as many as a log gets in years.
    ReopenedEvents,
    /// Connections of a flood.
    FloodConnections,
    /// Random histories of a log whose index is merged, damaged and made again.
    IndexHistories,
}

/// In every run, and in a soak.
fn figures(figure: Figure) -> (usize, usize) {
    match figure {
        Figure::CrashRounds => (30, 200),
        Figure::SubscriptionCrashRounds => (20, 1_000),
        Figure::PowerCutImages => (60, 200),
        Figure::ReopenedEvents => (50_000, 10_000_000),
        Figure::FloodConnections => (1_500, 10_000),
        Figure::IndexHistories => (10, 500),
    }
}

pub(crate) fn figure(figure: Figure) -> usize {
    let (normal, soak) = figures(figure);
    let is_soak = std::env::var_os("CLERKCAST_SOAK").is_some_and(|value| value == "1");
    if is_soak { soak } else { normal }
}
