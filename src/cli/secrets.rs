//! Where the commands look for a signing secret.

use super::Failure;
use crate::webhook::SigningSecret;

/// The older name, which most code outside Clerk uses.
pub(super) const LEGACY_VARIABLE: &str = "CLERK_WEBHOOK_SECRET";
const VARIABLES: [&str; 3] = [
    "CLERKCAST_SIGNING_SECRET",
    "CLERK_WEBHOOK_SIGNING_SECRET",
    LEGACY_VARIABLE,
];

/// The secrets as they are written, and where: on the command line, or in the first of
/// the variables that is not empty, which is how `${X:-}` says that X is not set.
pub(super) fn find(flag: Option<&str>) -> Option<(&'static str, String)> {
    if let Some(text) = flag {
        return Some(("--signing-secret", text.to_owned()));
    }
    let mut set = VARIABLES
        .iter()
        .filter_map(|name| Some((*name, std::env::var(name).ok()?)));
    set.find(|(_, text)| !text.is_empty())
}

/// The secrets for a command that cannot do without.
pub(super) fn secrets_of(flag: Option<&str>) -> Result<Vec<SigningSecret>, Failure> {
    let (origin, text) = find(flag).ok_or_else(no_secret)?;
    SigningSecret::parse_list(&text).map_err(|error| Failure::Usage(format!("{origin}: {error}")))
}

pub(super) fn no_secret() -> Failure {
    Failure::Usage(
        "no signing secret: pass --secret, or set CLERK_WEBHOOK_SIGNING_SECRET; `clerkcast dev` prints one".to_owned(),
    )
}
