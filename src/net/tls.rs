//! TLS: certificates from files, read again while the port is open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::rustls;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::metrics::Metrics;
use crate::files;

/// The largest file in PEM; all public authorities together take some hundred KiB.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// The files of a port's certificate, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose client certificates are accepted.
    pub client_ca: Option<PathBuf>,
}

/// Why these files cannot serve for TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: files::Error },
    /// A file is not PEM.
    #[error("{}: {error}", path.display())]
    Pem { path: PathBuf, error: pem::Error },
    /// A file holds no certificate.
    #[error("{}: holds no certificate in PEM (-----BEGIN CERTIFICATE-----)", .0.display())]
    NoCertificate(PathBuf),
    /// A file holds no private key.
    #[error("{}: holds no private key in PEM (-----BEGIN PRIVATE KEY-----)", .0.display())]
    NoKey(PathBuf),
    /// The certificate cannot be used.
    #[error("{} with {}: {error}", certificate.display(), key.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        error: rustls::Error,
    },
    /// The authorities cannot be used.
    #[error("{}: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        reason: String,
    },
}

impl TlsError {
    /// The file that it is about.
    #[must_use]
    pub fn file(&self) -> &Path {
        match self {
            Self::File { path, .. } | Self::Pem { path, .. } => path,
            Self::Authorities { path, .. } => path,
            Self::NoCertificate(path) | Self::NoKey(path) => path,
            Self::Unusable { certificate, .. } => certificate,
        }
    }
}

/// TLS on one port; clones share the certificate in force.
#[derive(Clone, Debug)]
pub struct Tls {
    port: &'static str,
    protocol: &'static [u8],
    metrics: Metrics,
    current: Arc<RwLock<Loaded>>,
}

#[derive(Clone, Debug)]
struct Loaded {
    files: CertificateFiles,
    config: Arc<ServerConfig>,
    source: Source,
}

/// Certificates that were read for a port, and are not in force yet.
#[derive(Debug)]
pub struct Renewal {
    tls: Tls,
    loaded: Loaded,
}

impl Renewal {
    /// Puts them in force for connections that open from now on. Returns whether they differ
    /// from those before.
    pub fn put_in_force(self) -> bool {
        self.put_in_force_where(|_| true)
    }

    /// Puts them in force, unless the certificates in force are no longer `former`.
    fn put_in_place_of(self, former: &Loaded) -> bool {
        self.put_in_force_where(|current| Arc::ptr_eq(&current.config, &former.config))
    }

    fn put_in_force_where(self, is_wanted: impl FnOnce(&Loaded) -> bool) -> bool {
        let Self { tls, loaded } = self;
        let mut current = tls.current.write();
        if !is_wanted(&current) {
            return false;
        }
        let is_other = current.source != loaded.source;
        if is_other || current.files != loaded.files {
            announce(tls.port, &loaded.source.chain, &tls.metrics);
            *current = loaded;
        }
        is_other
    }
}

impl CertificateFiles {
    /// Reads the files without using them. Returns a warning, if they deserve one.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn check(&self) -> Result<Option<String>, TlsError> {
        let loaded = load(self, b"")?;
        let leaf = loaded.source.chain.first();
        let leaf = leaf.map(|leaf| X509Certificate::from_der(leaf));
        let is_authority = matches!(leaf, Some(Ok((_, leaf))) if leaf.is_ca());
        Ok(is_authority.then(|| {
            format!(
                "{} is the certificate of an authority (CA:TRUE), and many clients refuse that of a server; make it with basicConstraints CA:FALSE",
                self.certificate.display()
            )
        }))
    }
}

/// The content of the files, to see whether it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    chain: Vec<CertificateDer<'static>>,
    authorities: Vec<CertificateDer<'static>>,
}

/// Reads a file of authorities without using it.
///
/// # Errors
/// When it holds no certificate.
pub fn check_authorities(path: &Path) -> Result<(), TlsError> {
    certificates(path).map(|_| ())
}

impl Tls {
    /// Reads the files of a port whose connections speak `protocol` (ALPN).
    ///
    /// # Errors
    /// When a file cannot be used, or the key does not belong to the certificate.
    pub fn load(
        port: &'static str,
        files: &CertificateFiles,
        protocol: &'static [u8],
        metrics: Metrics,
    ) -> Result<Self, TlsError> {
        let loaded = load(files, protocol)?;
        announce(port, &loaded.source.chain, &metrics);
        Ok(Self {
            port,
            protocol,
            metrics,
            current: Arc::new(RwLock::new(loaded)),
        })
    }

    /// Reads `files`, which replace the former ones once they are put in force.
    ///
    /// # Errors
    /// As [`Tls::load`]; the former certificate stays in force.
    pub fn read(&self, files: &CertificateFiles) -> Result<Renewal, TlsError> {
        Ok(Renewal {
            tls: self.clone(),
            loaded: load(files, self.protocol)?,
        })
    }

