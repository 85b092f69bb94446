//! Signing secrets, from the places that can hold them: the file, environment variables, and
//! files that either of them names.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::files::{self, Content};
use crate::webhook::SigningSecret;

/// The older name, which most code outside Clerk uses.
pub const LEGACY_VARIABLE: &str = "CLERK_WEBHOOK_SECRET";
/// The variables that can hold the default source's secrets, in this order.
pub const VARIABLES: [&str; 3] = [
    "CLERKCAST_SIGNING_SECRET",
    "CLERK_WEBHOOK_SIGNING_SECRET",
    LEGACY_VARIABLE,
];
/// Suffix of a variable's *twin*, which names a file that holds what the variable would hold.
pub const FILE_SUFFIX: &str = "_FILE";
/// The largest file that holds secrets.
const FILE_BYTES_MAX: u64 = 4 << 10;

/// Whether environment variables are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Environment {
    /// Variables are read.
    #[default]
    OfProcess,
    /// Variables are not read, so their content is unknown.
    LeftOut,
}

impl Environment {
    /// The variable's value; an empty one, as from `${X:-}`, counts as not set.
    #[must_use]
    pub fn get(self, name: &str) -> Option<OsString> {
        match self {
            Self::OfProcess => std::env::var_os(name).filter(|value| !value.is_empty()),
            Self::LeftOut => None,
        }
    }
}

/// A secret's text, and the variable that holds it.
pub struct SecretText {
    /// The text; may hold several secrets.
    pub text: String,
    /// The variable, which names the file where it ends with `_FILE`.
    pub variable: String,
    /// A warning about the file.
    pub warning: Option<String>,
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut held = formatter.debug_struct("SecretText");
        held.field("variable", &self.variable);
        held.finish_non_exhaustive()
    }
}

impl SecretText {
    /// Whether the text is in the environment, which a running process keeps as it was.
    #[must_use]
    pub fn is_in_environment(&self) -> bool {
        !self.variable.ends_with(FILE_SUFFIX)
    }
}

/// The names of the [`VARIABLES`] and their twins that are set.
pub(super) fn set_variables(environment: Environment) -> Vec<String> {
    let names = VARIABLES.iter().flat_map(|name| {
        let twin = format!("{name}{FILE_SUFFIX}");
        [(*name).to_owned(), twin]
    });
    names
        .filter(|name| environment.get(name).is_some())
        .collect()
}

/// Reads `variable`, or the file that its twin names.
///
/// # Errors
/// With the variable and its error; never with the content.
pub fn of_variable(
    environment: Environment,
    variable: &str,
) -> Result<Option<SecretText>, (String, String)> {
    if variable.ends_with(FILE_SUFFIX) {
        let path = environment.get(variable);
        return path.map(|path| of_file(variable, &path)).transpose();
    }
    let twin = format!("{variable}{FILE_SUFFIX}");
    match (environment.get(variable), environment.get(&twin)) {
        (Some(_), Some(_)) => Err((
            variable.to_owned(),
            format!("{twin} is set too: set one of them"),
        )),
        (Some(text), None) => match text.into_string() {
            Ok(text) => Ok(Some(SecretText {
                text,
                variable: variable.to_owned(),
                warning: None,
            })),
            Err(_) => Err((variable.to_owned(), "it is not UTF-8".to_owned())),
        },
        (None, Some(path)) => of_file(&twin, &path).map(Some),
        (None, None) => Ok(None),
    }
}

fn of_file(variable: &str, path: &OsStr) -> Result<SecretText, (String, String)> {
    match read_file(Path::new(path)) {
        Ok((text, warning)) => Ok(SecretText {
            text,
            variable: variable.to_owned(),
            warning,
        }),
        Err(error) => Err((variable.to_owned(), error)),
    }
}

/// The content of a file that holds secrets, less one newline at its end, and a warning about
/// the file.
///
/// # Errors
/// With the path and the error, never with the content.
pub fn read_file(path: &Path) -> Result<(String, Option<String>), String> {
    let shown = path.display();
    let Content { bytes, metadata } =
        files::read(path, FILE_BYTES_MAX).map_err(|error| match error {
            files::Error::TooLarge(_) => {
                format!("{shown} is larger than 4 KiB: it is not a secret")
            }
            error => format!("cannot read {shown}: {error}"),
        })?;
    let whole = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8"))?;
    let line = whole.strip_suffix('\n').unwrap_or(&whole);
    let text = line.strip_suffix('\r').unwrap_or(line);
    if text.is_empty() {
        return Err(format!("{shown} is empty"));
    }
    let is_for_all = metadata.permissions().mode() & 0o004 != 0;
    let warning = is_for_all
        .then(|| format!("{shown} holds a secret, and every user of this machine can read it"));
    Ok((text.to_owned(), warning))
}

/// Adds the secrets that the list lacks.
pub fn add(secrets: &mut Vec<SigningSecret>, more: Vec<SigningSecret>) {
    for secret in more {
        if !secrets.contains(&secret) {
            secrets.push(secret);
        }
    }
}
