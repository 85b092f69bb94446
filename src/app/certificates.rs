//! The certificates of both ports, reloaded when their files change.

use std::time::Duration;

use anyhow::Context as _;

use super::config::Config;
use crate::net::{CertificateFiles, Metrics, Renewal, Tls};

/// Interval between two reads of the files without a signal.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);

/// The certificates in force; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Certificates(Vec<Tls>);

impl Certificates {
    pub(super) fn load(
        &mut self,
        port: &'static str,
        files: &Option<CertificateFiles>,
        protocol: &'static [u8],
        metrics: &Metrics,
    ) -> anyhow::Result<Option<Tls>> {
        let Some(files) = files else { return Ok(None) };
        let tls = Tls::load(port, files, protocol, metrics.clone())
            .with_context(|| format!("--{port}-tls-cert, --{port}-tls-key"))?;
        self.0.push(tls.clone());
        Ok(Some(tls))
    }

    /// Reads the files that replace those of each port which speaks TLS.
    ///
    /// # Errors
    /// With the first that cannot be used; all stay as they are.
    pub(super) fn read(&self, config: &Config) -> anyhow::Result<Vec<Renewal>> {
        let mut renewals = Vec::new();
        for tls in &self.0 {
            let port = tls.port();
            let files = match port {
                "http" => &config.http.tls,
                _ => &config.grpc.tls,
            };
            let Some(files) = files else { continue };
            let read = tls.read(files);
            renewals.push(read.with_context(|| format!("--{port}-tls-cert, --{port}-tls-key"))?);
        }
        Ok(renewals)
    }

    /// Reads all files again. A file with an error leaves the former certificate in force.
    ///
    /// # Errors
    /// With the first error; the other ports' certificates are reloaded nevertheless.
    fn reload(&self) -> anyhow::Result<()> {
        let reloaded: Vec<_> = self.0.iter().map(Tls::reload).collect();
        for outcome in reloaded {
            outcome?;
        }
        Ok(())
    }

    /// Reads the files again at an interval, because a program that renews them may send no
    /// signal.
    pub(super) async fn keep(self) {
        let mut reported = None;
        loop {
            tokio::time::sleep(RENEWAL_INTERVAL).await;
            let message = self.reload().err().map(|error| format!("{error:#}"));
            if let (Some(error), true) = (&message, message != reported) {
                tracing::error!(%error, "TLS certificate not taken; the former stays in force");
            }
            reported = message;
        }
    }
}
