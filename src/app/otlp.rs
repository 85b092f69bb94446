//! Where traces are sent: OTLP over gRPC.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use prometheus_client::registry::Registry;

use crate::telemetry::traces::{Metrics, Traces};

/// The error of a build without the feature, if an endpoint is configured.
pub(crate) const NO_OTLP: &str = "this build cannot send traces; build with --features otlp";

/// How traces are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpConfig {
    /// The receiver.
    pub endpoint: OtlpEndpoint,
    /// Share of the traces without a parent that are sent.
    pub sample_ratio: f64,
}

/// The URL of a receiver of OTLP over gRPC, which holds no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint(Uri);

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for OtlpEndpoint {
    type Err = &'static str;

    /// Messages leave the text out, because it may hold credentials.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected http://HOST:PORT or https://HOST:PORT of a receiver of OTLP over gRPC, such as http://127.0.0.1:4317, or off";
        let uri: Uri = text.parse().map_err(|_| EXPECTED)?;
        let authority = uri.authority().ok_or(EXPECTED)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(EXPECTED);
        }
        if authority.as_str().contains('@') {
            return Err("a URL with credentials would be shown: set OTEL_EXPORTER_OTLP_HEADERS");
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(
                "gRPC has no path: leave it out, and name the port that speaks gRPC, by default 4317",
            );
        }
        Ok(Self(uri))
    }
}

/// Starts sending traces, if that is configured. The receiver need not be there yet.
pub(super) async fn traces(
    config: Option<&OtlpConfig>,
    registry: &mut Registry,
) -> anyhow::Result<Traces> {
    let metrics = Metrics::register(registry);
    match config {
        Some(config) => start(config, &metrics).await,
        None => Ok(Traces::default()),
    }
}

#[cfg(not(feature = "otlp"))]
async fn start(_: &OtlpConfig, _: &Metrics) -> anyhow::Result<Traces> {
    anyhow::bail!(NO_OTLP)
}

#[cfg(feature = "otlp")]
use sending::start;

#[cfg(feature = "otlp")]
mod sending {
    use std::time::Duration;

    use anyhow::Context as _;
    use http::uri::Scheme;
    use opentelemetry::{Key, KeyValue};
    use opentelemetry_otlp::{SpanExporter, WithTonicConfig as _};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::SpanExporter as _;
    use tonic::transport::{ClientTlsConfig, Endpoint};

    use super::{Metrics, OtlpConfig, OtlpEndpoint, Traces};
    use crate::telemetry::{VERSION, traces};

    const SERVICE_NAME: Key = Key::from_static_str("service.name");
    /// How the SDK names a service that the environment does not name.
    const UNNAMED: &str = "unknown_service";
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
    /// A connection is asked whether it is alive while an answer is missing for this long …
    const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
    /// … and given up when it does not answer.
    const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

    pub(super) async fn start(config: &OtlpConfig, metrics: &Metrics) -> anyhow::Result<Traces> {
        let endpoint = config.endpoint.clone();
        let build = move || exporter(&endpoint);
        let traces = traces::start(build, config.sample_ratio, metrics).await;
        let traces = traces
            .map_err(anyhow::Error::msg)
            .context("--otlp-endpoint")?;
        tracing::info!(
            endpoint = %config.endpoint,
            sample_ratio = config.sample_ratio,
            "sending traces"
        );
        Ok(traces)
    }

    fn exporter(OtlpEndpoint(uri): &OtlpEndpoint) -> Result<SpanExporter, String> {
        let endpoint = Endpoint::from(uri.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        let endpoint = if uri.scheme() == Some(&Scheme::HTTPS) {
            let tls = ClientTlsConfig::new().with_native_roots();
            let secured = endpoint.tls_config(tls);
            secured.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?
        } else {
            endpoint
        };
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_channel(endpoint.connect_lazy())
            .build();
        let mut exporter = exporter.map_err(|error| error.to_string())?;
        exporter.set_resource(&resource());
        Ok(exporter)
    }

    /// The gateway as the receiver knows it; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`
    /// win.
    fn resource() -> Resource {
        let of_environment = Resource::builder().build();
        let name = of_environment
            .get(&SERVICE_NAME)
            .map(|name| name.to_string());
        let is_named = name.is_some_and(|name| !name.starts_with(UNNAMED));
        let version = KeyValue::new("service.version", VERSION);
        let resource = Resource::builder().with_attribute(version);
        match is_named {
            true => resource.build(),
            false => resource.with_service_name(env!("CARGO_PKG_NAME")).build(),
        }
    }
}
