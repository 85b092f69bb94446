//! Loads the settings of an operator, at a start and on SIGHUP.

use std::path::PathBuf;

use super::all::parse;
use super::config::{Checked, check};
use super::nats::add_servers_of_file;
use super::restart::{but_for, options_to_restart_for};
use super::settings::{Given, Settings};
use super::traces::add_standard_endpoint;
use crate::app::file::{self, Environment, Problem, Report};
use crate::app::{Reloaded, restart_to_take_up};

/// A configuration as it was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// The file's text.
    pub text: String,
    /// The settings of flags, variables and the file.
    pub settings: Settings,
}

impl Loaded {
    /// Reads the file, as at a start.
    ///
    /// # Errors
    /// When the file cannot be read. A check finds the errors in its content.
    pub fn read(
        given: Given,
        file: Option<PathBuf>,
        environment: Environment,
    ) -> Result<Self, Vec<Problem>> {
        let text = match &file {
            Some(path) => file::read(path).map_err(|problem| vec![problem])?,
            None => String::new(),
        };
        let name = file.as_ref().map(|path| path.display().to_string());
        let document = parse(&name.unwrap_or_default(), &text);
        let mut settings = Settings {
            given,
            document,
            environment,
            ..Settings::default()
        };
        add_from_environment(&mut settings);
        Ok(Self {
            file,
            text,
            settings,
        })
    }

    /// A warning about how the file ends.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        file::warning_at_start(&self.text)
    }

    /// Loads the configuration again, for a gateway that was started with this one, in place
    /// of the text in force. Options that need a restart stay as they were.
    ///
    /// # Errors
    /// With all errors.
    pub fn reload(&self, in_force: &str) -> Result<Reloaded, Vec<Problem>> {
        let latter = self.read_again(in_force)?;
        // First as a start would, then with the running values of options that need a restart.
        check(&latter.settings)?;
        let running = &self.settings;
        let options = options_to_restart_for(&latter.settings, running);
        let needs_restart: Vec<&str> = options.iter().map(|option| option.key).collect();
        let settings = but_for(latter.settings, &options, running);
        let Checked {
            config,
            in_environment,
            warnings,
        } = check(&settings).map_err(|mut problems| {
            // The file is valid by itself, but not together with those values.
            problems.push(Problem::of_config(restart_to_take_up(&needs_restart)));
            problems
        })?;
        Ok(Reloaded {
            text: latter.text,
            config,
            in_environment,
            warnings,
            needs_restart,
        })
    }

    fn read_again(&self, in_force: &str) -> Result<Self, Vec<Problem>> {
        let mut latter = self.clone();
        if let Some(path) = &self.file {
            let text = file::read_again(path, in_force).map_err(|problem| vec![problem])?;
            latter.settings.document = parse(&path.display().to_string(), &text);
            latter.text = text;
        }
        add_from_environment(&mut latter.settings);
        Ok(latter)
    }
}

/// Adds the values of variables that are not an option's own, and those in files that variables
/// name, which may have changed.
fn add_from_environment(settings: &mut Settings) {
    settings.files = Report::default();
    add_standard_endpoint(settings);
    add_servers_of_file(settings);
}
