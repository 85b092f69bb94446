//! Who may call: the callers of the configuration, and who one of them is.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::policy::Policy;
use super::token::{TOKEN_PREFIX, TokenHash};

/// The name of callers without credentials, where they are let in.
pub const ANONYMOUS: &str = "anonymous";

/// Calls of one principal that are worked on at once; more wait. What is made and not read
/// yet is bounded elsewhere: a caller that reads nothing must not stop others of its name.
pub const CALLS_MAX: usize = 64;

/// Stands for every name of a certificate that no principal has.
pub const ANY_NAME: &str = "*";

/// A principal and how it is recognized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalConfig {
    /// Its name, in logs and listings.
    pub name: String,
    /// What its tokens hash to; several while one replaces another.
    pub token_hashes: Vec<TokenHash>,
    /// Names of client certificates: a common name, DNS name or URI; or [`ANY_NAME`].
    pub certificate_names: Vec<String>,
    /// What it may receive.
    pub policy: Policy,
}

/// Everyone who may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// The principals with credentials; no two have the same name.
    pub principals: Vec<PrincipalConfig>,
    /// What those may receive who show none; none where they are not let in.
    pub anonymous: Option<Policy>,
}

impl AccessConfig {
    /// The names of all, [`ANONYMOUS`] among them where such callers are let in.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let principals = self.principals.iter();
        let anonymous = self.anonymous.as_ref().map(|_| ANONYMOUS);
        principals
            .map(|principal| principal.name.as_str())
            .chain(anonymous)
    }
}

/// What a caller shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// Its bearer token.
    pub token: Option<&'a str>,
    /// The names of its verified certificate.
    pub certificate_names: &'a [String],
}

/// Why a caller is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It shows no credentials.
    #[error(
        "authentication required: send the metadata `authorization: Bearer <token>` (an operator makes one with `clerkcast token new NAME`), or show a client certificate"
    )]
    NoCredentials,
    /// No principal has its token.
    #[error("unknown token (rotated or truncated?)")]
    Token,
    /// No principal has a name of its certificate.
    #[error("the client certificate is valid, but none of its names is a principal's")]
    Certificate,
}

impl AuthError {
    /// Every error.
    pub(super) const ALL: [Self; 3] = [Self::NoCredentials, Self::Token, Self::Certificate];

    /// As it stands in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::Token => "unknown_token",
            Self::Certificate => "unknown_certificate",
        }
    }
}

/// An authenticated caller; clones share it.
#[derive(Clone, Debug)]
pub struct Principal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    policy: Policy,
    /// Set once the configuration has changed for this principal; looked at for each piece of
    /// each stream.
    notice: OnceLock<Notice>,
    /// Canceled after `notice` is set.
    revoked: CancellationToken,
    calls: Arc<Semaphore>,
}

/// What one replacement of the configuration did to a principal.
#[derive(Debug)]
struct Notice {
    revocation: Revocation,
    /// The streams that this replacement ends, of all principals; counted by the first that
    /// notices, before any of them has left.
    streams: Arc<OnceLock<usize>>,
}

/// Why a principal is no longer what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// It may not call any more.
    Removed,
    /// It may receive something else, which its next call shows.
    Changed,
}

impl Principal {
    fn new(name: &str, policy: Policy) -> Self {
        Self {
            shared: Arc::new(Shared {
                name: name.to_owned(),
                policy,
                notice: OnceLock::new(),
                revoked: CancellationToken::new(),
                calls: Arc::new(Semaphore::new(CALLS_MAX)),
            }),
        }
    }

    /// A caller without credentials, which no configuration names or takes back.
    #[must_use]
    pub fn anonymous(policy: Policy) -> Self {
        Self::new(ANONYMOUS, policy)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What it may receive.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.shared.policy
    }

    /// Why it is no longer what it was; none while it is in force.
    #[must_use]
    pub fn revocation(&self) -> Option<Revocation> {
        self.shared.notice.get().map(|notice| notice.revocation)
    }

    /// How many streams the replacement ends that ended this principal: `count` is asked
    /// once, by the first stream that notices. 0 while it is in force.
    pub fn streams_ended(&self, count: impl FnOnce() -> usize) -> usize {
        let notice = self.shared.notice.get();
        notice.map_or(0, |notice| *notice.streams.get_or_init(count))
    }

    /// Completes when it is no longer what it was.
    pub async fn revoked(&self) {
        self.shared.revoked.cancelled().await;
    }

    /// A token of one call's own, cancelled when the principal is no longer what it was.
    #[must_use]
    pub fn revocation_token(&self) -> CancellationToken {
        self.shared.revoked.child_token()
    }

    /// Permits work on one call, as soon as fewer than [`CALLS_MAX`] of this principal's are
    /// worked on.
    pub async fn work_permit(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.shared.calls).acquire_owned().await;
        permit.unwrap_or_else(|_| unreachable!("it is never closed"))
    }

    fn revoke(&self, revocation: Revocation, streams: &Arc<OnceLock<usize>>) {
        let streams = Arc::clone(streams);
        let _revoked_before = self.shared.notice.set(Notice {
            revocation,
            streams,
        });
        self.shared.revoked.cancel();
    }
}

/// What [`Access::replace`] did to the principals, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replacement {
    /// Not there before.
    pub added: Vec<String>,
    /// Recognised or served in another way than before.
    pub changed: Vec<String>,
    /// Not there any more.
    pub removed: Vec<String>,
}

/// Authenticates callers; clones share the directory.
#[derive(Clone, Debug)]
pub struct Access {
    directory: Arc<RwLock<Directory>>,
}

