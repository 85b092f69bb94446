//! Whose webhooks are accepted: the file's `[[sources]]`, or else the one source whose
//! secret a flag or a variable holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::SourceConfig;
use super::check::Check;
use super::document::{Fields, Located};
use super::problem::Place;
use super::secrets::{self, FILE_SUFFIX, LEGACY_VARIABLE, VARIABLES};
use super::settings::Environment;
use crate::event::IdKind;
use crate::webhook::{DEFAULT_SOURCE, SigningSecret};

const NAME_RULE: &str = "a name is 1 to 64 of a-z, 0-9, - and _, since it is part of the URL";

impl Check<'_> {
    pub(super) fn sources(&mut self) -> Vec<SourceConfig> {
        let settings = self.settings;
        let is_in_file = settings.document.has_sources();
        let mut sources = if is_in_file {
            self.refuse_flag_beside_file();
            self.sources_of_file()
        } else {
            self.default_source().into_iter().collect()
        };
        let Some((id, _)) = self.settings.value("instance_id") else {
            return sources;
        };
        let id = id.to_string_lossy().into_owned();
        if let Err(invalid) = IdKind::Instance.check(&id) {
            self.refuse("instance_id", invalid);
        }
        let mut named = sources.iter_mut();
        match named.find(|source| source.name == DEFAULT_SOURCE) {
            Some(default) => default.instance_id = Some(id),
            None if is_in_file => self.refuse(
                "instance_id",
                "--instance-id is for the default source, which has no signing secret: set instance_id in its [[sources]] table",
            ),
            // The missing secret is among the problems already.
            None => {}
        }
        sources
    }

    fn refuse_flag_beside_file(&mut self) {
        if self.settings.value("signing_secret").is_some() {
            self.refuse(
                "signing_secret",
                "--signing-secret is for a gateway without [[sources]]: name the secret in the source's table, as signing_secrets, signing_secrets_env or signing_secrets_file",
            );
        }
    }

    fn sources_of_file(&mut self) -> Vec<SourceConfig> {
        let document = &self.settings.document;
        let environment = self.settings.environment;
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        let mut used = BTreeSet::new();
        let mut sources = Vec::new();
        for table in &document.sources {
            let mut warnings = Vec::new();
            let source = table.read(document, &mut self.problems, |fields| {
                let source = read_source(fields, environment, &mut used, &mut warnings);
                let line = fields.line("name");
                if let Some(first) = names.insert(source.name.clone(), line) {
                    let name = &source.name;
                    let message =
                        format!("source {name:?} is configured twice, first on line {first}");
                    fields.refuse("name", message);
                }
                source
            });
            self.warnings.extend(warnings);
            sources.push(source);
        }
        let set = secrets::set_variables(environment);
        let unused: Vec<String> = set.into_iter().filter(|it| !used.contains(it)).collect();
        if !unused.is_empty() {
            self.warn(format!(
                "not used, since [[sources]] does not name it in signing_secrets_env: {}",
                unused.join(", ")
            ));
        }
        sources
    }

    /// The source of a gateway without `[[sources]]`.
    fn default_source(&mut self) -> Option<SourceConfig> {
        let (secrets, is_in_environment) = match self.settings.value("signing_secret") {
            Some((text, _)) => {
                let text = text.to_string_lossy().into_owned();
                (self.parse_secrets("signing_secret", None, &text)?, true)
            }
            None => self.secrets_of_variables()?,
        };
        Some(SourceConfig {
            name: DEFAULT_SOURCE.to_owned(),
            secrets,
            instance_id: None,
            is_in_environment,
        })
    }

    /// Those of the first variable that is set, itself or its twin.
    fn secrets_of_variables(&mut self) -> Option<(Vec<SigningSecret>, bool)> {
        let environment = self.settings.environment;
        let mut is_wrong = false;
        let mut first = None;
        for variable in VARIABLES {
            match secrets::of_variable(environment, variable) {
                Ok(held) => first = first.or(held),
                Err((variable, message)) => {
                    self.refuse_at(Place::Variable(variable), "signing_secret", message);
                    is_wrong = true;
                }
            }
        }
        let Some(held) = first else {
            if !is_wrong {
                self.miss_secret();
            }
            return None;
        };
        self.warnings.extend(held.warning.clone());
        if held.variable.trim_end_matches(FILE_SUFFIX) == LEGACY_VARIABLE {
            self.warn(format!(
                "{LEGACY_VARIABLE} is the older name; set CLERK_WEBHOOK_SIGNING_SECRET"
            ));
        }
        let secrets = self.parse_secrets("signing_secret", Some(&held.variable), &held.text)?;
        Some((secrets, held.is_in_environment()))
    }

    fn parse_secrets(
        &mut self,
        key: &'static str,
        variable: Option<&str>,
        text: &str,
    ) -> Option<Vec<SigningSecret>> {
        match SigningSecret::parse_list(text) {
            Ok(list) => {
                let mut secrets = Vec::new();
                secrets::add(&mut secrets, list);
                Some(secrets)
            }
            Err(error) => {
                match variable {
                    Some(name) => self.refuse_at(Place::Variable(name.to_owned()), key, error),
                    None => self.refuse(key, error),
                }
                None
            }
        }
    }

    fn miss_secret(&mut self) {
        if self.settings.environment == Environment::LeftOut {
            self.warn(
                "no signing secret in the file: the environment, which is left out, must hold it"
                    .to_owned(),
            );
            return;
        }
        self.refuse_at(
            Place::Nowhere,
            "signing_secret",
            "no signing secret: set CLERK_WEBHOOK_SIGNING_SECRET to the Signing Secret (whsec_…) of the endpoint's page under Webhooks in the Clerk dashboard, or list [[sources]] in --config; to try things out, run `clerkcast dev`",
        );
    }
}

