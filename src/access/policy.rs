//! What one principal may receive.

use super::redaction::Redaction;
use crate::filter::{Scope, TypePattern};

/// What a principal may receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which events.
    pub scope: Scope,
    /// Which fields are removed from them.
    pub redaction: Redaction,
    /// Whether it is refused the verified bodies (`payload_json`).
    pub withholds_payload: bool,
    /// How many streams it may hold at once; none for no limit of its own.
    pub streams_max: Option<usize>,
    /// Whether it sees all connected subscribers, not only its own.
    pub sees_all_subscribers: bool,
    /// Whether it sees and changes the subscriptions of all owners, not only its own. Receiving
    /// from one, and acknowledging, stay with its owner.
    pub operates_all_subscriptions: bool,
}

impl Policy {
    /// Whether a caller may receive something under this policy that `former` kept back:
    /// events, fields of them, or their bodies. Limits of number do not count.
    #[must_use]
    pub fn allows_more_than(&self, former: &Self) -> bool {
        if self.scope.is_nothing() {
            return false;
        }
        let types = self.scope.allowed_part(&TypePattern::everything());
        self.scope.allows_more_than(&former.scope)
            || (former.withholds_payload && !self.withholds_payload)
            || self.redaction.leaves_more_than(&former.redaction, &types)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(types: &[&str], exclude_types: &[&str], sources: &[&str]) -> Scope {
        let patterns = |texts: &[&str]| {
            let patterns = texts.iter().map(|text| text.parse().expect("a pattern"));
            patterns.collect()
        };
        Scope {
            types: patterns(types),
            exclude_types: patterns(exclude_types),
            sources: sources.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn policy(redact: &[&str], grant: &[&str]) -> Policy {
        let owned = |texts: &[&str]| -> Vec<String> {
            texts.iter().map(|text| (*text).to_owned()).collect()
        };
        Policy {
            redaction: Redaction::new(&owned(redact), &owned(grant)).expect("rules"),
            ..Policy::default()
        }
    }

    #[test]
    fn a_scope_that_allows_more_is_wider() {
        let all = scope(&[], &[], &[]);
        let users = scope(&["user.*"], &[], &[]);
        let created = scope(&["user.created"], &[], &[]);
        let without = scope(&["user.*"], &["user.deleted"], &[]);
        let production = scope(&[], &[], &["production"]);
        let nothing = scope(&["user.*"], &["user.*"], &[]);
        for (latter, former, is_wider) in [
            (&all, &users, true),
            (&users, &all, false),
            (&users, &created, true),
            (&created, &users, false),
            (&users, &without, true),
            (&without, &users, false),
            (&created, &without, false),
            (&all, &production, true),
            (&production, &all, false),
            (&users, &production, true),
            (&nothing, &production, false),
            (&created, &nothing, true),
            (&scope(&[], &["session.*"], &[]), &users, true),
            (&scope(&["session.*"], &[], &[]), &users, true),
            (
                &scope(&[], &[], &["production", "staging"]),
                &production,
                true,
            ),
            (&scope(&["user.*"], &["user.d*"], &[]), &without, false),
        ] {
            let [latter, former] = [latter, former].map(|scope| Policy {
                scope: scope.clone(),
                ..Policy::default()
            });
            let found = latter.allows_more_than(&former);
            assert_eq!(
                found, is_wider,
                "{:?} after {:?}",
                latter.scope, former.scope
            );
            assert!(!latter.allows_more_than(&latter));
        }
    }

    #[test]
    fn more_fields_grants_or_payload_widen_a_policy_and_higher_limits_do_not() {
        let plain = policy(&[], &[]);
        for (latter, former, is_wider) in [
            (policy(&[], &[]), policy(&["contact"], &[]), true),
            (policy(&["contact"], &[]), policy(&[], &[]), false),
            (
                policy(&["data.external_id"], &[]),
                policy(&["**.external_id"], &[]),
                true,
            ),
            (
                policy(&["**.external_id"], &[]),
                policy(&["data.external_id"], &[]),
                false,
            ),
            (policy(&[], &["messages"]), plain.clone(), true),
            (plain.clone(), policy(&[], &["messages"]), false),
        ] {
            let found = latter.allows_more_than(&former);
            assert_eq!(found, is_wider, "{latter:?} after {former:?}");
        }
        let of_users = |policy: Policy| Policy {
            scope: scope(&["user.*"], &[], &[]),
            ..policy
        };
        let granted = of_users(policy(&[], &["messages"]));
        assert!(
            !granted.allows_more_than(&of_users(plain.clone())),
            "it receives no message"
        );
        let without_body = Policy {
            withholds_payload: true,
            ..plain.clone()
        };
        assert!(plain.allows_more_than(&without_body));
        let numbered = Policy {
            streams_max: Some(1),
            ..plain.clone()
        };
        assert!(!plain.allows_more_than(&numbered));
    }

    proptest::proptest! {
        /// Against events one by one.
        #[test]
        fn every_newly_allowed_event_is_found_to_widen_the_policy(
            latter in any_scope(),
            former in any_scope(),
            event_type in "(a|b)\\.(x|y|z)",
            source in "(s|t)",
        ) {
            let allows = |scope: &Scope| scope.allows_source(&source) && scope.allows_type(&event_type);
            let is_wider = Policy { scope: latter.clone(), ..Policy::default() }
                .allows_more_than(&Policy { scope: former.clone(), ..Policy::default() });
            proptest::prop_assert!(is_wider || !allows(&latter) || allows(&former));
        }
    }

    fn any_scope() -> impl proptest::strategy::Strategy<Value = Scope> {
        use proptest::collection::vec;
        use proptest::strategy::Strategy as _;
        let patterns = || vec("(a|b)\\.(x|y|\\*)|a\\*|\\*", 0..3);
        (patterns(), patterns(), vec("(s|t)", 0..2)).prop_map(|(types, exclude, sources)| {
            let of = |texts: &[String]| {
                texts
                    .iter()
                    .map(|text| text.parse().expect("a pattern"))
                    .collect()
            };
            Scope {
                types: of(&types),
                exclude_types: of(&exclude),
                sources: sources.into_iter().collect(),
            }
        })
    }
}
