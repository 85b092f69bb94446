//! Subscriptions: created, changed, moved and deleted; received from and acknowledged; and their
//! dead letters.

mod delivery;
mod message;
mod problem;
mod request;

use prost::Message as _;

use super::filter::{self, spec};
use super::problem::Problem;
use super::service::{Api, Call, FIELD_BYTES};
use crate::access::audit::{self, Managed};
use crate::event::numbers::saturating;
use crate::fanout::event_message;
use crate::filter::AskedFilter;
use crate::proto;
use crate::subscriptions::{Error, LetterPage, Overview, Receive, Resolution};

pub use delivery::DeliveryStream;
#[cfg(test)]
pub(super) use request::{refusal_of_creation, refusal_of_update};
pub(super) use request::{refuse_create, refuse_update};

/// A page of dead letters ends before it reaches this, and a list of subscriptions abridges
/// further filters. Many clients take no answer above 4 MiB.
const ANSWER_BYTES_MAX: usize = 3 << 20;

impl Api {
    /// Creates a subscription.
    ///
    /// # Errors
    /// When the request is wrong or not allowed, another subscription has the name, or there are
    /// as many as may be.
    pub async fn create_subscription(
        &self,
        call: &Call,
        asked: proto::CreateSubscriptionRequest,
    ) -> Result<proto::CreateSubscriptionResponse, Problem> {
        let principal = &call.principal;
        let known = self.fanout.known_names();
        let creation = request::create(asked, (&known, &principal.policy().scope))?;
        let filter = AskedFilter::new(&creation.settings.filter);
        let request::Creation {
            name,
            settings,
            start,
        } = creation;
        let created = self
            .subscriptions
            .create(principal, &name, settings, start)
            .await;
        let (overview, is_new) =
            created.map_err(|error| self.refusal_of_write(&call.principal, error))?;
        let created = Managed::Created {
            filter: &filter,
            start: &start,
            is_new,
        };
        audit_of(call, name.as_str(), created);
        Ok(proto::CreateSubscriptionResponse {
            subscription: Some(message::subscription(overview)),
        })
    }

    /// Changes settings.
    ///
    /// # Errors
    /// When the request is wrong or not allowed, or the caller sees no such subscription.
    pub async fn update_subscription(
        &self,
        call: &Call,
        asked: proto::UpdateSubscriptionRequest,
    ) -> Result<proto::UpdateSubscriptionResponse, Problem> {
        let principal = &call.principal;
        let known = self.fanout.known_names();
        let (name, settings) = request::update(asked, (&known, &principal.policy().scope))?;
        let updated = self.subscriptions.update(principal, &name, &settings).await;
        let overview = updated.map_err(|error| self.refusal_of_write(&call.principal, error))?;
        let filter = settings.filter.as_ref().map(AskedFilter::new);
        let updated = Managed::Updated {
            filter: filter.as_ref(),
            paused: overview.definition.settings.paused,
        };
        audit_of(call, name.as_str(), updated);
        Ok(proto::UpdateSubscriptionResponse {
            subscription: Some(message::subscription(overview)),
        })
    }

    /// Deletes a subscription.
    ///
    /// # Errors
    /// When the caller sees no such subscription.
    pub async fn delete_subscription(
        &self,
        call: &Call,
        asked: &proto::DeleteSubscriptionRequest,
    ) -> Result<proto::DeleteSubscriptionResponse, Problem> {
        let name = request::name("name", &asked.name)?;
        let deleted = self.subscriptions.delete(&call.principal, &name).await;
        deleted.map_err(|error| self.refusal_of_write(&call.principal, error))?;
        audit_of(call, name.as_str(), Managed::Deleted);
        Ok(proto::DeleteSubscriptionResponse {})
    }

    /// Lists the subscriptions that the caller sees.
    ///
    /// # Errors
    /// When the caller sees none with one of the names.
    pub async fn list_subscriptions(
        &self,
        call: &Call,
        asked: &proto::ListSubscriptionsRequest,
    ) -> Result<proto::ListSubscriptionsResponse, Problem> {
        let names = request::list(asked)?;
        let listed = self.subscriptions.list(&call.principal, &names).await;
        let overviews = listed.map_err(|error| self.refusal(&call.principal, &error))?;
        Ok(listing(overviews))
    }

    /// Moves a subscription to another place in the log.
    ///
    /// # Errors
    /// When the request is wrong, the place cannot be honored, or the caller sees no such
    /// subscription.
    pub async fn seek_subscription(
        &self,
        call: &Call,
        asked: &proto::SeekSubscriptionRequest,
    ) -> Result<proto::SeekSubscriptionResponse, Problem> {
        let (name, to) = request::seek(asked)?;
        let sought = self.subscriptions.seek(&call.principal, &name, to).await;
        let overview = sought.map_err(|error| self.refusal_of_write(&call.principal, error))?;
        audit_of(call, name.as_str(), Managed::Sought { to: &to });
        Ok(proto::SeekSubscriptionResponse {
            subscription: Some(message::subscription(overview)),
        })
    }

