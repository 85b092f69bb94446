//! SIGHUP: the configuration is loaded as at a start, and taken up as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::config::{
    self, Checked, Declaration, Document, Environment, Given, Problem, Settings, SourceConfig,
};
use super::config::{Config, LogConfig};
use super::controls::Controls;
use crate::access::{ANONYMOUS, AccessConfig, Policy, Replacement, audit};
use crate::net::Renewal;
use crate::telemetry::LevelControl;

/// A configuration as it was read.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The file that it is from.
    pub file: Option<PathBuf>,
    /// The file's text.
    text: String,
    /// Everything that was written.
    pub settings: Settings,
}

impl InForce {
    /// Reads the file, as at a start.
    ///
    /// # Errors
    /// When it cannot be read. What is wrong with what it says, a check finds.
    pub fn load(
        given: Given,
        file: Option<PathBuf>,
        environment: Environment,
    ) -> Result<Self, Vec<Problem>> {
        let text = match &file {
            Some(path) => config::read(path).map_err(|problem| vec![problem])?,
            None => String::new(),
        };
        let name = file.as_ref().map(|path| path.display().to_string());
        let document = Document::parse(&name.unwrap_or_default(), &text);
        Ok(Self {
            file,
            text,
            settings: Settings {
                given,
                document,
                environment,
            },
        })
    }

    /// What an operator should know of how the file ends.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        config::warning_at_start(&self.text)
    }
}

/// Takes up the configuration again.
#[derive(Debug)]
pub struct Reload {
    /// As at the start: what needs a restart stays so.
    running: Settings,
    in_force: InForce,
    sources: Vec<SourceConfig>,
    principals: AccessConfig,
    controls: Controls,
    level: LevelControl,
}

/// What a reload would put in force.
struct Next {
    read: InForce,
    config: Config,
    warnings: Vec<String>,
    certificates: Vec<Renewal>,
    needs_restart: Vec<&'static Declaration>,
}

impl Reload {
    /// Of a gateway that runs with `config`, which `started` became.
    #[must_use]
    pub fn new(
        started: InForce,
        sources: Vec<SourceConfig>,
        principals: AccessConfig,
        controls: Controls,
        level: LevelControl,
    ) -> Self {
        Self {
            running: started.settings.clone(),
            in_force: started,
            sources,
            principals,
            controls,
            level,
        }
    }

    /// Loads the configuration and puts it in force, or leaves everything as it is; logs
    /// which. Blocks while it reads.
    pub fn run(&mut self) {
        match self.next() {
            Ok(next) => {
                self.apply(next);
                self.controls.metrics.note(true);
            }
            Err(problems) => {
                let told: Vec<String> = problems.iter().map(Problem::to_string).collect();
                tracing::error!(
                    error = told.join("; "),
                    "configuration not taken; the former stays in force"
                );
                self.controls.metrics.note(false);
            }
        }
    }

    fn next(&self) -> Result<Next, Vec<Problem>> {
        let read = self.read_again()?;
        // As a start would; and then with what needs a restart as it is.
        config::check(&read.settings)?;
        let needs_restart = read.settings.options_to_restart_for(&self.running);
        let settings = read.settings.clone();
        let settings = settings.but_for(&needs_restart, &self.running);
        let Checked { config, warnings } = config::check(&settings).map_err(|mut problems| {
            // The file is right, and not together with what runs.
            problems.push(Problem::of_config(restart_to_take_up(&needs_restart)));
            problems
        })?;
        self.check_still_guarded(&config)?;
        let certificates = self.controls.certificates.read(&config);
        let certificates =
            certificates.map_err(|error| vec![Problem::of_config(format!("{error:#}"))])?;
        Ok(Next {
            read,
            config,
            warnings,
            certificates,
            needs_restart,
        })
    }

    fn read_again(&self) -> Result<InForce, Vec<Problem>> {
        let former = &self.in_force;
        let Some(path) = &former.file else {
            return Ok(former.clone());
        };
        let text = config::read_again(path, &former.text).map_err(|problem| vec![problem])?;
        let document = Document::parse(&path.display().to_string(), &text);
        Ok(InForce {
            text,
            settings: Settings {
                document,
                ..former.settings.clone()
            },
            ..former.clone()
        })
    }

    /// A file without principals, such as one that is being written, must not open the port
    /// to callers without credentials.
    fn check_still_guarded(&self, config: &Config) -> Result<(), Vec<Problem>> {
        let was_guarded = !self.principals.principals.is_empty();
        let is_guarded = !config.principals.principals.is_empty() || config.allows_anonymous;
        if !was_guarded || is_guarded {
            return Ok(());
        }
        Err(vec![Problem::of_config(
            "it names no principal any more, which would allow anonymous access: restart the gateway if that is intended",
        )])
    }

