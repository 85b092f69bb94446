//! The configuration of the log on NATS. A build without NATS compiles only this file of the
//! module, so that it checks the options before it refuses them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

#[cfg(feature = "nats")]
use async_nats::ServerAddr;

use crate::log::record::DEDUPE_WINDOW;
#[cfg(not(feature = "nats"))]
use absent::ServerAddr;

/// How long the marker of a deleted cell stays: longer than a message is on its way that was
/// published before the deletion.
const MARKERS_KEPT_FOR: Duration = Duration::from_secs(10 * 60);

/// The configuration of the log on NATS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The servers to connect to; they announce the others.
    pub servers: Vec<ServerUrl>,
    /// How the gateway and the servers authenticate each other.
    pub security: Security,
    /// The stream's name.
    pub stream: String,
    /// The first tokens of its subjects.
    pub subject_prefix: String,
    /// Number of servers that keep a copy.
    pub replicas: usize,
    /// How long the stream remembers an id.
    pub duplicate_window: Duration,
    /// Remove records that are older.
    pub retain_for: Option<Duration>,
    /// Remove the oldest records while the stream takes up more bytes.
    pub retain_bytes: Option<u64>,
    /// How long the marker of a deleted cell stays.
    pub markers_kept_for: Duration,
    /// What to do if the stream does not exist.
    pub missing: Missing,
}

/// What to do if the stream does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// Create the stream, and the bucket of its cells.
    #[default]
    Create,
    /// Fail to open the log. It is only read, and not asked for cells.
    Refuse,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            security: Security::default(),
            stream: "CLERKCAST".to_owned(),
            subject_prefix: "clerk".to_owned(),
            replicas: 1,
            duplicate_window: DEDUPE_WINDOW,
            retain_for: None,
            retain_bytes: None,
            markers_kept_for: MARKERS_KEPT_FOR,
            missing: Missing::Create,
        }
    }
}

/// The address of a server, such as `nats://host:4222`. Its text never shows a password.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(pub(super) ServerAddr);

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The message does not repeat the text, which may hold a password.
        let invalid =
            || "write nats://HOST:PORT or tls://HOST:PORT, several separated by commas".to_owned();
        let address: ServerAddr = text.parse().map_err(|_| invalid())?;
        if !matches!(address.scheme(), "nats" | "tls") || address.host().is_empty() {
            return Err(invalid());
        }
        Ok(Self(address))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(address) = self;
        let (scheme, host, port) = (address.scheme(), address.host(), address.port());
        write!(formatter, "{scheme}://{host}:{port}")
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The gateway's credentials, and the authorities for the servers' certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// A file of credentials, as `nsc` makes it.
    pub credentials: Option<PathBuf>,
    /// Authorities that vouch for the servers, beside the system's.
    pub ca: Option<PathBuf>,
    /// The certificate and the key that the gateway shows to the servers.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Checks a prefix: plain tokens, which need no encoding.
///
/// # Errors
/// With what is wrong.
pub fn check_prefix(prefix: &str) -> Result<(), &'static str> {
    let is_plain = |token: &str| !token.is_empty() && token.bytes().all(is_safe);
    if prefix.len() <= 64 && prefix.split('.').all(is_plain) {
        Ok(())
    } else {
        Err("a subject prefix is at most 64 of A-Z, a-z, 0-9, - and _, in tokens separated by dots")
    }
}

/// Whether a subject holds the byte unencoded.
pub(super) const fn is_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// In a build without NATS, no text is a server's address.
#[cfg(not(feature = "nats"))]
mod absent {
    #[derive(Clone, PartialEq, Eq)]
    pub(in super::super) enum ServerAddr {}

    impl std::str::FromStr for ServerAddr {
        type Err = ();

        fn from_str(_: &str) -> Result<Self, ()> {
            Err(())
        }
    }

    impl ServerAddr {
        pub(super) fn scheme(&self) -> &str {
            match *self {}
        }

        pub(super) fn host(&self) -> &str {
            match *self {}
        }

        pub(super) fn port(&self) -> u16 {
            match *self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check_prefix;

    #[test]
    fn a_prefix_is_plain_tokens() {
        for prefix in ["clerk", "prod.clerk", "a-b_C9"] {
            assert_eq!(check_prefix(prefix), Ok(()));
        }
        for prefix in ["", ".", "clerk.", "clerk.>", "cl erk", "*", "$JS.API"] {
            assert!(check_prefix(prefix).is_err(), "{prefix}");
        }
    }
}
