//! Requests whose filter is too large, refused before they are decoded: decoding copies each
//! value, and a caller decides how many there are.

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::problem::Problem;
use super::{request, subscriptions};
use crate::filter::{Size, Spec, Violations};
use crate::proto::field::{
    create_subscription_request, event_filter, list_events_request, subscribe_request,
    subscription, update_subscription_request,
};
use crate::proto::method::{event_service, subscription_service};

/// All that is wrong with an encoded request whose filter is too large. `None` for every
/// other, and for what is not well-formed: decoding it finds out.
#[must_use]
pub fn problem(method: &str, encoded: &[u8]) -> Option<Problem> {
    match method {
        event_service::SUBSCRIBE => refuse(
            encoded,
            &[subscribe_request::FILTER],
            request::refuse_subscribe,
        ),
        event_service::LIST_EVENTS => {
            let filter = [list_events_request::FILTER];
            refuse(encoded, &filter, request::refuse_list)
        }
        subscription_service::CREATE_SUBSCRIPTION => {
            let filter = [
                create_subscription_request::SUBSCRIPTION,
                subscription::FILTER,
            ];
            refuse(encoded, &filter, subscriptions::refuse_create)
        }
        subscription_service::UPDATE_SUBSCRIPTION => {
            let filter = [update_subscription_request::FILTER];
            refuse(encoded, &filter, subscriptions::refuse_update)
        }
        _ => None,
    }
}

/// Counts the values of the filter, and has the rest of the request judged if they are too many
/// or too long. `filter` is the number of its field, behind those of the fields that it is in.
fn refuse<R: Message + Default>(
    encoded: &[u8],
    filter: &[u32],
    to_problem: impl FnOnce(&R, Violations) -> Problem,
) -> Option<Problem> {
    let mut sizes = Spec::default();
    let rest = count_within(encoded, filter, &mut sizes)?;
    let violations = sizes.check().err()?;
    let rest = R::decode(&*rest).ok()?;
    Some(to_problem(&rest, violations))
}

/// Counts the values of the filter in a message, and returns the rest of the message.
fn count_within(mut message: &[u8], filter: &[u32], sizes: &mut Spec<Size>) -> Option<Vec<u8>> {
    let (number, inner) = filter.split_first()?;
    let mut rest = Vec::new();
    while !message.is_empty() {
        let field = next(&mut message)?;
        match field.text {
            Some(text) if field.number == *number && inner.is_empty() => count(text, sizes)?,
            Some(text) if field.number == *number => {
                let text = count_within(text, inner, sizes)?;
                prost::encoding::bytes::encode(*number, &text, &mut rest);
            }
            _ => rest.extend_from_slice(field.encoded),
        }
    }
    Some(rest)
}

/// Counts the values of an encoded filter.
fn count(mut filter: &[u8], sizes: &mut Spec<Size>) -> Option<()> {
    while !filter.is_empty() {
        let field = next(&mut filter)?;
        let size = match field.number {
            event_filter::TYPES => &mut sizes.types,
            event_filter::EXCLUDE_TYPES => &mut sizes.exclude_types,
            event_filter::USER_IDS => &mut sizes.user_ids,
            event_filter::ORGANIZATION_IDS => &mut sizes.organization_ids,
            event_filter::SESSION_IDS => &mut sizes.session_ids,
            event_filter::SOURCES => &mut sizes.sources,
            event_filter::INSTANCE_IDS => &mut sizes.instance_ids,
            _ => continue,
        };
        size.add(std::str::from_utf8(field.text?).ok()?.len());
    }
    Some(())
}

/// A field where it lies.
struct Field<'a> {
    number: u32,
    /// With its key.
    encoded: &'a [u8],
    /// What it holds, where that has a length.
    text: Option<&'a [u8]>,
}