    fn apply(&mut self, next: Next) {
        let Next {
            read,
            config,
            warnings,
            certificates,
            needs_restart,
        } = next;
        let controls = &self.controls;
        controls.fanout.set_sources(config.source_names());
        controls.sources.replace(config.webhook_sources());
        let widened = widened(&self.principals, &config.principals);
        let replacement = controls.access.replace(config.principals.clone());
        for renewal in certificates {
            renewal.put_in_force();
        }
        if let LogConfig::Embedded(limits) = &config.log {
            let log = std::sync::Arc::clone(&controls.log);
            log.set_retention(limits.retain_for, limits.retain_bytes);
            tokio::spawn(async move {
                let _tried_again_within_a_minute = log.apply_retention().await;
            });
        }
        let _logging_has_ended = self.level.set(&config.log_level);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        if !needs_restart.is_empty() {
            tracing::warn!("{}", restart_to_take_up(&needs_restart));
        }
        announce(
            &replacement,
            &widened,
            &changes(&self.sources, &config.sources),
        );
        self.in_force = read;
        self.sources = config.sources;
        self.principals = config.principals;
    }
}

fn restart_to_take_up(options: &[&'static Declaration]) -> String {
    let keys: Vec<&str> = options.iter().map(|option| option.key).collect();
    format!("restart to take up: {}", keys.join(", "))
}

/// AccessConfig that may now receive anything that they could not.
fn widened(former: &AccessConfig, latter: &AccessConfig) -> Vec<String> {
    let policies = |config: &AccessConfig| -> BTreeMap<String, Policy> {
        let named = config.principals.iter();
        let named = named.map(|it| (it.name.clone(), it.policy.clone()));
        let anonymous = config.anonymous.clone();
        named
            .chain(anonymous.map(|policy| (ANONYMOUS.to_owned(), policy)))
            .collect()
    };
    let former = policies(former);
    let is_widened = |(name, policy): &(String, Policy)| match former.get(name) {
        Some(former) => policy.allows_more_than(former),
        // Every caller that connects, rather than one that was given a token.
        None => name == ANONYMOUS,
    };
    let latter = policies(latter).into_iter();
    latter.filter(is_widened).map(|(name, _)| name).collect()
}

/// What became of the sources, by name, and of their secrets, as `SOURCE:FINGERPRINT`.
#[derive(Debug, Default, PartialEq, Eq)]
struct SourceChanges {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
    secrets_added: Vec<String>,
    secrets_removed: Vec<String>,
    /// With secrets that the environment holds.
    in_environment: Vec<String>,
}

fn changes(former: &[SourceConfig], latter: &[SourceConfig]) -> SourceChanges {
    let find = |sources: &[SourceConfig], name: &str| {
        let mut sources = sources.iter();
        sources.find(|source| source.name == name).cloned()
    };
    let secrets = |sources: &[SourceConfig]| -> BTreeSet<String> {
        let secrets = sources.iter().flat_map(|source| {
            let named = |fingerprint| format!("{}:{fingerprint}", source.name);
            source.fingerprints().into_iter().map(named)
        });
        secrets.collect()
    };
    let (before, after) = (secrets(former), secrets(latter));
    let mut changes = SourceChanges {
        secrets_added: after.difference(&before).cloned().collect(),
        secrets_removed: before.difference(&after).cloned().collect(),
        ..SourceChanges::default()
    };
    for source in latter {
        match find(former, &source.name) {
            None => changes.added.push(source.name.clone()),
            Some(before) if before != *source => changes.changed.push(source.name.clone()),
            Some(_) => {}
        }
        if source.is_in_environment {
            changes.in_environment.push(source.name.clone());
        }
    }
    let removed = former.iter().map(|source| &source.name);
    let removed = removed.filter(|name| find(latter, name).is_none());
    changes.removed = removed.cloned().collect();
    changes
}

fn announce(principals: &Replacement, widened: &[String], sources: &SourceChanges) {
    // The level is part of what tracing keeps of a line.
    macro_rules! announce {
        ($level:expr) => {
            tracing::event!(
                target: audit::TARGET,
                $level,
                principals_added = principals.added.join(","),
                principals_changed = principals.changed.join(","),
                principals_removed = principals.removed.join(","),
                principals_widened = widened.join(","),
                sources_added = sources.added.join(","),
                sources_changed = sources.changed.join(","),
                sources_removed = sources.removed.join(","),
                secrets_added = sources.secrets_added.join(","),
                secrets_removed = sources.secrets_removed.join(","),
                secrets_of_environment = sources.in_environment.join(","),
                "configuration reloaded"
            )
        };
    }
    if widened.is_empty() {
        announce!(tracing::Level::INFO);
    } else {
        announce!(tracing::Level::WARN);
    }
}
