//! The unary calls of `SubscriptionService`, as tonic hands them over.

use tonic::{Request, Response, Status};

use super::{auth, status};
use crate::api::Api;
use crate::proto;
use crate::proto::server::subscription_service_server::SubscriptionService;

/// The unary calls of `SubscriptionService`.
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
impl SubscriptionService for Service {
    async fn create_subscription(
        &self,
        request: Request<proto::CreateSubscriptionRequest>,
    ) -> Result<Response<proto::CreateSubscriptionResponse>, Status> {
        let call = auth::call(request.extensions())?;
        let asked = request.into_inner();
        let answer = self.api.create_subscription(&call, asked).await;
        answer.map(Response::new).map_err(status::render)
    }

    async fn update_subscription(
        &self,
        request: Request<proto::UpdateSubscriptionRequest>,
    ) -> Result<Response<proto::UpdateSubscriptionResponse>, Status> {
        let call = auth::call(request.extensions())?;
        let asked = request.into_inner();
        let answer = self.api.update_subscription(&call, asked).await;
        answer.map(Response::new).map_err(status::render)
    }

    async fn delete_subscription(
        &self,
        request: Request<proto::DeleteSubscriptionRequest>,
    ) -> Result<Response<proto::DeleteSubscriptionResponse>, Status> {
        let call = auth::call(request.extensions())?;
        let answer = self.api.delete_subscription(&call, request.get_ref()).await;
        answer.map(Response::new).map_err(status::render)
    }

    async fn list_subscriptions(
        &self,
        request: Request<proto::ListSubscriptionsRequest>,
    ) -> Result<Response<proto::ListSubscriptionsResponse>, Status> {
        let call = auth::call(request.extensions())?;
        let answer = self.api.list_subscriptions(&call, request.get_ref()).await;
        answer.map(Response::new).map_err(status::render)
    }

    async fn seek_subscription(
        &self,
        request: Request<proto::SeekSubscriptionRequest>,
    ) -> Result<Response<proto::SeekSubscriptionResponse>, Status> {
        let call = auth::call(request.extensions())?;
        let answer = self.api.seek_subscription(&call, request.get_ref()).await;
        answer.map(Response::new).map_err(status::render)
    }

    async fn acknowledge(
        &self,
        request: Request<proto::AcknowledgeRequest>,
    ) -> Result<Response<proto::AcknowledgeResponse>, Status> {
        let call = auth::call(request.extensions())?;
        let answer = self.api.acknowledge(&call, request.get_ref()).await;
        answer.map(Response::new).map_err(status::render)
    }

    async fn list_dead_letters(
        &self,
        request: Request<proto::ListDeadLettersRequest>,
    ) -> Result<Response<proto::ListDeadLettersResponse>, Status> {
        let call = auth::call(request.extensions())?;
        let answer = self.api.list_dead_letters(&call, request.get_ref()).await;
        answer.map(Response::new).map_err(status::render)
    }

    async fn resolve_dead_letters(
        &self,
        request: Request<proto::ResolveDeadLettersRequest>,
    ) -> Result<Response<proto::ResolveDeadLettersResponse>, Status> {
        let call = auth::call(request.extensions())?;
        let asked = request.into_inner();
        let answer = self.api.resolve_dead_letters(&call, asked).await;
        answer.map(Response::new).map_err(status::render)
    }
}
