//! The options of the log, of either kind.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use super::check::Check;
use super::declaration::{self, AtReload, Declaration, OptionPlace, option, options};
use super::limit::Limit;
use super::nats::NatsOptions;
use super::period::{Period, PeriodMax};
use super::size::Size;
use super::value::{Value, read_text};
use crate::app::{LogConfig, NO_NATS};
use crate::log::jetstream;
use crate::log::sqlite::{self, Obstacle, find_obstacle};

/// Minimum size of the log; retention would remove a smaller one as fast as it is written.
const RETAIN_BYTES_MIN: Size = Size(16 << 20);
/// Below this, an application that is down for a night misses events.
const RETAIN_FOR_ADVISED: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum time for which events and ids are kept; `off` keeps events for longer.
const KEPT_MAX: PeriodMax = PeriodMax {
    period: Period(Duration::from_secs(10 * 31_557_600)),
    shown: "10y",
};

options! {
    /// The options that choose the log.
    LogOptions {
        60 data_dir: PathBuf = option(
            "DIR",
            "Where the log is kept",
        ).with_default("./clerkcast-data");
        170 log: LogKind = option(
            "KIND",
            "Where the log is\n- embedded: in a file under --data-dir\n- nats: in a stream of NATS JetStream that gateways share",
        ).with_default("embedded").in_place(OptionPlace::EverywhereAndCopy);
    }
}

options! {
    /// The options of retention.
    RetentionOptions {
        90 retain_for: Limit<Period> = option(
            "DURATION",
            "Remove events that are older; `off` keeps them",
        ).with_default("30d").at_reload(AtReload::TakenUpByEmbeddedLog)
            .in_place(OptionPlace::EverywhereAndCopy);
        100 retain_bytes: Limit<Size> = option(
            "SIZE",
            "Remove the oldest events while the log is larger; `off` for no limit",
        ).with_default("10GiB").at_reload(AtReload::TakenUpByEmbeddedLog)
            .in_place(OptionPlace::EverywhereAndCopy);
    }
}

/// The name of a log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LogKind {
    Embedded,
    Nats,
}

impl Value for LogKind {
    fn read(text: &OsStr) -> Result<Self, String> {
        read_text(text, |text| match text {
            "embedded" => Ok(Self::Embedded),
            "nats" => Ok(Self::Nats),
            _ => Err(format!("{text:?} is not a log: write embedded or nats")),
        })
    }
}

impl LogOptions {
    pub(super) fn config(self, check: &mut Check<'_>) -> LogConfig {
        let retention = RetentionOptions::read(check).config(check);
        let has_servers = check.settings.has("nats_url");
        match (self.log.unwrap_or(LogKind::Embedded), has_servers) {
            (LogKind::Nats, _) if !cfg!(feature = "nats") => check.refuse("log", NO_NATS),
            (LogKind::Nats, true) => return LogConfig::Nats(stream(check, retention)),
            // Its value is invalid, or the file that names the servers cannot be read.
            (LogKind::Nats, false) if check.is_refused("nats_url") => {}
            (LogKind::Nats, false) => check.refuse(
                "log",
                "--log nats needs --nats-url, such as nats://127.0.0.1:4222",
            ),
            (LogKind::Embedded, true) if check.is_refused("log") => {}
            (LogKind::Embedded, true) => check.refuse(
                "nats_url",
                "--nats-url is set, and the log is the embedded one: add --log nats, or leave it out",
            ),
            (LogKind::Embedded, false) => {}
        }
        let default = sqlite::Config::default();
        let (retain_for, retain_bytes) = retention;
        let data_dir = self.data_dir.unwrap_or(default.data_dir);
        if !check.is_refused("log")
            && !check.is_refused("data_dir")
            && let Some(Obstacle::ForAll(obstacle)) = find_obstacle(&data_dir)
        {
            let message = format!("{obstacle}: name a directory, or the place for a new one");
            check.refuse("data_dir", message);
        }
        LogConfig::Embedded(sqlite::Config {
            data_dir,
            retain_for,
            retain_bytes,
            ..default
        })
    }
}

impl RetentionOptions {
    fn config(self, check: &mut Check<'_>) -> (Option<Duration>, Option<u64>) {
        let default = sqlite::Config::default();
        let retain_for = match self.retain_for {
            Some(Limit(None)) => None,
            Some(Limit(given)) => check
                .period("retain_for", given, KEPT_MAX)
                .or(default.retain_for),
            None => default.retain_for,
        };
        if retain_for.is_some_and(|period| period < RETAIN_FOR_ADVISED) {
            let shown = Limit(retain_for.map(Period));
            check.report.warn(format!(
                "events are removed after {shown} (--retain-for): an application that is down for longer, such as over a night, misses events"
            ));
        }
        let retain_bytes = match self.retain_bytes {
            Some(Limit(given)) => given.map(|Size(bytes)| bytes),
            None => default.retain_bytes,
        };
        if retain_bytes.is_some_and(|bytes| Size(bytes) < RETAIN_BYTES_MIN) {
            check.refuse("retain_bytes", "must be at least 16MiB");
        }
        (retain_for, retain_bytes)
    }
}

fn stream(
    check: &mut Check<'_>,
    (retain_for, retain_bytes): (Option<Duration>, Option<u64>),
) -> jetstream::Config {
    let stream = NatsOptions::read(check).config(check, KEPT_MAX, retain_for);
    jetstream::Config {
        retain_for,
        retain_bytes,
        ..stream
    }
}

/// The stream that the options name, even if they choose another log.
pub(super) fn named_stream(check: &mut Check<'_>) -> jetstream::Config {
    if !cfg!(feature = "nats") {
        check.refuse("nats_url", NO_NATS);
        return jetstream::Config::default();
    }
    if !check.settings.has("nats_url") && !check.is_refused("nats_url") {
        check.refuse(
            "nats_url",
            "`nats` needs --nats-url, such as nats://127.0.0.1:4222",
        );
    }
    let retention = RetentionOptions::read(check).config(check);
    stream(check, retention)
}

#[cfg(all(test, not(feature = "nats")))]
mod tests {
    use super::super::{Origin, Settings, check, check_stream};
    use crate::app::NO_NATS;
    use crate::app::file::Environment;

    #[test]
    fn a_build_without_nats_refuses_the_log_on_nats() {
        let mut settings = Settings {
            environment: Environment::LeftOut,
            ..Settings::default()
        };
        settings.given.set("log", "nats", Origin::Flag);
        settings
            .given
            .set("nats_url", "nats://127.0.0.1", Origin::Flag);
        for problems in [check(&settings).err(), check_stream(&settings).err()] {
            let problems = problems.unwrap_or_default();
            let [problem] = &problems[..] else {
                panic!("{problems:?}");
            };
            assert!(problem.to_string().contains(NO_NATS), "{problem}");
        }
    }
}
