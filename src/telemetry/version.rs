//! Which version of the program runs.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::metrics::family;

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The first 8 digits of the commit that this binary was built from, or `unknown`. `build.rs`
/// finds it.
pub const COMMIT: &str = env!("CLERKCAST_BUILD_COMMIT");
/// Both, as `--version` prints them.
pub const VERSION_AND_COMMIT: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("CLERKCAST_BUILD_COMMIT"),
    ")"
);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabel {
    version: &'static str,
    commit: &'static str,
}

/// Registers `build_info`, which is always 1: its labels are what it reports.
pub fn register_build(registry: &mut Registry) {
    let build = family::<BuildLabel, Gauge>(
        registry,
        "build_info",
        "1, with the version and the commit of this gateway",
    );
    let label = BuildLabel {
        version: VERSION,
        commit: COMMIT,
    };
    build.get_or_create(&label).set(1);
}
