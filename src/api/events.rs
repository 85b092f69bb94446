//! Events: as a stream, as a page, and by id.

use super::filter::spec;
use super::problem::Problem;
use super::service::{Api, Call};
use super::{narrowed, request};
use crate::access::{Principal, audit};
use crate::fanout::{Delivery, Subscriber};
use crate::filter::AskedFilter;
use crate::proto;

/// An open stream, pulled by its connection.
#[derive(Debug)]
pub struct EventStream {
    api: Api,
    principal: Principal,
    subscriber: Subscriber,
}

impl EventStream {
    /// What comes next; nothing once the stream has ended as asked. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Delivery, Problem>> {
        let delivery = self.subscriber.next().await?;
        Some(delivery.map_err(|error| self.api.problem(&error, &self.principal)))
    }
}

impl Api {
    /// Opens a stream of events.
    ///
    /// # Errors
    /// When the request is wrong or not allowed, its cursor cannot be honored, a bound is
    /// reached, or the gateway stops.
    pub async fn subscribe(
        &self,
        call: &Call,
        asked: proto::SubscribeRequest,
    ) -> Result<EventStream, Problem> {
        let known = self.fanout.known_names();
        let principal = call.principal.clone();
        let request = request::subscribe(asked, &known, principal.clone(), call.peer.clone())?;
        let opened = self.fanout.subscribe(request).await;
        let subscriber = opened.map_err(|error| self.problem(&error, &principal))?;
        Ok(EventStream {
            api: self.clone(),
            principal,
            subscriber,
        })
    }

    /// Lists a page of events.
    ///
    /// # Errors
    /// When the request is wrong or not allowed, its cursor cannot be honored, or the log not
    /// be read.
    pub async fn list_events(
        &self,
        call: &Call,
        asked: proto::ListEventsRequest,
    ) -> Result<proto::ListEventsResponse, Problem> {
        let Call {
            principal, peer, ..
        } = call;
        let known = self.fanout.known_names();
        let (listing, narrowed) = request::list(&asked, &known, principal)?;
        let page = self
            .fanout
            .list(listing)
            .await
            .map_err(|error| self.problem(&error, principal))?;
        let filter = AskedFilter::new(&spec(asked.filter));
        audit::listed(principal.name(), peer, &filter, page.events.len());
        let cursor = page.cursor.to_string();
        Ok(proto::ListEventsResponse {
            events: page.events,
            next_page_token: if page.has_more {
                cursor.clone()
            } else {
                String::new()
            },
            cursor,
            narrowed: narrowed.map(narrowed::message),
        })
    }

    /// Looks up an event by its id.
    ///
    /// # Errors
    /// When the request is wrong or not allowed, there is no such event, or the log cannot be
    /// read.
    pub async fn get_event(
        &self,
        call: &Call,
        asked: proto::GetEventRequest,
    ) -> Result<proto::GetEventResponse, Problem> {
        let Call {
            principal, peer, ..
        } = call;
        request::get(&asked)?;
        let proto::GetEventRequest {
            id,
            source,
            include_payload,
        } = asked;
        let source = Some(source).filter(|source| !source.is_empty());
        let view = request::view(principal, include_payload)?;
        let scope = &principal.policy().scope;
        let found = self
            .fanout
            .find(id.clone(), source, scope, &view)
            .await
            .map_err(|error| self.problem(&error, principal))?;
        audit::got(principal.name(), peer, &id, found.is_some());
        let (event, cursor) = found.ok_or_else(|| Problem::no_such_event(&id))?;
        let removed = request::removed_of(&event.r#type, &view);
        Ok(proto::GetEventResponse {
            narrowed: removed.map(narrowed::message),
            event: Some(event),
            cursor: cursor.to_string(),
        })
    }
}
