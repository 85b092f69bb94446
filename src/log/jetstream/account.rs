//! The room that is left in the gateway's account. The stream's own state does not show it.

use std::time::Duration;

use async_nats::jetstream::account::{Account, Limits};
use tokio::time::timeout;

use super::shared::Shared;
use crate::log::record::Entry;

/// Maximum time for the servers to describe the account. A user without the right to ask gets no
/// answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// Size of a message beyond its record.
const OVERHEAD_BYTES: u64 = 512;
/// With more room than this, the account is not full: smaller records may fit, though one was
/// refused.
const ROOM_BYTES_MAX: u64 = 64 << 10;

/// The room that `record` needs on one server: at least as large as the servers' own count.
pub(super) fn weigh(record: &Entry) -> u64 {
    let attributes = &record.attributes;
    let names = record.id.len() + attributes.source.len() + attributes.event_type.len();
    OVERHEAD_BYTES + (record.bytes() + 2 * names) as u64
}

/// Returns why a refused record of `record_bytes` cannot be stored, if the account's limits show
/// it.
pub(super) async fn find_lack(shared: &Shared, record_bytes: u64) -> Option<String> {
    let account = timeout(ANSWERED_WITHIN, shared.context.query_account())
        .await
        .ok()?
        .ok()?;
    explain_lack(&account, shared.config.replicas as u64, record_bytes)
}

fn explain_lack(account: &Account, replicas: u64, record_bytes: u64) -> Option<String> {
    // A tier limits each copy, an account all copies together.
    let tier = account.tiers.get(&format!("R{replicas}"));
    let (limits, used, copies) = match tier {
        Some(tier) => (&tier.limits, tier.storage, replicas),
        None if account.tiers.is_empty() => (&account.limits, account.storage, 1),
        None => return None,
    };
    let limit = limit(limits)?.saturating_mul(copies);
    let needed = record_bytes.min(ROOM_BYTES_MAX).saturating_mul(replicas);
    let is_full = limit.saturating_sub(used) < needed;
    is_full.then(|| {
        format!(
            "the account of NATS has no more room: {used} of {limit} bytes are used; raise its limit for file storage, or lower --retain-bytes"
        )
    })
}

fn limit(limits: &Limits) -> Option<u64> {
    let of_account = limits.max_storage;
    let of_streams = limits.storage_max_stream_bytes.filter(|bytes| *bytes > 0);
    let least = of_account.into_iter().chain(of_streams).min()?;
    u64::try_from(least).ok()
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::account::Tier;

    use super::*;

    fn limits(max_storage: Option<i64>, of_streams: Option<i64>) -> Limits {
        Limits {
            max_storage,
            storage_max_stream_bytes: of_streams,
            ..Limits::default()
        }
    }

    fn account(limits: Limits, storage: u64) -> Account {
        Account {
            limits,
            storage,
            ..Account::default()
        }
    }

    #[test]
    fn an_account_without_room_explains_a_refusal() {
        let is_full = |limits, used, replicas, record| {
            explain_lack(&account(limits, used), replicas, record).is_some()
        };
        let million = || limits(Some(1_000_000), Some(0));
        assert!(is_full(million(), 998_000, 1, 2_001));
        assert!(!is_full(million(), 998_000, 1, 2_000));
        assert!(is_full(million(), 998_000, 3, 1_000), "of all copies");
        assert!(is_full(limits(None, Some(1_000)), 1_000, 1, 1));
        assert!(!is_full(limits(None, Some(-1)), 1_000, 1, 1));
        // Where one record is too large, smaller ones may fit.
        assert!(!is_full(million(), 900_000, 1, 3_000_000));
        let reason = explain_lack(&account(million(), 999_999), 1, 2_000).expect("it is full");
        assert!(
            reason.contains("999999 of 1000000 bytes are used"),
            "{reason}"
        );
    }

    #[test]
    fn the_limits_of_a_tier_are_of_each_copy() {
        let tier = Tier {
            storage: 2_999_000,
            limits: limits(Some(1_000_000), None),
            ..Tier::default()
        };
        let mut account = account(limits(Some(0), None), 0);
        account.tiers.insert("R3".to_owned(), tier);
        assert!(explain_lack(&account, 3, 334).is_some());
        assert!(explain_lack(&account, 3, 333).is_none());
        assert!(explain_lack(&account, 1, 334).is_none(), "no such tier");
    }
}
