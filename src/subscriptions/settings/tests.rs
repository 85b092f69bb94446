use std::time::Duration;

use proptest::prelude::*;

use super::{AskedSettings, Definition, OrderBy, SettingError, Settings};
use crate::event::{Epoch, Position, UnixMillis};
use crate::fanout::OnExpired;
use crate::filter::Spec;

fn asked() -> impl Strategy<Value = AskedSettings> {
    let texts = || prop::collection::vec("[a-c]{1,2}", 0..4);
    let filter = (texts(), texts(), texts()).prop_map(|(types, user_ids, sources)| Spec {
        types,
        user_ids,
        sources,
        ..Spec::default()
    });
    let orders = vec![
        OrderBy::User,
        OrderBy::Organization,
        OrderBy::None,
        OrderBy::Log,
    ];
    let policies = vec![OnExpired::Fail, OnExpired::Earliest, OnExpired::Latest];
    let duration = || prop::option::of((0_u64..200_000_000).prop_map(Duration::from_millis));
    (
        prop::option::of(filter),
        prop::option::of(prop::sample::select(orders)),
        (duration(), duration(), duration()),
        prop::option::of(-5_i32..150),
        prop::option::of(prop::sample::select(policies)),
        prop::option::of(any::<bool>()),
    )
        .prop_map(
            |(filter, order_by, durations, max_deliveries, on_expired, paused)| AskedSettings {
                filter,
                order_by,
                ack_deadline: durations.0,
                max_deliveries,
                min_retry_delay: durations.1,
                max_retry_delay: durations.2,
                on_expired,
                paused,
            },
        )
}

fn settings() -> impl Strategy<Value = Settings> {
    asked().prop_map(|asked| {
        let fields = asked.clone();
        Settings::new(asked).unwrap_or_else(|_| {
            let asked = AskedSettings {
                filter: fields.filter,
                order_by: fields.order_by,
                on_expired: fields.on_expired,
                paused: fields.paused,
                ..AskedSettings::default()
            };
            Settings::new(asked).expect("within bounds")
        })
    })
}

fn definition(settings: Settings) -> Definition {
    let [create_time, start] = [1_790_000_000_000, 17];
    Definition::new(
        settings,
        "crm-team".to_owned(),
        UnixMillis::new(create_time),
        Epoch::new(7),
        Position::new(start.unsigned_abs()),
    )
}

#[test]
fn defaults_are_those_of_the_proto_file() {
    let settings = Settings::new(AskedSettings::default()).expect("defaults");
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.ack_deadline, Duration::from_secs(30));
    assert_eq!(settings.max_deliveries, 10);
    assert_eq!(settings.min_retry_delay, Duration::from_secs(1));
    assert_eq!(settings.max_retry_delay, Duration::from_secs(600));
    assert_eq!(
        (settings.order_by, settings.on_expired),
        (OrderBy::User, OnExpired::Fail)
    );
}