    /// Reads the files again, for connections that open from now on. Returns whether that put
    /// another certificate in force. Files that replaced these meanwhile stay.
    ///
    /// # Errors
    /// As [`Tls::load`]; the former certificate stays in force.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let former = self.loaded();
        match self.read(&former.files) {
            Ok(renewal) => Ok(renewal.put_in_place_of(&former)),
            // Other files are in force by now, so an error in these does not matter.
            Err(_) if !Arc::ptr_eq(&former.config, &self.current()) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn loaded(&self) -> Loaded {
        let current = self.current.read();
        current.clone()
    }

    /// The port's name.
    #[must_use]
    pub fn port(&self) -> &'static str {
        self.port
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        let current = self.current.read();
        Arc::clone(&current.config)
    }
}

fn load(files: &CertificateFiles, protocol: &[u8]) -> Result<Loaded, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = private_key(&files.key)?;
    let unusable = |error| TlsError::Unusable {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        error,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let (builder, authorities) = match &files.client_ca {
        None => (builder.with_no_client_auth(), Vec::new()),
        Some(path) => {
            let authorities = certificates(path)?;
            let refused = |reason: String| TlsError::Authorities {
                path: path.clone(),
                reason,
            };
            let mut roots = RootCertStore::empty();
            for authority in &authorities {
                let added = roots.add(authority.clone());
                added.map_err(|error| refused(error.to_string()))?;
            }
            // A client without a certificate shows other credentials with each call.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| refused(error.to_string()))?;
            (builder.with_client_cert_verifier(verifier), authorities)
        }
    };
    let mut config = builder
        .with_single_cert(chain.clone(), key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    if files.client_ca.is_some() {
        // A session that is resumed is not verified again, however long its certificate
        // has expired.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Loaded {
        files: files.clone(),
        config: Arc::new(config),
        source: Source { chain, authorities },
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read_pem(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem {
            path: path.to_owned(),
            error,
        })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read_pem(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey(path.to_owned()),
        error => TlsError::Pem {
            path: path.to_owned(),
            error,
        },
    })
}

/// Reads a file in PEM. Not from a pipe, because the files are read again every minute.
fn read_pem(path: &Path) -> Result<Vec<u8>, TlsError> {
    match files::read(path, PEM_BYTES_MAX) {
        Ok(content) => Ok(content.bytes),
        Err(error) => Err(TlsError::File {
            path: path.to_owned(),
            error,
        }),
    }
}

fn announce(port: &'static str, chain: &[CertificateDer<'_>], metrics: &Metrics) {
    let leaf = chain.first().map(|leaf| X509Certificate::from_der(leaf));
    let Some(Ok((_, leaf))) = leaf else {
        return;
    };
    let until = leaf.validity().not_after;
    metrics.set_certificate_expiry(port, until.timestamp());
    tracing::info!(
        port,
        names = names(&leaf).join(","),
        not_after = %until,
        "TLS certificate in force"
    );
}

/// The names of the first certificate, which the handshake has verified.
pub(super) fn certificate_names(chain: &[CertificateDer<'_>]) -> Arc<[String]> {
    let leaf = chain.first().map(|leaf| X509Certificate::from_der(leaf));
    match leaf {
        Some(Ok((_, leaf))) => names(&leaf).into(),
        _ => Arc::default(),
    }
}

/// DNS names and URIs (as SPIFFE has them); where there are none, the common name (RFC
/// 6125, section 6.4.4): authorities check the former, and may copy the latter.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let general_names = alternative
        .iter()
        .flat_map(|extension| &extension.value.general_names);
    let mut names: Vec<String> = general_names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        let common = certificate.subject().iter_common_name();
        names.extend(common.filter_map(|name| name.as_str().ok().map(str::to_owned)));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(directory: &Path, name: &str) -> CertificateFiles {
        let issued = rcgen::generate_simple_self_signed([name.to_owned()]).expect("issued");
        let path = |end: &str| directory.join(format!("{name}.{end}"));
        std::fs::write(path("crt"), issued.cert.pem()).expect("written");
        std::fs::write(path("key"), issued.signing_key.serialize_pem()).expect("written");
        CertificateFiles {
            certificate: path("crt"),
            key: path("key"),
            client_ca: None,
        }
    }

    #[test]
    fn files_read_before_a_reload_do_not_undo_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let [before, after] = ["before", "after"].map(|name| files(directory.path(), name));
        let tls = Tls::load("http", &before, b"http/1.1", Metrics::default()).expect("loads");
        let former = tls.loaded();
        let look = tls.read(&before).expect("read");
        assert!(tls.read(&after).expect("read").put_in_force());
        assert!(!look.put_in_place_of(&former));
        assert_eq!(tls.loaded().files, after);
        // The next look is at the files that are in force.
        let renewed = files(directory.path(), "after");
        assert!(tls.reload().expect("read"));
        assert_eq!(tls.loaded().files, renewed);
    }
}