    /// Opens a stream of deliveries to one worker.
    ///
    /// # Errors
    /// When the request is wrong or not allowed, the caller sees no such subscription, a bound is
    /// reached, or the gateway stops.
    pub async fn receive(
        &self,
        call: &Call,
        asked: proto::ReceiveRequest,
    ) -> Result<DeliveryStream, Problem> {
        let includes_payload = asked.include_payload;
        let request::Reception {
            name,
            options,
            worker_name,
        } = request::receive(asked)?;
        let receive = Receive {
            principal: call.principal.clone(),
            peer: call.peer.clone(),
            worker_name,
            options,
            includes_payload,
        };
        let opened = self.subscriptions.receive(&name, receive).await;
        let worker = opened.map_err(|error| self.refusal(&call.principal, &error))?;
        Ok(DeliveryStream::new(
            self.clone(),
            call.principal.clone(),
            worker,
        ))
    }

    /// Records what became of deliveries.
    ///
    /// # Errors
    /// When the request is wrong or not allowed, the caller sees no such subscription, or the
    /// outcomes are not known to be durable.
    pub async fn acknowledge(
        &self,
        call: &Call,
        asked: &proto::AcknowledgeRequest,
    ) -> Result<proto::AcknowledgeResponse, Problem> {
        let (name, reports) = request::acknowledge(asked)?;
        let settled = self
            .subscriptions
            .acknowledge(&call.principal, &name, reports)
            .await;
        let lost = settled.map_err(|error| self.refusal_of_write(&call.principal, error))?;
        let lost_ack_ids = lost.into_iter().map(|ack_id| ack_id.to_text(&name));
        Ok(proto::AcknowledgeResponse {
            lost_ack_ids: lost_ack_ids.collect(),
        })
    }

    /// Lists a page of dead letters.
    ///
    /// # Errors
    /// When the request is wrong or not allowed, or the caller sees no such subscription.
    pub async fn list_dead_letters(
        &self,
        call: &Call,
        asked: &proto::ListDeadLettersRequest,
    ) -> Result<proto::ListDeadLettersResponse, Problem> {
        let (name, letters_max, after) = request::list_dead_letters(asked)?;
        let listed = self.subscriptions.list_letters(
            &call.principal,
            &name,
            after,
            letters_max,
            asked.include_payload,
        );
        let page = listed
            .await
            .map_err(|error| self.refusal(&call.principal, &error))?;
        let response =
            dead_letters(&page).map_err(|error| self.refusal(&call.principal, &error))?;
        let listed = Managed::DeadLettersListed {
            delivered: response.dead_letters.len(),
        };
        audit_of(call, name.as_str(), listed);
        Ok(response)
    }

    /// Hands dead letters out again, or drops them.
    ///
    /// # Errors
    /// When the request is wrong, the caller sees no such subscription, or it is not known to be
    /// durable.
    pub async fn resolve_dead_letters(
        &self,
        call: &Call,
        asked: proto::ResolveDeadLettersRequest,
    ) -> Result<proto::ResolveDeadLettersResponse, Problem> {
        let (name, letters, resolution) = request::resolve(asked)?;
        let resolved = self
            .subscriptions
            .resolve(&call.principal, &name, letters, resolution)
            .await;
        let count = resolved.map_err(|error| self.refusal_of_write(&call.principal, error))?;
        let action = match resolution {
            Resolution::Replay => "replay",
            Resolution::Drop => "drop",
        };
        audit_of(
            call,
            name.as_str(),
            Managed::DeadLettersResolved { action, count },
        );
        Ok(proto::ResolveDeadLettersResponse {
            count: saturating(count),
        })
    }
}

/// All subscriptions. Once their filters get large, those of the others are abridged, as in a list
/// of subscribers; listing fewer of them by name shows them whole.
fn listing(overviews: Vec<Overview>) -> proto::ListSubscriptionsResponse {
    let mut response = proto::ListSubscriptionsResponse::default();
    let mut bytes = 0;
    for overview in overviews {
        let abridged = AskedFilter::new(&overview.definition.settings.filter);
        let mut subscription = message::subscription(overview);
        let size = subscription.encoded_len() + FIELD_BYTES;
        if bytes + size > ANSWER_BYTES_MAX {
            subscription.filter = Some(filter::message(abridged.filter().clone()));
            bytes += subscription.encoded_len() + FIELD_BYTES;
        } else {
            bytes += size;
        }
        response.subscriptions.push(subscription);
    }
    response
}

/// A page of dead letters, which ends where it gets large.
fn dead_letters(page: &LetterPage) -> Result<proto::ListDeadLettersResponse, Error> {
    let mut response = proto::ListDeadLettersResponse::default();
    let mut bytes = 0;
    let mut last = None;
    for letter in &page.letters {
        let event = event_message(letter.record.view(), &page.view)?;
        let letter_message = message::dead_letter(letter, event);
        bytes += letter_message.encoded_len() + FIELD_BYTES;
        if let (true, Some(last)) = (bytes > ANSWER_BYTES_MAX, last) {
            response.next_page_token = message::page_token(last);
            return Ok(response);
        }
        response.dead_letters.push(letter_message);
        last = Some(letter.record.position);
    }
    response.next_page_token = page.next.map(message::page_token).unwrap_or_default();
    Ok(response)
}

fn audit_of(call: &Call, subscription: &str, managed: Managed<'_>) {
    audit::managed(call.principal.name(), &call.peer, subscription, managed);
}

/// What of a request to create a subscription is shown in log lines.
#[must_use]
pub fn shown_creation(subscription: Option<proto::Subscription>) -> String {
    let subscription = subscription.unwrap_or_default();
    let filter = AskedFilter::new(&spec(subscription.filter));
    let name = filter::shown_word(&subscription.name);
    format!("name={name} {filter}")
}
