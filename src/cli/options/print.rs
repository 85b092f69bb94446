//! A configuration as `config check --print` shows it.

use super::all::OPTIONS;
use super::settings::Settings;
use crate::app::file::{VARIABLES, of_variable};
use crate::app::{Config, LogConfig};
use crate::webhook::DEFAULT_SOURCE;

/// An option, its value and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// Its key, as a path.
    pub key: String,
    /// Its value; of secrets, the start of their SHA-256.
    pub value: String,
    /// `flag`, `env NAME`, `file LINE` or `default`.
    pub origin: String,
}

/// Every option of `settings`, which became `config`.
#[must_use]
pub fn printed(settings: &Settings, config: &Config) -> Vec<Printed> {
    let mut all = Vec::new();
    for option in OPTIONS.iter() {
        let key = option.key;
        let (value, origin) = match (key, settings.value(key)) {
            ("signing_secret", given) => {
                let origin = given
                    .map(|(_, origin)| origin.to_string())
                    .or_else(|| variable_of_secret(settings));
                (default_secrets(settings, config), origin)
            }
            ("nats_url", Some((_, origin))) => (servers(config), Some(origin.to_string())),
            (_, Some((value, origin))) => {
                let value = value.to_string_lossy().into_owned();
                (Some(value), Some(origin.to_string()))
            }
            (_, None) if option.default.is_empty() => (None, None),
            (_, None) => (Some(option.default.to_owned()), None),
        };
        all.push(Printed {
            key: key.to_owned(),
            value: value.unwrap_or_else(|| "(none)".to_owned()),
            origin: origin.unwrap_or_else(|| "default".to_owned()),
        });
    }
    if !settings.document.has_sources() {
        return all;
    }
    for (index, source) in config.webhook.sources.iter().enumerate() {
        let fields = [
            ("name", Some(source.name.clone())),
            ("signing_secrets", Some(source.fingerprints().join(","))),
            ("instance_id", source.instance_id.clone()),
        ];
        for (field, value) in fields {
            let line = settings.document.line_in_source(index, field);
            let (Some(value), Some(line)) = (value, line) else {
                continue;
            };
            all.push(Printed {
                key: format!("sources[{index}].{field}"),
                value,
                origin: format!("file {line}"),
            });
        }
    }
    all
}

/// The fingerprints of the default source's secrets; none if the file has sources of its own.
fn default_secrets(settings: &Settings, config: &Config) -> Option<String> {
    let mut sources = config.webhook.sources.iter();
    let default = sources.find(|source| source.name == DEFAULT_SOURCE)?;
    let is_in_file = settings.document.has_sources();
    (!is_in_file).then(|| default.fingerprints().join(","))
}

fn variable_of_secret(settings: &Settings) -> Option<String> {
    if settings.document.has_sources() {
        return None;
    }
    let mut held = VARIABLES
        .iter()
        .filter_map(|variable| of_variable(settings.environment, variable).ok()?);
    held.next().map(|held| format!("env {}", held.variable))
}

/// The servers of NATS, without passwords.
fn servers(config: &Config) -> Option<String> {
    let LogConfig::Nats(config) = &config.log else {
        return None;
    };
    let servers: Vec<String> = config.servers.iter().map(ToString::to_string).collect();
    Some(servers.join(","))
}
