//! The unary calls.

use tonic::{Request, Response, Status};

use super::{request, status};
use crate::clerk::catalogue;
use crate::fanout::{Fanout, State, SubscriberView};
use crate::proto;
use crate::proto::server::event_service_server::EventService;

/// The unary calls of `EventService`, on top of the fan-out.
#[derive(Clone, Debug)]
pub struct Service {
    fanout: Fanout,
}

impl Service {
    /// The service for `fanout`'s log.
    #[must_use]
    pub fn new(fanout: Fanout) -> Self {
        Self { fanout }
    }

    fn subscriber(&self, view: SubscriberView) -> proto::Subscriber {
        let state = match view.state {
            State::CatchingUp => proto::SubscriberState::CatchingUp,
            State::Live => proto::SubscriberState::Live,
        };
        proto::Subscriber {
            name: view.name,
            peer: view.peer,
            filter: Some(view.filter),
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
        let known = self.fanout.known_names();
        let listing = request::list(request.get_ref(), &known).map_err(status::invalid)?;
        let listed = self.fanout.list(listing).await;
        let listed = listed.map_err(|error| status::from_fanout(&error))?;
        let cursor = listed.cursor.to_string();
        Ok(Response::new(proto::ListEventsResponse {
            events: listed.events,
            next_page_token: if listed.has_more {
                cursor.clone()
            } else {
                String::new()
            },
            cursor,
        }))
    }

    async fn get_event(
        &self,
        request: Request<proto::GetEventRequest>,
    ) -> Result<Response<proto::GetEventResponse>, Status> {
        let proto::GetEventRequest {
            id,
            source,
            include_payload,
        } = request.into_inner();
        if id.is_empty() {
            return Err(status::invalid(vec![crate::fanout::Violation {
                field: "id".to_owned(),
                description: "empty; pass the event's svix-id, msg_…".to_owned(),
            }]));
        }
        let source = Some(source).filter(|source| !source.is_empty());
        let payload = request::payload(include_payload);
        let found = self.fanout.find(id.clone(), source, payload).await;
        let found = found.map_err(|error| status::from_fanout(&error))?;
        let (event, cursor) = found.ok_or_else(|| status::no_such_event(&id))?;
        Ok(Response::new(proto::GetEventResponse {
            event: Some(event),
            cursor: cursor.to_string(),
        }))
    }

    async fn get_log_info(
        &self,
        _request: Request<proto::GetLogInfoRequest>,
    ) -> Result<Response<proto::GetLogInfoResponse>, Status> {
        let described = self.fanout.log().describe().await;
        let log = described.map_err(|error| status::from_fanout(&error.into()))?;
        let (oldest, newest) = self.fanout.ends();
        Ok(Response::new(proto::GetLogInfoResponse {
            oldest_cursor: oldest.to_string(),
            newest_cursor: newest.to_string(),
            epoch: self.fanout.log().epoch().to_string(),
            retain_for: log.retain_for.and_then(|age| age.try_into().ok()),
            retain_bytes: saturating(log.retain_bytes.unwrap_or(0)),
            event_count: saturating(log.record_count),
            size_bytes: saturating(log.size_bytes),
            oldest_receive_time: log.oldest_receive_time.map(Into::into),
            newest_receive_time: log.newest_receive_time.map(Into::into),
        }))
    }

    async fn list_event_types(
        &self,
        _request: Request<proto::ListEventTypesRequest>,
    ) -> Result<Response<proto::ListEventTypesResponse>, Status> {
        let event_types = catalogue::with_counts(&self.fanout.log().tallies());
        Ok(Response::new(proto::ListEventTypesResponse { event_types }))
    }

    async fn list_subscribers(
        &self,
        _request: Request<proto::ListSubscribersRequest>,
    ) -> Result<Response<proto::ListSubscribersResponse>, Status> {
        let views = self.fanout.subscribers().into_iter();
        Ok(Response::new(proto::ListSubscribersResponse {
            subscribers: views.map(|view| self.subscriber(view)).collect(),
        }))
    }
}

fn saturating(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
