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

/// The address of a server, such as `nats://host:4222`, and the login that its URL holds. Its
/// text never shows the login.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    /// Without the login, because the client of NATS logs addresses.
    pub(super) address: ServerAddr,
    login: Option<Login>,
}

impl ServerUrl {
    /// What to show to the servers, if the URL holds that.
    #[must_use]
    pub const fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    fn read(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return None;
        }
        let (login, host) = match rest.rsplit_once('@') {
            Some((login, host)) => (Some(Login::read(login)?), host),
            None => (None, rest),
        };
        let address: ServerAddr = format!("{scheme}://{host}").parse().ok()?;
        let is_usable = matches!(address.scheme(), "nats" | "tls") && !address.host().is_empty();
        is_usable.then_some(Self { address, login })
    }
}

impl FromStr for ServerUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        // The message does not repeat the text, which may hold a password.
        Self::read(text).ok_or(
            "write nats://HOST:PORT or tls://HOST:PORT, several separated by commas; USER:PASSWORD@ or TOKEN@ before HOST is percent-encoded, such as %2C for a comma",
        )
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = &self.address;
        let (scheme, host, port) = (address.scheme(), address.host(), address.port());
        write!(formatter, "{scheme}://{host}:{port}")
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// What a URL holds before the host, decoded.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// `nats://TOKEN@HOST`.
    Token(String),
    /// `nats://USER:PASSWORD@HOST`.
    User {
        /// The user's name.
        name: String,
        /// Its password.
        password: String,
    },
}

impl Login {
    fn read(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("", _)) => None,
            Some((name, password)) => Some(Self::User {
                name: from_percent(name)?,
                password: from_percent(password)?,
            }),
            None if text.is_empty() => None,
            None => from_percent(text).map(Self::Token),
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Token(_) => "Token",
            Self::User { .. } => "User",
        })
    }
}

/// Decodes `%2F`. Nothing if a `%` stands for itself, or the bytes are not UTF-8.
fn from_percent(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push(match byte {
            b'%' => u8::try_from(digit()? * 16 + digit()?).ok()?,
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok()
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

#[cfg(all(test, feature = "nats"))]
mod url_tests {
    use super::{Login, ServerUrl};

    fn login(url: &str) -> Option<Login> {
        let url: ServerUrl = url.parse().expect(url);
        for text in [url.to_string(), format!("{url:?}")] {
            assert_eq!(text, "nats://host:4222");
        }
        assert_eq!(url.address.username(), None);
        assert_eq!(url.address.password(), None);
        url.login().cloned()
    }

    #[test]
    fn a_login_is_decoded_and_never_shown() {
        let token = |text: &str| Some(Login::Token(text.to_owned()));
        let user = |name: &str, password: &str| {
            let (name, password) = (name.to_owned(), password.to_owned());
            Some(Login::User { name, password })
        };
        for url in ["nats://host", "nats://host:4222/", "host", "host:4222"] {
            assert_eq!(login(url), None, "{url}");
        }
        assert_eq!(login("nats://s3cr3t@host"), token("s3cr3t"));
        assert_eq!(login("nats://s%3Acr%3at@host"), token("s:cr:t"));
        assert_eq!(login("nats://me:pa55@host"), user("me", "pa55"));
        assert_eq!(login("me:pa55@host:4222"), user("me", "pa55"));
        let url = "nats://m%20e:p%C3%A4%2C%2F@%25:@host/";
        assert_eq!(login(url), user("m e", "p\u{e4},/@%:"));
        assert_eq!(login("nats://me:@host"), user("me", ""));
        let shown = format!("{:?}{:?}", token("s3cr3t"), user("me", "pa55"));
        assert_eq!(shown, "Some(Token)Some(User)");
    }

    #[test]
    fn an_invalid_url_is_refused_and_not_repeated() {
        for url in [
            "",
            "nats://",
            "http://me:pa55@host",
            "nats://pa55/word@host",
            "nats://pa55?word@host",
            "nats://me:pa55#word@host",
            "nats://me:50%@host",
            "nats://me:pa%+55@host",
            "nats://me:%ffpa55@host",
            "nats://:pa55@host",
            "nats://@host",
            "nats://me:pa55@",
        ] {
            let refused = url.parse::<ServerUrl>().expect_err(url);
            assert!(refused.starts_with("write nats://HOST:PORT"), "{refused}");
            assert!(!refused.contains("pa55"), "{refused}");
        }
    }
}