#[derive(Debug)]
struct Directory {
    principals: Vec<(PrincipalConfig, Principal)>,
    anonymous: Option<Principal>,
}

impl Access {
    /// Authenticates the callers of `config` and no others.
    #[must_use]
    pub fn new(config: AccessConfig) -> Self {
        let directory = Directory {
            principals: config
                .principals
                .into_iter()
                .map(|identity| {
                    let principal = Principal::new(&identity.name, identity.policy.clone());
                    (identity, principal)
                })
                .collect(),
            anonymous: config.anonymous.map(Principal::anonymous),
        };
        Self {
            directory: Arc::new(RwLock::new(directory)),
        }
    }

    /// Returns the principal that calls. A token is looked at first, and an unknown one is
    /// refused whatever else is shown: its owner means to be a principal.
    ///
    /// # Errors
    /// When the configuration lets no such caller in.
    pub fn authenticate(&self, shown: Credentials<'_>) -> Result<Principal, AuthError> {
        let directory = self.directory.read();
        if let Some(token) = shown.token {
            // An empty one has a hash too, which a script may have written down.
            if !token.starts_with(TOKEN_PREFIX) {
                return Err(AuthError::Token);
            }
            let hash = TokenHash::of(token);
            // All are compared, so that the time taken does not depend on the place.
            let found = directory
                .principals
                .iter()
                .fold(None, |found, (config, principal)| {
                    let hashes = config.token_hashes.iter();
                    let is_known = hashes.fold(false, |is_known, known| known.is(&hash) | is_known);
                    found.or_else(|| is_known.then(|| principal.clone()))
                });
            return found.ok_or(AuthError::Token);
        }
        let by_certificate = directory.by_certificate(shown.certificate_names);
        match (by_certificate, &directory.anonymous) {
            (Some(principal), _) | (None, Some(principal)) => Ok(principal.clone()),
            (None, None) if shown.certificate_names.is_empty() => Err(AuthError::NoCredentials),
            (None, None) => Err(AuthError::Certificate),
        }
    }

    /// The principal of this name, with the policy that it has now; [`ANONYMOUS`] too. `None` if
    /// the configuration names no such principal.
    #[must_use]
    pub fn principal(&self, name: &str) -> Option<Principal> {
        let directory = self.directory.read();
        if name == ANONYMOUS {
            return directory.anonymous.clone();
        }
        let mut principals = directory.principals.iter();
        let found = principals.find(|(config, _)| config.name == name);
        found.map(|(_, principal)| principal.clone())
    }

    /// Whether the configuration lets more than one principal call, [`ANONYMOUS`] included.
    #[must_use]
    pub fn has_several_principals(&self) -> bool {
        let directory = self.directory.read();
        directory.principals.len() + usize::from(directory.anonymous.is_some()) > 1
    }

    /// Authenticates the callers of `config` from now on. Principals that it changes or
    /// removes are revoked.
    pub fn replace(&self, config: AccessConfig) -> Replacement {
        let mut directory = self.directory.write();
        let mut former: BTreeMap<String, (PrincipalConfig, Principal)> =
            std::mem::take(&mut directory.principals)
                .into_iter()
                .map(|(identity, principal)| (identity.name.clone(), (identity, principal)))
                .collect();
        let mut replacement = Replacement::default();
        let streams = Arc::default();
        for identity in config.principals {
            let principal = match former.remove(&identity.name) {
                Some((before, principal)) if before == identity => principal,
                Some((_, before)) => {
                    before.revoke(Revocation::Changed, &streams);
                    replacement.changed.push(identity.name.clone());
                    Principal::new(&identity.name, identity.policy.clone())
                }
                None => {
                    replacement.added.push(identity.name.clone());
                    Principal::new(&identity.name, identity.policy.clone())
                }
            };
            directory.principals.push((identity, principal));
        }
        for (name, (_, principal)) in former {
            principal.revoke(Revocation::Removed, &streams);
            replacement.removed.push(name);
        }
        directory.replace_anonymous(config.anonymous, &mut replacement, &streams);
        replacement
    }
}

impl Directory {
    /// A certificate can have several names: the principal that is configured first wins.
    fn by_certificate(&self, shown: &[String]) -> Option<&Principal> {
        let having = |is_match: &dyn Fn(&String) -> bool| {
            let mut known = self.principals.iter();
            known.find(|(identity, _)| identity.certificate_names.iter().any(is_match))
        };
        let named = having(&|name| shown.contains(name));
        let any = || having(&|name| !shown.is_empty() && name == ANY_NAME);
        named.or_else(any).map(|(_, principal)| principal)
    }

    fn replace_anonymous(
        &mut self,
        policy: Option<Policy>,
        replacement: &mut Replacement,
        streams: &Arc<OnceLock<usize>>,
    ) {
        let before = self.anonymous.take();
        let name = || ANONYMOUS.to_owned();
        self.anonymous = match (before, policy) {
            (None, None) => None,
            (Some(before), Some(policy)) if *before.policy() == policy => Some(before),
            (None, Some(policy)) => {
                replacement.added.push(name());
                Some(Principal::anonymous(policy))
            }
            (Some(before), None) => {
                before.revoke(Revocation::Removed, streams);
                replacement.removed.push(name());
                None
            }
            (Some(before), Some(policy)) => {
                before.revoke(Revocation::Changed, streams);
                replacement.changed.push(name());
                Some(Principal::anonymous(policy))
            }
        };
    }
}