/// Takes the next field.
fn next<'a>(left: &mut &'a [u8]) -> Option<Field<'a>> {
    let all = *left;
    let (number, wire_type) = decode_key(left).ok()?;
    let text = if wire_type == WireType::LengthDelimited {
        let length = usize::try_from(decode_varint(left).ok()?).ok()?;
        Some(left.split_off(..length)?)
    } else {
        skip_field(wire_type, number, left, DecodeContext::default()).ok()?;
        None
    };
    let (encoded, _) = all.split_at(all.len() - left.len());
    Some(Field {
        number,
        encoded,
        text,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::access::{Policy, Principal};
    use crate::filter::KnownNames;
    use crate::proto;
    use crate::proto::EventFilter;

    /// What is answered to a request that is decoded.
    fn decoded(method: &str, encoded: &[u8]) -> Option<Problem> {
        let known = KnownNames::default();
        let principal = Principal::anonymous(Policy::default());
        match method {
            event_service::SUBSCRIBE => {
                let asked = proto::SubscribeRequest::decode(encoded).expect("well-formed");
                request::subscribe(asked, &known, principal, String::new()).err()
            }
            event_service::LIST_EVENTS => {
                let asked = proto::ListEventsRequest::decode(encoded).expect("well-formed");
                request::list(&asked, &known, &principal).err()
            }
            subscription_service::CREATE_SUBSCRIPTION => {
                let asked = proto::CreateSubscriptionRequest::decode(encoded);
                subscriptions::refusal_of_creation(asked.expect("well-formed"), &known)
            }
            _ => {
                let asked = proto::UpdateSubscriptionRequest::decode(encoded);
                subscriptions::refusal_of_update(asked.expect("well-formed"), &known)
            }
        }
    }

    fn is_oversized(filter: &EventFilter) -> bool {
        crate::api::filter::spec(Some(filter.clone()))
            .sizes()
            .check()
            .is_err()
    }

    fn filters() -> impl Strategy<Value = EventFilter> {
        let count = prop::sample::select(vec![0, 0, 1, 256, 257, 3_000, 10_000, 10_001]);
        let length = prop::sample::select(vec![0, 1, 30, 60, 256, 257]);
        let values =
            (count, length).prop_map(|(count, length)| vec!["é".repeat(length / 2); count]);
        let fields = prop::array::uniform7(prop_oneof![2 => Just(Vec::new()), 1 => values]);
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

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// It gets the answer that it would get if it were decoded, and no other request does.
        #[test]
        fn a_filter_with_too_many_values_is_refused_before_it_is_decoded(
            filter in filters(),
            max_events in -1_i64..2,
            subscriber_name in prop::sample::select(vec!["billing".to_owned(), "n".repeat(101)]),
            page_size in -1_i32..2,
            page_token in prop::sample::select(vec!["", "nonsense"]),
        ) {
            let is_oversized = is_oversized(&filter);
            let subscribe = proto::SubscribeRequest {
                filter: Some(filter.clone()),
                max_events,
                subscriber_name,
                ..proto::SubscribeRequest::default()
            };
            let list = proto::ListEventsRequest {
                filter: Some(filter),
                page_size,
                page_token: page_token.to_owned(),
                ..proto::ListEventsRequest::default()
            };
            let create = proto::CreateSubscriptionRequest {
                subscription: Some(proto::Subscription {
                    name: page_token.to_owned(),
                    filter: list.filter.clone(),
                    max_deliveries: page_size,
                    ..proto::Subscription::default()
                }),
                ..proto::CreateSubscriptionRequest::default()
            };
            let update = proto::UpdateSubscriptionRequest {
                name: page_token.to_owned(),
                filter: list.filter.clone(),
                on_expired: Some(page_size),
                ..proto::UpdateSubscriptionRequest::default()
            };
            for (method, encoded) in [
                (event_service::SUBSCRIBE, subscribe.encode_to_vec()),
                (event_service::LIST_EVENTS, list.encode_to_vec()),
                (
                    subscription_service::CREATE_SUBSCRIPTION,
                    create.encode_to_vec(),
                ),
                (
                    subscription_service::UPDATE_SUBSCRIPTION,
                    update.encode_to_vec(),
                ),
            ] {
                let refused = problem(method, &encoded);
                prop_assert_eq!(refused.is_some(), is_oversized);
                if is_oversized {
                    prop_assert_eq!(refused, decoded(method, &encoded));
                }
            }
        }

        /// Such as a filter in two parts, an unknown field, and what decoding refuses.
        #[test]
        fn what_is_counted_is_what_would_be_decoded(
            pieces in prop::collection::vec(prop_oneof![
                Just(vec![0x0a, 2, 0x0a, 0]),
                Just([&[0x0a, 0x84, 0x10][..], &[0x0a, 0].repeat(1026)].concat()),
                Just(vec![0x0a, 3, 0x0a, 1, 0xff]),
                Just(vec![0x0a, 2, 0x08, 1]),
                Just(vec![0x0a, 3, 0xf8, 0x07, 1]),
                Just(vec![0xf8, 0x07, 1]),
                Just(vec![0x0a]),
                prop::collection::vec(any::<u8>(), 0..6),
            ], 0..5),
        ) {
            let encoded = pieces.concat();
            let asked = proto::ListEventsRequest::decode(&*encoded).ok();
            let filter = asked.map(|asked| asked.filter.unwrap_or_default());
            let is_oversized = filter.is_some_and(|filter| is_oversized(&filter));
            let refused = problem(event_service::LIST_EVENTS, &encoded);
            prop_assert_eq!(refused.is_some(), is_oversized);
        }
    }
}
