use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::Duration;

use proptest::prelude::*;
use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};

use super::all::parse;
use super::period::PeriodMax;
use super::{Limit, OPTIONS, Origin, Period, Settings, Size, check};
use crate::app::Config;
use crate::app::file::Environment;

fn with(options: &[(&'static str, &str)]) -> Settings {
    let mut settings = Settings {
        environment: Environment::LeftOut,
        ..Settings::default()
    };
    for (key, value) in options {
        settings.given.set(key, *value, Origin::Flag);
    }
    settings
}

fn refused(options: &[(&'static str, &str)]) -> Vec<String> {
    let problems = check(&with(options)).err().unwrap_or_default();
    problems.into_iter().map(|problem| problem.key).collect()
}

const NATS: [(&str, &str); 2] = [("log", "nats"), ("nats_url", "nats://127.0.0.1")];

#[test]
fn every_default_is_valid_and_every_invalid_value_is_reported() {
    check(&with(&[])).expect("the defaults are right");
    check(&with(&NATS)).expect("they are right on NATS");
    for option in OPTIONS.iter() {
        let keys = refused(&[NATS[0], NATS[1], (option.key, "\u{1}")]);
        // Free texts and paths that nothing reads yet.
        let takes_anything = ["data_dir", "nats_credentials", "nats_tls_ca"];
        let is_named = keys.iter().any(|key| key == option.key);
        assert_ne!(
            takes_anything.contains(&option.key),
            is_named,
            "{}",
            option.key
        );
    }
}

/// The errors in a file, by line and key.
fn refused_in(file: &str) -> Vec<(usize, String)> {
    let settings = Settings {
        document: parse("clerkcast.toml", file),
        environment: Environment::LeftOut,
        ..Settings::default()
    };
    let problems = check(&settings).err().unwrap_or_default();
    let located = problems.into_iter();
    located
        .map(|problem| (problem.line(), problem.key))
        .collect()
}

const FILE_OF_NATS: &str = "log = \"nats\"\nnats_url = \"nats://127.0.0.1\"\n";

/// Lines that are wrong whatever else stands in the file, with their keys.
fn wrong_lines(is_on_nats: bool) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for option in OPTIONS.iter().filter(|option| option.is_in_file()) {
        let key = option.key;
        if is_on_nats && ["log", "nats_url"].contains(&key) {
            continue;
        }
        lines.push((key, format!("{key} = []\n")));
        let is_path = ["_dir", "_cert", "_key", "_ca", "_credentials"];
        let is_read = is_on_nats || !key.starts_with("nats_");
        if is_read && !is_path.iter().any(|end| key.ends_with(end)) {
            lines.push((key, format!("{key} = \"\\u0001\"\n")));
        }
    }
    lines
}

#[test]
fn two_wrong_values_are_two_errors_with_their_lines() {
    for (start, is_on_nats) in [("", false), (FILE_OF_NATS, true)] {
        let lines = wrong_lines(is_on_nats);
        let first = start.lines().count() + 1;
        for (index, (key, line)) in lines.iter().enumerate() {
            for (other, another) in lines.iter().skip(index).filter(|(other, _)| other != key) {
                let file = [start, line, another].concat();
                let expected = [(first, (*key).to_owned()), (first + 1, (*other).to_owned())];
                assert_eq!(refused_in(&file), expected, "{file}");
            }
        }
    }
}

/// Files with one cause that could show in several options, and the errors in each.
const DEPENDENT: [(&str, &str); 21] = [
    ("body_limit = '1GiB'", "1 body_limit"),
    ("body_limit = 'x'\nin_flight_limit = '1KiB'", "1 body_limit"),
    (
        "body_limit = '1GiB'\nin_flight_limit = 'x'",
        "1 body_limit, 2 in_flight_limit",
    ),
    ("in_flight_limit = '1KiB'", "1 in_flight_limit"),
    (
        "http_listen = 'x'\ngrpc_listen = '127.0.0.1:8080'",
        "1 http_listen",
    ),
    (
        "http_allow_from = []\nhttp_trusted_proxies = '10.0.0.0/8'",
        "1 http_allow_from",
    ),
    (
        "http_tls_cert = []\nhttp_tls_key = '/none'",
        "1 http_tls_cert",
    ),
    ("log = 'x'\nnats_url = 'nats://h'", "1 log"),
    ("log = 'nats'\nnats_url = []", "2 nats_url"),
    (
        "NATS\nnats_tls_cert = []\nnats_tls_key = '/none'",
        "3 nats_tls_cert",
    ),
    ("NATS\nretain_for = '24h'", "3 retain_for"),
    (
        "NATS\nnats_duplicate_window = '60d'",
        "3 nats_duplicate_window",
    ),
    (
        "NATS\nretain_for = 'x'\nnats_duplicate_window = '60d'",
        "3 retain_for",
    ),
    (
        "grpc_listen = '0.0.0.0:1'\nprincipals = [1]",
        "2 principals",
    ),
    (
        "grpc_listen = '0.0.0.0:1'\ngrpc_allow_anonymous = 1",
        "2 grpc_allow_anonymous",
    ),
    (
        "[[principals]]\nname = 'a'\nclient_certificate = 'a'",
        "1 grpc_tls_client_ca",
    ),
    (
        "grpc_tls_client_ca = []\n[[principals]]\nname = 'a'\nclient_certificate = 'a'",
        "1 grpc_tls_client_ca",
    ),
    (
        "grpc_tls_client_ca = 'x'\n[[principals]]\nname = 'a'\nclient_certificate = 'a'",
        "1 grpc_tls_client_ca",
    ),
    ("[[principals]]\nname = 5\nHASH", "2 principals[0].name"),
    (
        "[[sources]]\nname = 5\nSECRET\n[[sources]]\nname = 5\nSECRET",
        "2 sources[0].name, 5 sources[1].name",
    ),
    // Its secret is in the environment, which is left out.
    (
        "[[principals]]\nname = 'a'\nsources = ['default']\nHASH",
        "",
    ),
];

#[test]
fn what_follows_from_an_error_is_not_an_error_of_its_own() {
    let hash = format!("token_hash = 'sha256:{}'", "0".repeat(64));
    let secret = "signing_secrets = ['whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD']";
    for (file, expected) in DEPENDENT {
        let file = file.replace("NATS", FILE_OF_NATS.trim_end());
        let file = file.replace("HASH", &hash).replace("SECRET", secret);
        let refused = refused_in(&file).into_iter();
        let refused: Vec<_> = refused.map(|(line, key)| format!("{line} {key}")).collect();
        assert_eq!(refused.join(", "), expected, "{file}");
    }
}

#[test]
fn every_default_of_the_help_is_that_of_the_configuration() {
    let config = |options: &[(&'static str, &str)]| -> Config {
        let checked = check(&with(options)).map_err(|problems| format!("{problems:?}"));
        checked.expect("it is right").config
    };
    let log_of = |options: &[(&'static str, &str)]| format!("{:?}", config(options).log);
    let unset = config(&[]);
    let default = Config {
        // Of a gateway without principals, which is a rule and not a default.
        access: unset.access.clone(),
        ..Config::default()
    };
    assert_eq!(format!("{unset:?}"), format!("{default:?}"));
    for option in OPTIONS.iter().filter(|option| !option.default.is_empty()) {
        let given = (option.key, option.default);
        if option.key.starts_with("nats_") {
            assert_eq!(
                log_of(&[NATS[0], NATS[1], given]),
                log_of(&NATS),
                "{}",
                option.key
            );
        } else {
            let given = config(&[given]);
            assert_eq!(format!("{given:?}"), format!("{unset:?}"), "{}", option.key);
        }
    }
}

#[test]
fn every_option_is_declared_once() {
    for option in OPTIONS.iter() {
        let same = OPTIONS
            .iter()
            .filter(|other| other.key == option.key || other.order == option.order);
        assert_eq!(same.count(), 1, "{}", option.key);
    }
}

#[test]
fn no_two_listeners_share_an_address() {
    let http = ("http_listen", "127.0.0.1:7001");
    for (admin, is_refused) in [
        ("127.0.0.1:7001", true),
        ("0.0.0.0:7001", true),
        ("127.0.0.1:7002", false),
        ("127.0.0.2:7001", false),
        ("[::1]:7001", false),
    ] {
        let keys = refused(&[http, ("admin_listen", admin)]);
        let expected: &[&str] = if is_refused { &["admin_listen"] } else { &[] };
        assert_eq!(keys, expected, "{admin}");
    }
    let any = "127.0.0.1:0";
    let free = [
        ("http_listen", any),
        ("grpc_listen", any),
        ("admin_listen", any),
    ];
    assert_eq!(refused(&free), [""; 0]);
    // The error names the option that was set, and not the one whose default clashes.
    let keys = refused(&[("http_listen", "127.0.0.1:50051")]);
    assert_eq!(keys, ["http_listen"]);
}

#[test]
fn durations_beyond_the_clock_are_refused() {
    let long = "500000000000y";
    for key in ["body_timeout", "drain_timeout", "retain_for"] {
        assert_eq!(refused(&[(key, long)]), [key]);
    }
}

#[test]
fn sizes_are_read_as_people_write_them() {
    let bytes = |text: &str| text.parse().map(|Size(bytes)| bytes);
    assert_eq!(bytes("1000"), Ok(1000));
    assert_eq!(bytes("512KiB"), Ok(512 << 10));
    assert_eq!(bytes("10 GiB"), Ok(10 << 30));
    assert_eq!(bytes("2mb"), Ok(2_000_000));
    for invalid in ["", "MiB", "-1", "1.5GiB", "ten", "99999999999TiB"] {
        assert!(bytes(invalid).is_err(), "{invalid}");
    }
}

#[test]
fn sizes_and_durations_are_shown_in_their_largest_whole_unit() {
    for (seconds, shown) in [
        (30 * 86_400, "30d"),
        (36 * 3600, "36h"),
        (90, "90s"),
        (0, "0s"),
    ] {
        assert_eq!(Period(Duration::from_secs(seconds)).to_string(), shown);
    }
    assert_eq!(Period(Duration::from_millis(500)).to_string(), "0.5s");
    assert_eq!(Size(10 << 30).to_string(), "10 GiB");
    assert_eq!(Size(1000).to_string(), "1000 B");
}

#[test]
fn durations_beyond_their_maximum_are_refused() {
    let day = PeriodMax {
        period: Period(Duration::from_secs(86_400)),
        shown: "1d",
    };
    let up_to_a_day = |text: &str| text.parse::<Period>().and_then(|period| period.up_to(day));
    assert_eq!(up_to_a_day("24h"), Ok(day.period));
    for longer in ["25h", "500000000000y"] {
        let refused = Err("the most is 1d".to_owned());
        assert_eq!(up_to_a_day(longer), refused, "{longer}");
    }
    assert_eq!(refused(&[("retain_for", "10y")]), [""; 0]);
}

#[test]
fn a_limit_can_be_off() {
    let limit = |text: &str| text.parse::<Limit<Period>>();
    assert_eq!(limit("off"), Ok(Limit(None)));
    let period = Period(Duration::from_secs(28 * 3600));
    assert_eq!(limit("28h"), Ok(Limit(Some(period))));
    assert!(limit("never").is_err());
}

/// What is shown reads back as the same value, from a flag and from a file.
fn is_read_as_it_is_shown<T>(value: T)
where
    T: FromStr<Err = String> + Display + Debug + PartialEq + for<'de> Deserialize<'de>,
{
    let shown = value.to_string();
    assert_eq!(shown.parse(), Ok(value), "{shown}");
    let deserializer: StrDeserializer<'_, Error> = StrDeserializer::new(&shown);
    let parsed = shown.parse::<T>().expect("it is read");
    assert_eq!(T::deserialize(deserializer), Ok(parsed), "{shown}");
}

proptest! {
    #[test]
    fn sizes_periods_and_limits_are_read_as_they_are_shown(
        bytes: u64,
        seconds in 0_u64..1 << 40,
        nanos in 0_u32..1_000_000_000,
        shift in 0_u32..40,
    ) {
        for size in [Size(bytes), Size((bytes >> 40) << shift), Size(0)] {
            is_read_as_it_is_shown(size);
            is_read_as_it_is_shown(Limit(Some(size)));
        }
        for period in [Duration::new(seconds, nanos), Duration::from_secs(seconds)] {
            is_read_as_it_is_shown(Period(period));
            is_read_as_it_is_shown(Limit(Some(Period(period))));
        }
        is_read_as_it_is_shown(Limit::<Size>(None));
        is_read_as_it_is_shown(Limit::<Period>(None));
    }
}
