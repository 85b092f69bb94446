//! The unary calls.

use prost::Message as _;
use tonic::{Request, Response, Status};

use super::guard::{caller, peer};
use super::{request, status};
use crate::access::{Principal, audit};
use crate::api;
use crate::event::UnixMillis;
use crate::fanout::{Error, Fanout, State, SubscriberPage, SubscriberView};
use crate::filter::{AskedFilter, Scope};
use crate::log::{ReadError, Tally};
use crate::proto;
use crate::proto::server::event_service_server::EventService;

/// A page of subscribers ends before it reaches this.
const SUBSCRIBERS_BYTES_MAX: usize = 1 << 20;
/// Of event types; many clients take no answer above 4 MiB.
const ANSWER_BYTES_MAX: usize = 3 << 20;
/// A field's key and length, which come with each element.
const FIELD_BYTES: usize = 4;

/// The unary calls of `EventService`, on top of the fan-out.
#[derive(Clone, Debug)]
pub(super) struct Service {
    fanout: Fanout,
}

impl Service {
    /// The service for `fanout`'s log.
    pub(super) fn new(fanout: Fanout) -> Self {
        Self { fanout }
    }

    fn status_of(&self, error: &Error, principal: &Principal) -> Status {
        match error {
            Error::Log(ReadError::TooManySearches { limit }) => {
                status::too_many_calls(principal.name(), *limit, self.fanout.streams())
            }
            _ => status::from_fanout(error, self.fanout.crowd(error, principal)),
        }
    }

    /// What the log holds of what may be received.
    fn tallies(&self, scope: &Scope) -> Vec<Tally> {
        let mut tallies = self.fanout.log().tallies();
        tallies.retain(|tally| {
            scope.allows_source(&tally.source) && scope.allows_type(&tally.event_type)
        });
        tallies
    }

    fn subscriber(&self, view: SubscriberView) -> proto::Subscriber {
        let state = match view.state {
            State::CatchingUp => proto::SubscriberState::CatchingUp,
            State::Live => proto::SubscriberState::Live,
        };
        proto::Subscriber {
            name: view.name,
            principal: view.principal,
            peer: view.peer,
            filter: Some(api::filter::message(view.filter)),
            state: state.into(),
            lag: Some(view.lag.into()),
            cursor: self.fanout.cursor_at(view.position).to_string(),
            delivered_count: saturating(view.delivered),
            connect_time: Some(view.connect_time.into()),
        }
    }
}

#[tonic::async_trait]
impl EventService for Service {
    async fn list_events(
        &self,
        request: Request<proto::ListEventsRequest>,
    ) -> Result<Response<proto::ListEventsResponse>, Status> {
        let principal = caller(&request)?;
        let known = self.fanout.known_names();
        let listing = request::list(request.get_ref(), &known, &principal);
        let (listing, narrowed) = listing.map_err(status::refused)?;
        let listed = self.fanout.list(listing).await;
        let listed = listed.map_err(|error| self.status_of(&error, &principal))?;
        let peer = peer(request.extensions());
        let asked = AskedFilter::new(api::filter::spec(request.into_inner().filter));
        audit::listed(principal.name(), &peer, &asked, listed.events.len());
        let cursor = listed.cursor.to_string();
        Ok(Response::new(proto::ListEventsResponse {
            events: listed.events,
            next_page_token: if listed.has_more {
                cursor.clone()
            } else {
                String::new()
            },
            cursor,
            narrowed: narrowed.map(api::narrowed::message),
        }))
    }