fn read_source(
    fields: &mut Fields<'_>,
    environment: Environment,
    used: &mut BTreeSet<String>,
    warnings: &mut Vec<String>,
) -> SourceConfig {
    let name = fields.text("name").unwrap_or_default().value;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
        fields.refuse("name", format!("source {name:?}: {NAME_RULE}"));
    }
    let before = fields.problems.len();
    let mut source = SourceConfig {
        name,
        secrets: Vec::new(),
        instance_id: None,
        is_in_environment: false,
    };
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
            Ok(Some((secrets, is_in_environment))) => {
                secrets::add(&mut source.secrets, secrets);
                source.is_in_environment |= is_in_environment;
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
    let is_wrong = fields.problems.len() > before;
    source.instance_id = read_instance_id(fields);
    let is_told = is_wrong || fields.has_unknown();
    if source.secrets.is_empty() && !is_unknown && !is_told {
        let name = &source.name;
        fields.refuse(
            "signing_secrets",
            format!("source {name:?} has no signing secret: set signing_secrets, signing_secrets_env or signing_secrets_file"),
        );
    }
    source
}

fn read_instance_id(fields: &mut Fields<'_>) -> Option<String> {
    let id = fields.text("instance_id")?;
    if let Err(invalid) = IdKind::Instance.check(&id.value) {
        fields.refuse_at(id.line, "instance_id", invalid);
    }
    Some(id.value)
}

/// The secrets, and whether the environment holds them; none where it is left out.
fn secrets_of_variable(
    environment: Environment,
    index: usize,
    variable: &Located<String>,
    warnings: &mut Vec<String>,
) -> Result<Option<(Vec<SigningSecret>, bool)>, String> {
    let variable = variable.value.as_str();
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if variable.is_empty() || !variable.chars().all(is_name) {
        // Not repeated: it may be the secret itself.
        return Err(format!(
            "signing_secrets_env[{index}]: write the name of an environment variable, such as CLERK_SECRET"
        ));
    }
    let held = secrets::of_variable(environment, variable)
        .map_err(|(variable, message)| format!("environment variable {variable}: {message}"))?;
    let Some(held) = held else {
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
