//! The sources whose webhooks are accepted, from the file's `[[sources]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::document::{Document, Fields, Located};
use super::problem::Report;
use super::secrets::{self, Environment, FILE_SUFFIX};
use crate::event::IdKind;
use crate::webhook::{SigningSecret, Source};

const NAME_RULE: &str = "a name is 1 to 64 of a-z, 0-9, - and _, since it is part of the URL";

/// The sources that a configuration names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfiguredSources {
    /// The sources.
    pub sources: Vec<Source>,
    /// Names of the sources with secrets in the environment, which a running process keeps.
    pub in_environment: Vec<String>,
}

impl ConfiguredSources {
    /// Adds a source.
    pub fn add(&mut self, source: Source, is_in_environment: bool) {
        if is_in_environment {
            self.in_environment.push(source.name.clone());
        }
        self.sources.push(source);
    }
}

/// Reads the `[[sources]]` tables, and the secrets that they name.
pub fn check(
    document: &Document,
    environment: Environment,
    report: &mut Report,
) -> ConfiguredSources {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut used = BTreeSet::new();
    let mut configured = ConfiguredSources::default();
    for table in &document.sources {
        let mut warnings = Vec::new();
        let (source, is_in_environment) = table.read(document, &mut report.problems, |fields| {
            let read = read_source(fields, environment, &mut used, &mut warnings);
            let name = &read.0.name;
            let former = names.insert(name.clone(), fields.line("name"));
            if let Some(first) = former.filter(|_| is_name(name)) {
                let message = format!("source {name:?} is configured twice, first on line {first}");
                fields.refuse("name", message);
            }
            read
        });
        report.warnings.extend(warnings);
        configured.add(source, is_in_environment);
    }
    let set = secrets::set_variables(environment);
    let unused: Vec<String> = set
        .into_iter()
        .filter(|name| !used.contains(name))
        .collect();
    if !unused.is_empty() {
        report.warn(format!(
            "not used, since [[sources]] does not name it in signing_secrets_env: {}",
            unused.join(", ")
        ));
    }
    configured
}

fn read_source(
    fields: &mut Fields<'_>,
    environment: Environment,
    used: &mut BTreeSet<String>,
    warnings: &mut Vec<String>,
) -> (Source, bool) {
    let before = fields.problems.len();
    let name = fields.text("name").unwrap_or_default().value;
    if fields.problems.len() == before && !is_name(&name) {
        fields.refuse("name", format!("source {name:?}: {NAME_RULE}"));
    }
    let before = fields.problems.len();
    let mut source = Source {
        name,
        secrets: Vec::new(),
        instance_id: None,
    };
    let mut is_in_environment = false;
    let written = fields.texts("signing_secrets");
    let variables = fields.texts("signing_secrets_env");
    let files = fields.texts("signing_secrets_file");
    for (index, text) in written.iter().enumerate() {
        match SigningSecret::parse(&text.value) {
            Ok(secret) => secrets::add(&mut source.secrets, vec![secret]),
            Err(error) => {
                let message = format!("signing_secrets[{index}]: {error}");
                fields.refuse_at(text.line, "signing_secrets", message);
            }
        }
    }
    let mut is_unknown = false;
    for (index, variable) in variables.iter().enumerate() {
        used.insert(variable.value.clone());
        used.insert(format!("{}{FILE_SUFFIX}", variable.value));
        match secrets_of_variable(environment, index, variable, warnings) {
            Ok(Some((secrets, are_in_environment))) => {
                secrets::add(&mut source.secrets, secrets);
                is_in_environment |= are_in_environment;
            }
            Ok(None) => is_unknown = true,
            Err(message) => fields.refuse_at(variable.line, "signing_secrets_env", message),
        }
    }
    for (index, path) in files.iter().enumerate() {
        match secrets_of_file(&path.value, warnings) {
            Ok(secrets) => secrets::add(&mut source.secrets, secrets),
            Err(error) => {
                let message = format!("signing_secrets_file[{index}]: {error}");
                fields.refuse_at(path.line, "signing_secrets_file", message);
            }
        }
    }
    let is_invalid = fields.problems.len() > before;
    source.instance_id = read_instance_id(fields);
    let is_reported = is_invalid || fields.has_unknown();
    if source.secrets.is_empty() && !is_unknown && !is_reported {
        let name = &source.name;
        fields.refuse(
            "signing_secrets",
            format!("source {name:?} has no signing secret: set signing_secrets, signing_secrets_env or signing_secrets_file"),
        );
    }
    (source, is_in_environment)
}

fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    (1..=64).contains(&text.len()) && text.chars().all(is_plain)
}

fn read_instance_id(fields: &mut Fields<'_>) -> Option<String> {
    let id = fields.text("instance_id")?;
    if let Err(invalid) = IdKind::Instance.check(&id.value) {
        fields.refuse_at(id.line, "instance_id", invalid);
    }
    Some(id.value)
}

/// The secrets of a variable, and whether the environment holds them. None if the environment is
/// left out.
fn secrets_of_variable(
    environment: Environment,
    index: usize,
    variable: &Located<String>,
    warnings: &mut Vec<String>,
) -> Result<Option<(Vec<SigningSecret>, bool)>, String> {
    let variable = variable.value.as_str();
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if variable.is_empty() || !variable.chars().all(is_name) {
        // The message does not repeat the text, which may be the secret itself.
        return Err(format!(
            "signing_secrets_env[{index}]: write the name of an environment variable, such as CLERK_SECRET"
        ));
    }
    let Some(held) = secrets::of_variable(environment, variable)
        .map_err(|(variable, message)| format!("environment variable {variable}: {message}"))?
    else {
        return match environment {
            Environment::LeftOut => Ok(None),
            Environment::OfProcess => Err(format!(
                "environment variable {variable} is not set, nor is {variable}{FILE_SUFFIX}"
            )),
        };
    };
    warnings.extend(held.warning.clone());
    let secrets = SigningSecret::parse_list(&held.text)
        .map_err(|error| format!("environment variable {}: {error}", held.variable))?;
    Ok(Some((secrets, held.is_in_environment())))
}

fn secrets_of_file(path: &str, warnings: &mut Vec<String>) -> Result<Vec<SigningSecret>, String> {
    let (text, warning) = secrets::read_file(Path::new(path))?;
    warnings.extend(warning);
    SigningSecret::parse_list(&text).map_err(|error| format!("{path}: {error}"))
}