    async fn get_event(
        &self,
        request: Request<proto::GetEventRequest>,
    ) -> Result<Response<proto::GetEventResponse>, Status> {
        let principal = caller(&request)?;
        let peer = peer(request.extensions());
        request::get(request.get_ref()).map_err(status::refused)?;
        let proto::GetEventRequest {
            id,
            source,
            include_payload,
        } = request.into_inner();
        let source = Some(source).filter(|source| !source.is_empty());
        let view = request::view(&principal, include_payload).map_err(status::refused)?;
        let scope = &principal.policy().scope;
        let found = self.fanout.find(id.clone(), source, scope, &view).await;
        let found = found.map_err(|error| self.status_of(&error, &principal))?;
        audit::got(principal.name(), &peer, &id, found.is_some());
        let (event, cursor) = found.ok_or_else(|| status::no_such_event(&id))?;
        Ok(Response::new(proto::GetEventResponse {
            narrowed: request::removed_of(&event.r#type, &view).map(api::narrowed::message),
            event: Some(event),
            cursor: cursor.to_string(),
        }))
    }

    async fn get_log_info(
        &self,
        request: Request<proto::GetLogInfoRequest>,
    ) -> Result<Response<proto::GetLogInfoResponse>, Status> {
        let principal = caller(&request)?;
        let scope = &principal.policy().scope;
        let described = self.fanout.log().describe().await;
        let log = described.map_err(|error| self.status_of(&error.into(), &principal))?;
        let (oldest, newest) = self.fanout.ends();
        let all = |_: &UnixMillis| scope.is_everything();
        Ok(Response::new(proto::GetLogInfoResponse {
            oldest_cursor: oldest.to_string(),
            newest_cursor: newest.to_string(),
            epoch: self.fanout.log().epoch().to_string(),
            retain_for: log.retain_for.and_then(|age| age.try_into().ok()),
            retain_bytes: saturating(log.retain_bytes.unwrap_or(0)),
            event_count: saturating(if scope.is_everything() {
                log.record_count
            } else {
                self.tallies(scope).iter().map(|tally| tally.count).sum()
            }),
            size_bytes: if scope.is_everything() {
                saturating(log.size_bytes)
            } else {
                0
            },
            oldest_receive_time: log.oldest_receive_time.filter(all).map(Into::into),
            newest_receive_time: log.newest_receive_time.filter(all).map(Into::into),
        }))
    }

    async fn list_event_types(
        &self,
        request: Request<proto::ListEventTypesRequest>,
    ) -> Result<Response<proto::ListEventTypesResponse>, Status> {
        let principal = caller(&request)?;
        let scope = &principal.policy().scope;
        let mut event_types = api::event_types::with_counts(&self.tallies(scope));
        event_types.retain(|described| scope.allows_type(&described.name));
        // The catalog's come first; the log may know more than fit an answer.
        let mut bytes = 0;
        event_types.retain(|described| {
            bytes += described.encoded_len() + FIELD_BYTES;
            bytes <= ANSWER_BYTES_MAX
        });
        Ok(Response::new(proto::ListEventTypesResponse { event_types }))
    }

    async fn list_subscribers(
        &self,
        request: Request<proto::ListSubscribersRequest>,
    ) -> Result<Response<proto::ListSubscribersResponse>, Status> {
        let principal = caller(&request)?;
        let asked = request::list_subscribers(request.get_ref());
        let (most, after) = asked.map_err(status::refused)?;
        let sees_all = principal.policy().sees_all_subscribers;
        // One more than fits, to see whether there is one.
        let views = self.fanout.list_subscribers(&SubscriberPage {
            after,
            principal: (!sees_all).then_some(principal.name()),
            most: most + 1,
        });
        let has_more = views.len() > most;
        let mut response = proto::ListSubscribersResponse::default();
        let mut bytes = 0;
        let mut last = None;
        for view in views.into_iter().take(most) {
            let number = view.number;
            let subscriber = self.subscriber(view);
            bytes += subscriber.encoded_len() + FIELD_BYTES;
            if let (true, Some(last)) = (bytes > SUBSCRIBERS_BYTES_MAX, last) {
                response.next_page_token = page_token(last);
                return Ok(Response::new(response));
            }
            response.subscribers.push(subscriber);
            last = Some(number);
        }
        if let (true, Some(last)) = (has_more, last) {
            response.next_page_token = page_token(last);
        }
        Ok(Response::new(response))
    }
}

/// Names the last subscriber of a page.
fn page_token(number: u64) -> String {
    number.to_string()
}

fn saturating(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
