use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use prost_reflect::MessageDescriptor;

use super::*;
use crate::access::Policy;
use crate::api::subscriptions;
use crate::filter::Scope;
use crate::log::Tally;
use crate::proto::EventFilter;

/// What judging a request may cost. Without optimization it takes several times as long.
const JUDGED_WITHIN: Duration =
    Duration::from_millis(if cfg!(debug_assertions) { 150 } else { 50 });

/// Values of a field: many or long, known or not.
fn values() -> impl Strategy<Value = Vec<String>> {
    let numbered = |prefix: &'static str, suffix: &'static str| {
        move |number: usize| format!("{prefix}{number:07}{suffix}")
    };
    let long = "x".repeat(248);
    let to_value: Vec<Box<dyn Fn(usize) -> String>> = vec![
        // As in the names that exist, and of the length that is compared with most effort.
        Box::new(numbered(
            "organizationMembership.created",
            "organizationInvi",
        )),
        Box::new(numbered("organization_invitation_accepted_", "")),
        Box::new(numbered("user_", "")),
        Box::new(numbered("", "@example.com")),
        Box::new(move |number| format!("{long}{number:07}")),
        Box::new(numbered("u", "*")),
        Box::new(numbered("subscription.", "*")),
        Box::new(numbered("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p", "")),
    ];
    let count = prop::sample::select(vec![0, 1, 11, 255, 256, 2_000, 10_000, 20_000]);
    (count, 0..to_value.len()).prop_map(move |(count, kind)| {
        // In no order.
        let numbers = (0..count).map(|number| number * 7_919 % 20_011);
        numbers.map(&to_value[kind]).collect()
    })
}

fn filters() -> impl Strategy<Value = EventFilter> {
    let fields = prop::array::uniform7(prop_oneof![3 => Just(Vec::new()), 1 => values()]);
    fields.prop_map(
        |[
            types,
            exclude_types,
            user_ids,
            organization_ids,
            session_ids,
            sources,
            instance_ids,
        ]| {
            EventFilter {
                types,
                exclude_types,
                user_ids,
                organization_ids,
                session_ids,
                sources,
                instance_ids,
            }
        },
    )
}

/// A log with thousands of names, and a policy with as many patterns as it may have.
fn names_and_principals() -> (KnownNames, [Principal; 2]) {
    let tallies = (0..3_000).map(|number| Tally {
        source: format!("source-{}", number % 3),
        event_type: format!("organizationMembership.created{number}"),
        count: 1,
    });
    let known = crate::fanout::known_names([], &tallies.collect::<Vec<_>>());
    let patterns = |prefix: &str| {
        let patterns = (0..256).map(|number| format!("{prefix}{number}*"));
        patterns
            .map(|text| text.parse().expect("a pattern"))
            .collect()
    };
    let narrow = Policy {
        scope: Scope {
            types: patterns("u"),
            exclude_types: patterns("user."),
            sources: BTreeSet::from(["source-1".to_owned()]),
        },
        ..Policy::default()
    };
    let principals = [Policy::default(), narrow].map(Principal::anonymous);
    (known, principals)
}

/// Processor time that this thread has used.
fn processor_time() -> Duration {
    let stat =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("the statistics of Linux");
    let nanoseconds = stat.split_whitespace().next().expect("a number");
    Duration::from_nanos(nanoseconds.parse().expect("a number"))
}

/// All requests that hold a filter, judged.
fn judge(method: &str, filter: &EventFilter, known: &KnownNames, principal: &Principal) {
    let filter = Some(filter.clone());
    match method {
        "Subscribe" => {
            let request = proto::SubscribeRequest {
                filter,
                ..proto::SubscribeRequest::default()
            };
            let _refused = subscribe(request, known, principal.clone(), String::new());
        }
        "ListEvents" => {
            let request = proto::ListEventsRequest {
                filter,
                ..proto::ListEventsRequest::default()
            };
            let _refused = list(&request, known, principal);
        }
        "CreateSubscription" => {
            let request = proto::CreateSubscriptionRequest {
                subscription: Some(proto::Subscription {
                    filter,
                    ..proto::Subscription::default()
                }),
                ..proto::CreateSubscriptionRequest::default()
            };
            let _refused = subscriptions::refusal_of_creation(request, known);
        }
        "UpdateSubscription" => {
            let request = proto::UpdateSubscriptionRequest {
                filter,
                ..proto::UpdateSubscriptionRequest::default()
            };
            let _refused = subscriptions::refusal_of_update(request, known);
        }
        other => panic!("judge the filter of {other} here, too"),
    }
}

/// Also one in a message of the request.
fn methods_with_a_filter() -> Vec<String> {
    let is_filter = |message: &MessageDescriptor| message.name() == "EventFilter";
    let messages_in = |message: MessageDescriptor| {
        let fields = message.fields().collect::<Vec<_>>().into_iter();
        fields.filter_map(|field| field.kind().as_message().cloned())
    };
    let services = proto::DESCRIPTORS.services();
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    let with_filter = methods.filter(|method| {
        messages_in(method.input()).any(|message| {
            is_filter(&message) || messages_in(message).any(|inner| is_filter(&inner))
        })
    });
    with_filter.map(|method| method.name().to_owned()).collect()
}

#[test]
fn a_request_is_judged_in_fifty_milliseconds() {
    let (known, principals) = names_and_principals();
    let methods = methods_with_a_filter();
    assert!(methods.len() >= 4);
    let config = ProptestConfig {
        cases: 60,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let judged = runner.run(&filters(), |filter| {
        let all = methods
            .iter()
            .flat_map(|method| principals.iter().map(move |principal| (method, principal)));
        for (method, principal) in all {
            // What else runs on this processor spoils one measurement, not three.
            let measured = (0..3).map(|_| {
                let started = processor_time();
                judge(method, &filter, &known, principal);
                processor_time().saturating_sub(started)
            });
            let took = measured.min().unwrap_or_default();
            let counts = [
                &filter.types,
                &filter.exclude_types,
                &filter.user_ids,
                &filter.sources,
            ]
            .map(Vec::len);
            prop_assert!(took <= JUDGED_WITHIN, "{method} of {counts:?}: {took:?}");
        }
        Ok(())
    });
    judged.unwrap_or_else(|failed| {
        panic!(
            "{}",
            failed.to_string().chars().take(500).collect::<String>()
        )
    });
}
