//! The unary calls, as tonic hands them over.

use tonic::{Request, Response, Status};

use super::{auth, status};
use crate::api::Api;
use crate::proto;
use crate::proto::server::event_service_server::EventService;

/// The unary calls of `EventService`.
#[derive(Clone, Debug)]
pub(super) struct Service {
    api: Api,
}

impl Service {
    pub(super) fn new(api: Api) -> Self {
        Self { api }
    }
}

#[tonic::async_trait]
impl EventService for Service {
    async fn list_events(
        &self,
        request: Request<proto::ListEventsRequest>,
    ) -> Result<Response<proto::ListEventsResponse>, Status> {
        let call = auth::call(request.extensions())?;
        let answer = self.api.list_events(&call, request.into_inner()).await;
        answer.map(Response::new).map_err(status::render)
    }

    async fn get_event(
        &self,
        request: Request<proto::GetEventRequest>,
    ) -> Result<Response<proto::GetEventResponse>, Status> {
        let call = auth::call(request.extensions())?;
        let answer = self.api.get_event(&call, request.into_inner()).await;
        answer.map(Response::new).map_err(status::render)
    }

    async fn get_log_info(
        &self,
        request: Request<proto::GetLogInfoRequest>,
    ) -> Result<Response<proto::GetLogInfoResponse>, Status> {
        let call = auth::call(request.extensions())?;
        let answer = self.api.get_log_info(&call, request.into_inner()).await;
        answer.map(Response::new).map_err(status::render)
    }

    async fn list_event_types(
        &self,
        request: Request<proto::ListEventTypesRequest>,
    ) -> Result<Response<proto::ListEventTypesResponse>, Status> {
        let call = auth::call(request.extensions())?;
        let answer = self.api.list_event_types(&call, request.into_inner());
        Ok(Response::new(answer))
    }

    async fn list_subscribers(
        &self,
        request: Request<proto::ListSubscribersRequest>,
    ) -> Result<Response<proto::ListSubscribersResponse>, Status> {
        let call = auth::call(request.extensions())?;
        let answer = self.api.list_subscribers(&call, request.get_ref());
        answer.map(Response::new).map_err(status::render)
    }
}
