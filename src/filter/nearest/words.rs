//! The words of a name, and what they mean.

use super::letters::Letters;

/// What a word stands for: the first spelling of its line in one of the tables below, or
/// the word itself where no table has it.
pub(super) type Meaning = String;

/// Words looked at in one name.
const WORDS_MAX: usize = 8;
/// A word that is shorter than this is not taken for a slip of another.
const SLIP_BYTES_MIN: usize = 5;

/// What families are about.
const NOUNS: &[&[&str]] = &[
    &[
        "user",
        "users",
        "account",
        "accounts",
        "profile",
        "profiles",
        "customer",
        "customers",
        "person",
        "people",
    ],
    &["session", "sessions"],
    &[
        "organization",
        "organizations",
        "organisation",
        "organisations",
        "org",
        "orgs",
        "team",
        "teams",
        "workspace",
        "workspaces",
        "company",
        "companies",
        "tenant",
        "tenants",
    ],
    &[
        "membership",
        "memberships",
        "member",
        "members",
        "organization user",
        "org user",
        "team user",
    ],
    &["invitation", "invitations", "invite", "invites"],
    &["domain", "domains"],
    &["email", "emails", "mail", "mails"],
    &["sms", "text message", "text messages"],
    &["role", "roles"],
    &["permission", "permissions"],
    &["waitlist", "waitlists", "wait list", "waiting list"],
    &["entry", "entries"],
    &[
        "payment",
        "payments",
        "paid",
        "pay",
        "invoice",
        "invoices",
        "charge",
        "charges",
        "billing",
        "checkout",
        "transaction",
        "transactions",
    ],
    &["attempt", "attempts"],
    &[
        "subscription",
        "subscriptions",
        "subscribed",
        "plan",
        "plans",
    ],
    &["item", "items"],
    &["trial", "trials"],
];

/// What happens to it.
const ACTS: &[&[&str]] = &[
    &[
        "created", "create", "creation", "new", "add", "added", "insert", "inserted", "sent",
        "send", "started", "start",
    ],
    &[
        "updated", "update", "updates", "change", "changed", "changes", "modify", "modified",
        "edit", "edited", "patched",
    ],
    &[
        "deleted",
        "delete",
        "deletion",
        "destroy",
        "destroyed",
        "erased",
    ],
    &["removed", "remove", "removal", "left", "leave", "kicked"],
    &["revoked", "revoke", "rejected", "declined", "withdrawn"],
    &[
        "canceled",
        "cancel",
        "cancelled",
        "cancellation",
        "cancelation",
        "unsubscribed",
    ],
    &[
        "ended",
        "end",
        "ending",
        "ends",
        "expire",
        "expired",
        "expires",
        "expiring",
        "finished",
        "terminated",
        "closed",
    ],
    &["accepted", "accept", "approved", "confirmed"],
    &["joined", "join"],
    &[
        "active",
        "activate",
        "activated",
        "renew",
        "renewed",
        "renewal",
        "renews",
        "reactivated",
        "resumed",
    ],
    &["past", "due"],
];

/// What means two things at once.
const PHRASES: &[(&str, &[&str])] = &[
    ("sign in", &["session", "created"]),
    ("signed in", &["session", "created"]),
    ("signin", &["session", "created"]),
    ("log in", &["session", "created"]),
    ("logged in", &["session", "created"]),
    ("login", &["session", "created"]),
    ("sign out", &["session", "ended"]),
    ("signed out", &["session", "ended"]),
    ("signout", &["session", "ended"]),
    ("log out", &["session", "ended"]),
    ("logged out", &["session", "ended"]),
    ("logout", &["session", "ended"]),
    ("sign up", &["user", "created"]),
    ("signed up", &["user", "created"]),
    ("signup", &["user", "created"]),
    ("register", &["user", "created"]),
    ("registered", &["user", "created"]),
    ("registration", &["user", "created"]),
    ("invited", &["invitation", "created"]),
    ("past due", &["past", "due"]),
    ("pastdue", &["past", "due"]),
    ("overdue", &["past", "due"]),
    ("free trial", &["trial"]),
];

