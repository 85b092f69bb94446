//! Finds the signing secret or the token of a command.

use std::path::Path;

use super::failure::Failure;
use super::output::note;
use crate::app::file::{Environment, FILE_SUFFIX, SecretText, VARIABLES, of_variable, read_file};
use crate::webhook::SigningSecret;

const TOKEN_VARIABLE: &str = "CLERKCAST_TOKEN";

/// The text of the secrets, and its origin: the command line, or the first variable that is not
/// empty, or the file that its twin names.
pub(super) fn find(flag: &str, given: Option<&str>) -> Result<Option<(String, String)>, Failure> {
    if let Some(text) = given {
        return Ok(Some((flag.to_owned(), text.to_owned())));
    }
    let mut first = None;
    for variable in VARIABLES {
        let held = of_variable(Environment::OfProcess, variable)
            .map_err(|(name, message)| Failure::Usage(format!("{name}: {message}")))?;
        first = first.or(held);
    }
    Ok(first.map(warned).map(|held| (held.variable, held.text)))
}

fn warned(held: SecretText) -> SecretText {
    if let Some(warning) = &held.warning {
        note(format_args!("warning: {warning}"));
    }
    held
}

/// The secrets for a command that cannot do without.
pub(super) fn secrets_of(given: Option<&str>) -> Result<Vec<SigningSecret>, Failure> {
    let (origin, text) = find("--secret", given)?.ok_or_else(no_secret)?;
    SigningSecret::parse_list(&text).map_err(|error| Failure::Usage(format!("{origin}: {error}")))
}

pub(super) fn no_secret() -> Failure {
    Failure::Usage(
        "--secret: no signing secret; pass it, or set CLERK_WEBHOOK_SIGNING_SECRET (`clerkcast dev` prints one)".to_owned(),
    )
}

/// The token that a flag or its variable holds, or the file that the variable's twin names.
pub(super) fn token(given: Option<&str>) -> Result<Option<String>, Failure> {
    let twin = format!("{TOKEN_VARIABLE}{FILE_SUFFIX}");
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let given = given.filter(|token| !token.is_empty());
    match (given, set(&twin)) {
        (Some(_), Some(_)) if set(TOKEN_VARIABLE).is_some() => Err(Failure::Usage(format!(
            "{TOKEN_VARIABLE} and {twin} are both set: set one of them"
        ))),
        (Some(token), _) => Ok(Some(token.to_owned())),
        (None, None) => Ok(None),
        (None, Some(path)) => {
            let read = read_file(Path::new(&path));
            let (token, warning) =
                read.map_err(|error| Failure::Usage(format!("{twin}: {error}")))?;
            if let Some(warning) = warning {
                note(format_args!("warning: {warning}"));
            }
            Ok(Some(token))
        }
    }
}
