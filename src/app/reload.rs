//! SIGHUP: loads the configuration as at a start, and takes it up as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{Config, LogConfig};
use super::controls::Controls;
use super::file::{ConfiguredSources, Problem};
use super::systemd::Reloading;
use crate::access::{ANONYMOUS, AccessConfig, Policy, Replacement, audit};
use crate::net::Renewal;
use crate::telemetry::LevelControl;
use crate::webhook::Source;

/// The configuration that a gateway runs with.
#[derive(Debug)]
pub struct InForce {
    /// The text of its file; empty without a file.
    pub text: String,
    /// The sources, and which of them have secrets in the environment.
    pub sources: ConfiguredSources,
    /// Who may subscribe.
    pub access: AccessConfig,
}

/// A configuration that was loaded again, and that a gateway can take up.
#[derive(Debug)]
pub struct Reloaded {
    /// The text of its file.
    pub text: String,
    /// The configuration; what needs a restart is as it was at the start.
    pub config: Config,
    /// Sources with secrets in the environment.
    pub in_environment: Vec<String>,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
    /// Keys of options that differ and need a restart.
    pub needs_restart: Vec<&'static str>,
}

/// Takes up a configuration in place of the one in force.
#[derive(Debug)]
pub struct Reload {
    in_force: InForce,
    controls: Controls,
    level: LevelControl,
}

impl Reload {
    /// Makes the reload of a gateway that was started with `in_force`.
    #[must_use]
    pub fn new(in_force: InForce, controls: Controls, level: LevelControl) -> Self {
        Self {
            in_force,
            controls,
            level,
        }
    }

    /// Loads the configuration with `load`, which gets the text in force. Takes the
    /// configuration up or leaves everything as it is, and logs the outcome. Blocks while `load`
    /// reads.
    pub fn run<L>(&mut self, load: &L)
    where
        L: Fn(&str) -> Result<Reloaded, Vec<Problem>>,
    {
        let mut reloading = Reloading::begin();
        let loaded = load(&self.in_force.text).and_then(|loaded| {
            let renewals = self.check(&loaded.config)?;
            Ok((loaded, renewals))
        });
        match loaded {
            Ok((loaded, renewals)) => {
                self.apply(loaded, renewals);
                self.controls.metrics.note(true);
                reloading.note_success();
            }
            Err(problems) => {
                let messages: Vec<String> = problems.iter().map(Problem::to_string).collect();
                tracing::error!(
                    error = messages.join("; "),
                    "configuration not taken; the former stays in force"
                );
                self.controls.metrics.note(false);
            }
        }
    }

    /// Checks what only a running gateway can check. Returns the certificates.
    fn check(&self, config: &Config) -> Result<Vec<Renewal>, Vec<Problem>> {
        self.check_still_guarded(config)?;
        let certificates = self.controls.certificates.read(config);
        certificates.map_err(|error| vec![Problem::of_config(format!("{error:#}"))])
    }

    /// A file without principals, such as one that is being written, must not open the port
    /// to callers without credentials.
    fn check_still_guarded(&self, config: &Config) -> Result<(), Vec<Problem>> {
        let was_guarded = !self.in_force.access.principals.is_empty();
        let is_guarded = !config.access.principals.is_empty() || config.doors.allows_anonymous;
        if !was_guarded || is_guarded {
            return Ok(());
        }
        Err(vec![Problem::of_config(
            "no principals left, which would allow anonymous access: restart the gateway if intended",
        )])
    }

    fn apply(&mut self, loaded: Reloaded, renewals: Vec<Renewal>) {
        let Reloaded {
            text,
            config,
            in_environment,
            warnings,
            needs_restart,
        } = loaded;
        let latter = InForce {
            text,
            sources: ConfiguredSources {
                sources: config.webhook.sources,
                in_environment,
            },
            access: config.access,
        };
        let controls = &self.controls;
        let names = config.fanout.sources.into_iter().collect();
        controls.fanout.set_sources(names);
        controls.sources.replace(&latter.sources.sources);
        let widened = widened(&self.in_force.access, &latter.access);
        controls
            .grpc_metrics
            .expect_principals(latter.access.names());
        let replacement = controls.access.replace(latter.access.clone());
        for renewal in renewals {
            renewal.put_in_force();
        }
        if let LogConfig::Embedded(limits) = &config.log {
            let log = std::sync::Arc::clone(&controls.log);
            log.set_retention(limits.retain_for, limits.retain_bytes);
            #[expect(
                clippy::disallowed_methods,
                reason = "a reload does not wait for retention, which also runs every minute"
            )]
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
            &changes(&self.in_force.sources, &latter.sources),
        );
        self.in_force = latter;
    }
}

/// The warning about options that need a restart.
#[must_use]
pub fn restart_to_take_up(keys: &[&str]) -> String {
    format!("restart to take up: {}", keys.join(", "))
}

/// Principals that may now receive more than before.
fn widened(former: &AccessConfig, latter: &AccessConfig) -> Vec<String> {
    let policies = |config: &AccessConfig| -> BTreeMap<String, Policy> {
        let named = config
            .principals
            .iter()
            .map(|principal| (principal.name.clone(), principal.policy.clone()));
        let anonymous = config.anonymous.clone();
        named
            .chain(anonymous.map(|policy| (ANONYMOUS.to_owned(), policy)))
            .collect()
    };
    let former = policies(former);
    let is_widened = |(name, policy): &(String, Policy)| match former.get(name) {
        Some(former) => policy.allows_more_than(former),
        // Unlike a new principal, anonymous callers need no token.
        None => name == ANONYMOUS,
    };
    let latter = policies(latter).into_iter();
    latter.filter(is_widened).map(|(name, _)| name).collect()
}

/// The changes of the sources, by name, and of their secrets, as `SOURCE:FINGERPRINT`.
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

fn changes(former: &ConfiguredSources, latter: &ConfiguredSources) -> SourceChanges {
    // A source, and whether the environment holds some of its secrets.
    let find = |configured: &ConfiguredSources, name: &str| {
        let mut sources = configured.sources.iter();
        let source = sources.find(|source| source.name == name)?;
        let is_in_environment = configured.in_environment.iter().any(|other| other == name);
        Some((source.clone(), is_in_environment))
    };
    let secrets = |configured: &ConfiguredSources| -> BTreeSet<String> {
        let secrets = configured.sources.iter().flat_map(|source| {
            let named = |fingerprint| format!("{}:{fingerprint}", source.name);
            source.fingerprints().into_iter().map(named)
        });
        secrets.collect()
    };
    let (before, after) = (secrets(former), secrets(latter));
    let mut changes = SourceChanges {
        secrets_added: after.difference(&before).cloned().collect(),
        secrets_removed: before.difference(&after).cloned().collect(),
        in_environment: latter.in_environment.clone(),
        ..SourceChanges::default()
    };
    for Source { name, .. } in &latter.sources {
        match find(former, name) {
            None => changes.added.push(name.clone()),
            before if before != find(latter, name) => changes.changed.push(name.clone()),
            Some(_) => {}
        }
    }
    let removed = former
        .sources
        .iter()
        .map(|source| &source.name)
        .filter(|name| find(latter, name).is_none());
    changes.removed = removed.cloned().collect();
    changes
}

fn announce(principals: &Replacement, widened: &[String], sources: &SourceChanges) {
    // The level of an event must be a constant.
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
