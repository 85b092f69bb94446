//! The options about where traces are sent.

use std::ffi::OsStr;

use super::check::Check;
use super::declaration::{self, Declaration, option, options};
use super::settings::{Origin, Settings};
use super::value::{Value, read_text};
use crate::app::file::Kind;
use crate::app::{NO_OTLP, OtlpConfig, OtlpEndpoint};

const KEY: &str = "otlp_endpoint";
/// The endpoint of all programs of a machine that send traces. Every other place wins over it.
const STANDARD_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// The variables that choose how such programs send traces; the first one that is set counts.
const PROTOCOL_VARIABLES: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
];
const PROTOCOL: &str = "grpc";

options! {
    /// Where traces are sent.
    TraceOptions {
        380 otlp_endpoint: Receiver = option(
            "URL",
            "Send traces to this receiver of OTLP over gRPC, such as http://127.0.0.1:4317, or to none with `off`; also read: OTEL_EXPORTER_OTLP_ENDPOINT",
        );
        390 otlp_sample_ratio: Ratio = option(
            "RATIO",
            "Share of traces that are sent, from 0 to 1; a trace that a known sender began follows the sender's choice",
        ).with_default("1.0");
    }
}

/// A receiver of traces, or none.
pub(super) struct Receiver(Option<OtlpEndpoint>);

impl Value for Receiver {
    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, |text| match text {
            "off" => Ok(Self(None)),
            _ => Ok(Self(Some(text.parse()?))),
        })
    }
}

/// A part of 1.
pub(super) struct Ratio(f64);

impl Value for Ratio {
    const KIND: Kind = Kind::Fraction;

    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, |text| match text.trim().parse() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Self(ratio)),
            _ => Err(format!("{text:?} is not a number from 0 to 1")),
        })
    }
}

impl TraceOptions {
    /// How traces are sent, if they are.
    pub(super) fn config(self, check: &mut Check<'_>) -> Option<OtlpConfig> {
        let Receiver(endpoint) = self.otlp_endpoint?;
        let endpoint = endpoint?;
        if !cfg!(feature = "otlp") {
            check.refuse(KEY, NO_OTLP);
            return None;
        }
        let environment = check.settings.environment;
        let mut chosen = PROTOCOL_VARIABLES
            .iter()
            .filter_map(|name| Some((name, environment.get(name)?)));
        if let Some((name, protocol)) = chosen.next()
            && protocol != PROTOCOL
        {
            check.report.warn(format!(
                "{name} is set to another protocol, and traces are sent over gRPC: --otlp-endpoint must name a port that speaks it, by default 4317"
            ));
        }
        Some(OtlpConfig {
            endpoint,
            sample_ratio: self.otlp_sample_ratio.map_or(1.0, |Ratio(ratio)| ratio),
        })
    }
}

/// Takes the endpoint from the standard variable, if no other place sets it.
pub(super) fn add_standard_endpoint(settings: &mut Settings) {
    let origin = Origin::Variable(STANDARD_VARIABLE);
    if settings
        .value(KEY)
        .is_some_and(|(_, known)| known == origin)
    {
        // The file may set it now.
        settings.given.forget(KEY);
    }
    if !cfg!(feature = "otlp") || settings.value(KEY).is_some() {
        return;
    }
    if let Some(endpoint) = settings.environment.get(STANDARD_VARIABLE) {
        settings.given.set(KEY, endpoint, origin);
    }
}

#[cfg(all(test, not(feature = "otlp")))]
mod tests {
    use super::super::{Origin, Settings, check};
    use crate::app::NO_OTLP;
    use crate::app::file::Environment;

    #[test]
    fn a_build_without_otlp_refuses_an_endpoint() {
        let mut settings = Settings {
            environment: Environment::LeftOut,
            ..Settings::default()
        };
        let endpoint = "http://127.0.0.1:4317";
        settings.given.set("otlp_endpoint", endpoint, Origin::Flag);
        let problems = check(&settings).err().unwrap_or_default();
        let [problem] = &problems[..] else {
            panic!("{problems:?}");
        };
        assert!(problem.to_string().contains(NO_OTLP), "{problem}");
        settings.given.set("otlp_endpoint", "off", Origin::Flag);
        check(&settings).expect("none is asked for");
    }
}
