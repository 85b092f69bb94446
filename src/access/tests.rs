use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::filter::{Scope, TypePattern};

fn identity(name: &str, token: &Token) -> PrincipalConfig {
    PrincipalConfig {
        name: name.to_owned(),
        token_hashes: vec![token.hash()],
        certificate_names: vec![format!("{name}.internal")],
        policy: Policy::default(),
    }
}

fn with_token(token: &str) -> Credentials<'_> {
    Credentials {
        token: Some(token),
        ..Credentials::default()
    }
}

fn token() -> Token {
    Token::generate().expect("randomness")
}

#[test]
fn a_caller_is_authenticated_by_its_token_or_its_certificate_alone() {
    let [first, second, unknown] = [token(), token(), token()];
    let access = Access::new(AccessConfig {
        principals: vec![identity("a", &first), identity("b", &second)],
        anonymous: None,
    });
    fn who(access: &Access, shown: Credentials<'_>) -> Result<String, AuthError> {
        access
            .authenticate(shown)
            .map(|principal| principal.name().to_owned())
    }
    assert_eq!(
        who(&access, with_token(second.secret())),
        Ok("b".to_owned())
    );
    assert_eq!(
        who(&access, with_token(unknown.secret())),
        Err(AuthError::Token)
    );
    assert_eq!(who(&access, with_token("")), Err(AuthError::Token));
    assert_eq!(
        who(&access, with_token(&second.hash().to_string())),
        Err(AuthError::Token)
    );
    assert_eq!(
        who(&access, Credentials::default()),
        Err(AuthError::NoCredentials)
    );
    for (certificate_name, found) in [
        ("b.internal", Ok("b".to_owned())),
        ("b", Err(AuthError::Certificate)),
    ] {
        let names = ["else.internal".to_owned(), certificate_name.to_owned()];
        let shown = Credentials {
            certificate_names: &names,
            ..Credentials::default()
        };
        assert_eq!(who(&access, shown), found);
        let shown = Credentials {
            token: Some(unknown.secret()),
            ..shown
        };
        assert_eq!(
            who(&access, shown),
            Err(AuthError::Token),
            "a wrong token is not looked past"
        );
    }
}

#[test]
fn the_wildcard_principal_matches_unlisted_certificates() {
    let any = PrincipalConfig {
        certificate_names: vec![ANY_NAME.to_owned()],
        ..identity("any", &token())
    };
    let access = Access::new(AccessConfig {
        principals: vec![any, identity("a", &token())],
        anonymous: None,
    });
    let authenticate = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let shown = Credentials {
            certificate_names: &names,
            ..Credentials::default()
        };
        access
            .authenticate(shown)
            .map(|principal| principal.name().to_owned())
    };
    assert_eq!(authenticate(&["a.internal"]), Ok("a".to_owned()));
    assert_eq!(authenticate(&["else.internal"]), Ok("any".to_owned()));
    assert_eq!(authenticate(&[]), Err(AuthError::NoCredentials));
}

#[test]
fn a_replacement_revokes_only_the_principals_that_it_changes_or_removes() {
    let [first, second, third] = [token(), token(), token()];
    let access = Access::new(AccessConfig {
        principals: vec![
            identity("a", &first),
            identity("b", &second),
            identity("c", &third),
        ],
        anonymous: Some(Policy::default()),
    });
    let authenticate = |shown| access.authenticate(shown).expect("known");
    let [a, b, c] = [&first, &second, &third].map(|token| authenticate(with_token(token.secret())));
    let anonymous_caller = authenticate(Credentials::default());
    let mut changed = identity("b", &second);
    changed.policy.withholds_payload = true;
    let replacement = access.replace(AccessConfig {
        principals: vec![identity("a", &first), changed, identity("d", &token())],
        anonymous: Some(Policy::default()),
    });
    assert_eq!(
        replacement,
        Replacement {
            added: vec!["d".to_owned()],
            changed: vec!["b".to_owned()],
            removed: vec!["c".to_owned()],
        }
    );
    assert_eq!(a.revocation(), None);
    assert_eq!(b.revocation(), Some(Revocation::Changed));
    assert_eq!(c.revocation(), Some(Revocation::Removed));
    assert_eq!(anonymous_caller.revocation(), None);
    assert_eq!(
        access.authenticate(with_token(third.secret())).err(),
        Some(AuthError::Token)
    );
    access.replace(AccessConfig::default());
    assert_eq!(a.revocation(), Some(Revocation::Removed));
    assert_eq!(anonymous_caller.revocation(), Some(Revocation::Removed));
    assert!(access.authenticate(Credentials::default()).is_err());
}

#[test]
fn a_hash_round_trips_and_a_token_is_refused_as_a_hash() {
    let token = token();
    assert_eq!(token.hash().to_string().parse(), Ok(token.hash()));
    assert_eq!(
        token.secret().parse::<TokenHash>(),
        Err(InvalidHash::IsToken)
    );
    for invalid in [
        "",
        "sha256:",
        "sha256:+1",
        &"0".repeat(64),
        &format!("sha256:{}", "é".repeat(32)),
    ] {
        assert_eq!(
            invalid.parse::<TokenHash>(),
            Err(InvalidHash::Malformed),
            "{invalid}"
        );
    }
    assert!(!format!("{token:?} {:?}", token.hash()).contains(&token.hash().to_string()[7..]));
}

fn pattern() -> impl Strategy<Value = TypePattern> {
    ("[ab]{0,3}", any::<bool>()).prop_map(|(text, is_exact)| {
        if is_exact {
            TypePattern::Exact(text)
        } else {
            TypePattern::Prefix(text)
        }
    })
}

proptest! {
    /// What is said of patterns holds for every type that they match.
    #[test]
    fn a_scope_allows_of_a_pattern_exactly_the_types_that_it_allows(
        types in prop::collection::btree_set(pattern(), 0..3),
        exclude_types in prop::collection::btree_set(pattern(), 0..3),
        asked in pattern(),
    ) {
        let scope = Scope { types, exclude_types, sources: BTreeSet::default() };
        let part = scope.allowed_part(&asked);
        let mut all_types = vec![String::new()];
        for length in 0..4 {
            for index in 0..all_types.len() {
                if all_types[index].len() == length {
                    let longer = ["a", "b"].map(|letter| format!("{}{letter}", all_types[index]));
                    all_types.extend(longer);
                }
            }
        }
        let asked_types = all_types.iter().filter(|name| asked.matches(name));
        for name in asked_types {
            let is_part = part.iter().any(|pattern| pattern.matches(name))
                && !scope.exclude_types.iter().any(|pattern| pattern.matches(name));
            prop_assert_eq!(is_part, scope.allows_type(name), "{}", name);
            if scope.allows_all_of(&asked) {
                prop_assert!(scope.allows_type(name));
            }
        }
    }
}
