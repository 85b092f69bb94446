//! The certificates of both ports, kept as the files have them.

use std::time::Duration;

use anyhow::Context as _;

use crate::net::{CertificateFiles, Metrics, Tls};

/// How often the files are looked at without being asked.
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
        let tls = Tls::load(port, files.clone(), protocol, metrics.clone());
        let tls = tls.with_context(|| format!("--{port}-tls-cert, --{port}-tls-key"))?;
        self.0.push(tls.clone());
        Ok(Some(tls))
    }

    /// Reads all files again. What is wrong leaves the certificate in force that was.
    ///
    /// # Errors
    /// With what is wrong first; the other ports' certificates are taken nevertheless.
    pub fn reload(&self) -> anyhow::Result<()> {
        let reloaded = self.0.iter().map(Tls::reload);
        let reloaded: Vec<_> = reloaded.collect();
        for outcome in reloaded {
            outcome?;
        }
        Ok(())
    }

    /// Reads the files again and again, for whoever renews them without a signal.
    pub(super) async fn keep(self) {
        let mut told = None;
        loop {
            tokio::time::sleep(RENEWAL_INTERVAL).await;
            let wrong = self.reload().err().map(|error| format!("{error:#}"));
            if let (Some(error), true) = (&wrong, wrong != told) {
                tracing::error!(%error, "a TLS certificate was not taken; the former stays in force");
            }
            told = wrong;
        }
    }
}
