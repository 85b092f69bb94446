//! Which options a running process can take up, and which need a restart.

use std::ffi::OsStr;

use super::all::OPTIONS;
use super::declaration::{AtReload, Declaration};
use super::settings::Settings;

/// The options whose values differ from those that a process runs with, and that it cannot
/// take up.
pub(super) fn options_to_restart_for(
    latter: &Settings,
    running: &Settings,
) -> Vec<&'static Declaration> {
    let differs = |option: &&Declaration| {
        let is_same = value(latter, option) == value(running, option);
        !is_same && !can_take_up(option, latter, running)
    };
    OPTIONS.iter().filter(differs).collect()
}

/// The value of an option as text: the one given, else the default.
fn value<'a>(settings: &'a Settings, option: &Declaration) -> Option<&'a OsStr> {
    let given = settings.value(option.key).map(|(value, _)| value);
    let default = || (!option.default.is_empty()).then(|| OsStr::new(option.default));
    given.or_else(default)
}

fn can_take_up(option: &Declaration, latter: &Settings, running: &Settings) -> bool {
    match option.at_reload {
        AtReload::TakenUp => true,
        AtReload::NeedsRestart => false,
        AtReload::TakenUpByEmbeddedLog => running.value("log").is_none_or(|(log, _)| log != "nats"),
        AtReload::TakenUpByTls => {
            let port = option.key.split('_').next().unwrap_or_default();
            let certificate = format!("{port}_tls_cert");
            running.has(&certificate) && latter.has(&certificate)
        }
    }
}

/// `latter`, but for `options`, which stay as they are in `running`.
pub(super) fn but_for(
    mut latter: Settings,
    options: &[&'static Declaration],
    running: &Settings,
) -> Settings {
    for option in options {
        latter.document.forget_option(option.key);
        latter.given.forget(option.key);
        if let Some((value, origin)) = running.value(option.key) {
            latter.given.set(option.key, value, origin);
        }
    }
    latter
}
