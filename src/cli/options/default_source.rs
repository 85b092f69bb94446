//! The source of a gateway without `[[sources]]`, whose secret a flag or a variable holds.

use std::ffi::OsString;

use super::check::Check;
use crate::app::file::{
    Environment, FILE_SUFFIX, LEGACY_VARIABLE, Place, VARIABLES, add_secrets, of_variable,
};
use crate::webhook::{DEFAULT_SOURCE, SigningSecret, Source};

const KEY: &str = "signing_secret";

/// The source, and whether its secret is in the environment; none if the secret is invalid.
pub(super) fn default_source(
    check: &mut Check<'_>,
    flag: Option<OsString>,
) -> Option<(Source, bool)> {
    let (secrets, is_in_environment) = match flag {
        Some(text) => (parse(check, None, &text.to_string_lossy())?, true),
        None => secrets_of_variables(check)?,
    };
    let source = Source {
        name: DEFAULT_SOURCE.to_owned(),
        secrets,
        instance_id: None,
    };
    Some((source, is_in_environment))
}

/// The secrets of the first variable that is set, directly or by its twin.
fn secrets_of_variables(check: &mut Check<'_>) -> Option<(Vec<SigningSecret>, bool)> {
    let environment = check.settings.environment;
    let mut is_invalid = false;
    let mut first = None;
    for variable in VARIABLES {
        match of_variable(environment, variable) {
            Ok(held) => first = first.or(held),
            Err((variable, message)) => {
                let place = Place::Variable(variable);
                check.report.refuse(place, KEY, message);
                is_invalid = true;
            }
        }
    }
    let Some(held) = first else {
        if !is_invalid {
            refuse_missing_secret(check);
        }
        return None;
    };
    check.report.warnings.extend(held.warning.clone());
    if held.variable.trim_end_matches(FILE_SUFFIX) == LEGACY_VARIABLE {
        check.report.warn(format!(
            "{LEGACY_VARIABLE} is the older name; set CLERK_WEBHOOK_SIGNING_SECRET"
        ));
    }
    let secrets = parse(check, Some(&held.variable), &held.text)?;
    Some((secrets, held.is_in_environment()))
}

fn parse(check: &mut Check<'_>, variable: Option<&str>, text: &str) -> Option<Vec<SigningSecret>> {
    match SigningSecret::parse_list(text) {
        Ok(list) => {
            let mut secrets = Vec::new();
            add_secrets(&mut secrets, list);
            Some(secrets)
        }
        Err(error) => {
            let place = match variable {
                Some(name) => Place::Variable(name.to_owned()),
                None => check.settings.place(KEY),
            };
            check.report.refuse(place, KEY, error);
            None
        }
    }
}

fn refuse_missing_secret(check: &mut Check<'_>) {
    if check.settings.environment == Environment::LeftOut {
        check.report.warn(
            "no signing secret in the file: the environment, which is left out, must hold it"
                .to_owned(),
        );
        return;
    }
    check.report.refuse(
        Place::Nowhere,
        KEY,
        "no signing secret: set CLERK_WEBHOOK_SIGNING_SECRET to the Signing Secret (whsec_…) of the endpoint's page under Webhooks in the Clerk dashboard, or list [[sources]] in --config; to try things out, run `clerkcast dev`",
    );
}