#[test]
fn a_setting_outside_its_bounds_is_named() {
    let milliseconds = |number| Some(Duration::from_millis(number));
    let hour = 3_600_000;
    let none = AskedSettings::default;
    for (asked, is_within, field) in [
        (
            AskedSettings {
                ack_deadline: milliseconds(999),
                ..none()
            },
            false,
            "ack_deadline",
        ),
        (
            AskedSettings {
                ack_deadline: milliseconds(1_000),
                ..none()
            },
            true,
            "",
        ),
        (
            AskedSettings {
                ack_deadline: milliseconds(hour),
                ..none()
            },
            true,
            "",
        ),
        (
            AskedSettings {
                ack_deadline: milliseconds(hour + 1),
                ..none()
            },
            false,
            "ack_deadline",
        ),
        (
            AskedSettings {
                max_deliveries: Some(-1),
                ..none()
            },
            false,
            "max_deliveries",
        ),
        (
            AskedSettings {
                max_deliveries: Some(0),
                ..none()
            },
            true,
            "",
        ),
        (
            AskedSettings {
                max_deliveries: Some(100),
                ..none()
            },
            true,
            "",
        ),
        (
            AskedSettings {
                max_deliveries: Some(101),
                ..none()
            },
            false,
            "max_deliveries",
        ),
        (
            AskedSettings {
                min_retry_delay: milliseconds(99),
                ..none()
            },
            false,
            "min_retry_delay",
        ),
        (
            AskedSettings {
                min_retry_delay: milliseconds(100),
                ..none()
            },
            true,
            "",
        ),
        (
            AskedSettings {
                min_retry_delay: milliseconds(24 * hour),
                ..none()
            },
            true,
            "",
        ),
        (
            AskedSettings {
                max_retry_delay: milliseconds(999),
                ..none()
            },
            false,
            "max_retry_delay",
        ),
        (
            AskedSettings {
                max_retry_delay: milliseconds(1_000),
                ..none()
            },
            true,
            "",
        ),
        (
            AskedSettings {
                max_retry_delay: milliseconds(24 * hour + 1),
                ..none()
            },
            false,
            "max_retry_delay",
        ),
    ] {
        let fields = |refused: Vec<SettingError>| {
            refused
                .iter()
                .map(|refused| refused.field)
                .collect::<Vec<_>>()
        };
        match Settings::new(asked.clone()) {
            Ok(_) => assert!(is_within, "{asked:?}"),
            Err(refused) => assert_eq!((fields(refused), is_within), (vec![field], false)),
        }
    }
    let day = milliseconds(24 * hour + 1);
    let refused = Settings::new(AskedSettings {
        min_retry_delay: day,
        ..none()
    });
    assert_eq!(refused.expect_err("both").len(), 2);
}

#[test]
fn settings_are_compared_after_defaults_and_filters_as_sets() {
    let types = |types: &[&str]| Spec {
        types: types.iter().map(|name| (*name).to_owned()).collect(),
        ..Spec::default()
    };
    let settings = |filter, paused| {
        let asked = AskedSettings {
            filter: Some(filter),
            ack_deadline: Some(Duration::from_micros(30_000_999)),
            paused: Some(paused),
            ..AskedSettings::default()
        };
        Settings::new(asked).expect("within bounds")
    };
    let created = settings(types(&["user.*", "role.*", "user.*"]), false);
    let again = settings(types(&["role.*", "user.*"]), true);
    assert_eq!(created.differing_fields(&again), [""; 0]);
    let other = settings(types(&["role.*"]), false);
    assert_eq!(created.differing_fields(&other), ["filter"]);
    assert_eq!(Settings::default().differing_fields(&other), ["filter"]);
}

proptest! {
    #[test]
    fn a_change_leaves_what_it_does_not_name(before in settings(), asked in asked()) {
        prop_assert_eq!(before.change(AskedSettings::default()), Ok(before.clone()));
        if let Ok(after) = before.change(asked.clone()) {
            let only_paused = AskedSettings { paused: asked.paused, ..AskedSettings::default() };
            let paused = before.change(only_paused).expect("within bounds");
            prop_assert_eq!(before.differing_fields(&paused), [""; 0]);
            prop_assert_eq!(after.paused, paused.paused);
            prop_assert_eq!(after.change(asked), Ok(after));
        }
    }

    #[test]
    fn a_definition_round_trips_and_keeps_the_fields_of_later_versions(
        settings in settings(),
        later in prop::collection::vec((19_u32..5_000, prop::collection::vec(any::<u8>(), 0..9)), 0..4),
    ) {
        let mut bytes = definition(settings).encode();
        let own = bytes.len();
        for (number, content) in later {
            prost::encoding::bytes::encode(number, &content, &mut bytes);
        }
        let of_later_versions = &bytes[own..];
        let read = Definition::decode(&bytes).expect("a definition");
        prop_assert_eq!(&read.encode(), &bytes);
        let asked = AskedSettings { paused: Some(true), ..AskedSettings::default() };
        let settings = read.settings.change(asked).expect("within bounds");
        let mut changed = read;
        changed.settings = settings;
        prop_assert!(changed.encode().ends_with(of_later_versions));
    }

    #[test]
    fn any_bytes_are_a_definition_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(read) = Definition::decode(&bytes) {
            prop_assert_eq!(Definition::decode(&read.encode()), Ok(read));
        }
    }
}