/// Acts that may stand for another, the nearest first.
const NEAREST_ACTS: &[(&str, &[&str])] = &[
    ("deleted", &["removed", "ended", "canceled", "revoked"]),
    ("removed", &["deleted", "ended", "canceled", "revoked"]),
    ("revoked", &["canceled", "deleted", "removed", "ended"]),
    ("canceled", &["revoked", "deleted", "ended", "removed"]),
    ("ended", &["deleted", "canceled", "removed", "revoked"]),
    ("joined", &["accepted", "created"]),
    ("active", &["updated"]),
];

/// The name's words, split at what is neither a letter nor a digit, and at capitals.
pub(super) fn split(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    let mut letters = name.chars().peekable();
    while let Some(letter) = letters.next() {
        let next_is_small = letters.peek().is_some_and(|next| next.is_lowercase());
        let begins = letter.is_uppercase() && (before.is_lowercase() || next_is_small);
        if begins || !letter.is_alphanumeric() {
            words.push(String::new());
        }
        if letter.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words.truncate(WORDS_MAX);
    words
}

/// What the words of a name mean, in their order.
pub(super) fn meanings(words: &[String]) -> Vec<Meaning> {
    let mut meanings = Vec::new();
    let mut rest = words;
    while let [first, others @ ..] = rest {
        if let [second, after @ ..] = others
            && let Some(both) = exactly(&format!("{first} {second}"))
        {
            meanings.extend(both);
            rest = after;
            continue;
        }
        let known = exactly(first).or_else(|| slip_of(first).map(|meaning| vec![meaning]));
        meanings.extend(known.unwrap_or_else(|| vec![first.clone()]));
        rest = others;
    }
    meanings
}

/// The acts that may be meant by `act`: itself first.
pub(super) fn nearest_acts(act: &str) -> impl Iterator<Item = &str> {
    let nearest = NEAREST_ACTS
        .iter()
        .find(|(name, _)| *name == act)
        .map_or(&[][..], |(_, nearest)| nearest);
    std::iter::once(act).chain(nearest.iter().copied())
}

fn exactly(spelling: &str) -> Option<Vec<Meaning>> {
    let phrase = PHRASES.iter().find(|(name, _)| *name == spelling);
    if let Some((_, meanings)) = phrase {
        return Some(
            meanings
                .iter()
                .map(|meaning| (*meaning).to_owned())
                .collect(),
        );
    }
    let line = lines().find(|line| line.contains(&spelling))?;
    Some(vec![meaning_of(line)])
}

/// The meaning of a word that is spelled nearly so.
fn slip_of(word: &str) -> Option<Meaning> {
    if word.len() < SLIP_BYTES_MIN {
        return None;
    }
    let letters = Letters::of(word)?;
    let spellings = lines().flat_map(|line| line.iter().map(move |spelling| (line, spelling)));
    let long = spellings.filter(|(_, spelling)| spelling.len() >= SLIP_BYTES_MIN);
    let distances = long.map(|(line, spelling)| (letters.distance(spelling), line));
    let (distance, line) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= word.len() / 4).then(|| meaning_of(line))
}

fn lines() -> impl Iterator<Item = &'static [&'static str]> {
    NOUNS.iter().chain(ACTS).copied()
}

fn meaning_of(line: &[&str]) -> Meaning {
    line.first().copied().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_into_words() {
        for (name, expected) in [
            (
                "organizationMembership.created",
                &["organization", "membership", "created"][..],
            ),
            ("USER_CREATED", &["user", "created"]),
            ("SMSMessage-sent", &["sms", "message", "sent"]),
            ("user..created", &["user", "created"]),
            ("", &[]),
        ] {
            assert_eq!(split(name), expected);
        }
    }
}
