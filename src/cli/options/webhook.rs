//! The options about what webhooks are accepted, and from where.

use std::ffi::OsString;
use std::time::Duration;

use super::check::{Check, TIMEOUT_MAX};
use super::declaration::{self, Declaration, OptionPlace, option, options};
use super::default_source::default_source;
use super::period::Period;
use super::size::Size;
use super::value::Value;
use crate::app::file::{ConfiguredSources, check_sources};
use crate::event::IdKind;
use crate::event::numbers::saturating;
use crate::webhook::{AllowList, Config, DEFAULT_SOURCE, Networks};

/// Maximum of --body-limit. A typed event with its payload then stays below gRPC's default limit
/// of 4 MiB.
const BODY_LIMIT_MAX: Size = Size(512 << 10);

options! {
    /// What webhooks are accepted, and from where.
    WebhookOptions {
        70 signing_secret: OsString = option(
            "SECRET",
            "Signing secret of the default source, `whsec_…`; several separated by white space or commas. Better set in CLERK_WEBHOOK_SIGNING_SECRET (also read: CLERKCAST_SIGNING_SECRET, CLERK_WEBHOOK_SECRET) or in a file that CLERK_WEBHOOK_SIGNING_SECRET_FILE names, since other users of this machine can see a command line",
        ).in_place(OptionPlace::FlagOnly);
        80 instance_id: String = option(
            "ID",
            "The Clerk instance (`ins_…`) that the default source's events must name",
        ).in_place(OptionPlace::NotInFile);
        110 body_limit: Size = option(
            "SIZE",
            "The largest webhook body that is accepted, at most 512KiB",
        ).with_default("512KiB");
        120 body_timeout: Period = option(
            "DURATION",
            "How long a webhook body may take to arrive",
        ).with_default("10s");
        130 in_flight_limit: Size = option(
            "SIZE",
            "Bytes of webhook bodies on their way into the log at once; beyond, 503",
        ).with_default("64MiB");
        300 http_allow_from: Networks = option(
            "LIST",
            "Answer webhooks from these networks only, others 403: CIDRs or addresses, and `svix` for the addresses that Svix publishes, separated by commas",
        );
        310 http_trusted_proxies: Networks = option(
            "LIST",
            "Networks of your own reverse proxies, whose X-Forwarded-For is believed",
        );
    }
}

impl WebhookOptions {
    /// How webhooks are received, and which sources have secrets in the environment.
    pub(super) fn config(mut self, check: &mut Check<'_>) -> (Config, Vec<String>) {
        let default = Config::default();
        let ConfiguredSources {
            sources,
            in_environment,
        } = self.take_sources(check);
        let (body_limit, in_flight_limit) = self.limits(check, &default);
        let body_timeout = check.period("body_timeout", self.body_timeout, TIMEOUT_MAX);
        if body_timeout == Some(Duration::ZERO) {
            check.refuse("body_timeout", "must be more than 0s");
        }
        let config = Config {
            sources,
            body_bytes_max: body_limit.bytes(),
            body_timeout: body_timeout.unwrap_or(default.body_timeout),
            in_flight_bytes_max: in_flight_limit.bytes(),
            allow_list: self.allow_list(check),
        };
        (config, in_environment)
    }

    fn take_sources(&mut self, check: &mut Check<'_>) -> ConfiguredSources {
        let settings = check.settings;
        let is_in_file = settings.document.has_sources();
        let flag = self.signing_secret.take();
        let mut configured = ConfiguredSources::default();
        if is_in_file {
            if flag.is_some() {
                check.refuse(
                    "signing_secret",
                    "--signing-secret is for a gateway without [[sources]]: name the secret in the source's table, as signing_secrets, signing_secrets_env or signing_secrets_file",
                );
            }
            configured = check_sources(&settings.document, settings.environment, &mut check.report);
        } else if let Some((source, is_in_environment)) = default_source(check, flag) {
            configured.add(source, is_in_environment);
        }
        let Some(id) = self.instance_id.take() else {
            return configured;
        };
        if let Err(invalid) = IdKind::Instance.check(&id) {
            check.refuse("instance_id", invalid);
        }
        let mut sources = configured.sources.iter_mut();
        match sources.find(|source| source.name == DEFAULT_SOURCE) {
            Some(default) => default.instance_id = Some(id),
            None if is_in_file => check.refuse(
                "instance_id",
                "--instance-id is for the default source, which has no signing secret: set instance_id in its [[sources]] table",
            ),
            // The missing secret is among the problems already.
            None => {}
        }
        configured
    }

    fn limits(&self, check: &mut Check<'_>, default: &Config) -> (Size, Size) {
        let size_of = |bytes: usize| Size(saturating(bytes));
        let body = self
            .body_limit
            .unwrap_or_else(|| size_of(default.body_bytes_max));
        if body > BODY_LIMIT_MAX {
            check.refuse(
                "body_limit",
                "must be at most 512KiB, so that a typed event stays below gRPC's limit of 4 MiB",
            );
        }
        if body == Size(0) {
            check.refuse("body_limit", "must be more than 0");
        }
        let in_flight = self
            .in_flight_limit
            .unwrap_or_else(|| size_of(default.in_flight_bytes_max));
        let is_known = !check.is_refused("body_limit") && !check.is_refused("in_flight_limit");
        if is_known && in_flight < body {
            check.refuse("in_flight_limit", "must be at least --body-limit");
        }
        (body, in_flight)
    }

    fn allow_list(self, check: &mut Check<'_>) -> Option<AllowList> {
        if !check.settings.has("http_allow_from") {
            let is_known = ["http_allow_from", "http_trusted_proxies"]
                .iter()
                .all(|key| !check.is_refused(key));
            if is_known && check.settings.has("http_trusted_proxies") {
                check.refuse("http_trusted_proxies", "--http-trusted-proxies has no effect without --http-allow-from: set both, or neither");
            }
            return None;
        }
        Some(AllowList {
            from: self.http_allow_from?,
            trusted_proxies: self.http_trusted_proxies.unwrap_or_default(),
        })
    }
}
