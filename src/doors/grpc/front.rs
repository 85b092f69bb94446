//! The front of every service: who calls, how long its call may live, and a trace of
//! what is refused.

use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};

use super::calls::{Call, Calls, ConnectionCalls, Kind};
use super::exposure::{ExposedService, Exposure};
use super::path::{HEALTH_WATCH, REFLECTION, REFLECTION_ALPHA};
use super::refusal::Refusals;
use super::{auth, status, traced};
use crate::access::Guard;
use crate::api::Problem;
use crate::proto::method::{event_service, subscription_service};
use crate::telemetry::traces::Traces;

/// Health watches, and reflection in both versions.
const SIDE_STREAMS: [&str; 3] = [HEALTH_WATCH, REFLECTION, REFLECTION_ALPHA];

/// Puts services behind it; clones share what they know.
#[derive(Clone, Debug)]
pub(super) struct Front {
    pub(super) guard: Guard,
    pub(super) calls: Calls,
    pub(super) refusals: Refusals,
    pub(super) traces: Traces,
}

impl Front {
    /// Has `service` answer a request, if its exposure admits the caller. Where that is
    /// authenticated, the caller's principal is among the extensions of the request.
    ///
    /// The call is open when this returns, before anything is awaited: its connection's
    /// executor finds it there.
    pub(super) fn serve(
        &self,
        service: &ExposedService,
        mut request: Request<Body>,
        connection: &ConnectionCalls,
    ) -> BoxFuture<'static, Response<Body>> {
        let refusals = self.refusals.clone();
        let principal = match service.exposure {
            Exposure::Public => None,
            Exposure::Authenticated => match auth::admit(&self.guard, &mut request) {
                Ok(principal) => Some(principal),
                Err(status) => {
                    refusals.count_unknown(&status);
                    self.calls.count(request.uri().path(), status.code());
                    return Box::pin(std::future::ready(status.into_http()));
                }
            },
        };
        let known = principal.as_ref();
        let trace = known.map(|known| traced::begin(&self.traces, &request, known));
        let trace = trace.unwrap_or_default();
        let method = request.uri().path().to_owned();
        let kind = kind(&method);
        let caller = principal.clone();
        let call = Call::open(&self.calls, connection, caller, kind, &method, trace);
        let service = service.clone();
        Box::pin(async move {
            let asked = OnceLock::new();
            let peer = auth::peer(request.extensions());
            let answer = Arc::clone(&call).answer(request, &asked, &service);
            let response = answer.await.unwrap_or_else(Status::into_http);
            let status = Status::from_header_map(response.headers());
            if let Some(status) = &status {
                call.note_end(status.code());
            }
            if let (Some(status), Some(principal)) = (status, &principal)
                && status.code() != Code::Ok
            {
                let asked = asked.get().map_or(&[][..], |asked| asked);
                refusals.note(principal, &peer, &method, &status, asked);
            }
            response
        })
    }

    /// For a path that names no service. A known caller leaves a trace of it, such as one
    /// that was built for another version.
    pub(super) fn refuse_unknown(&self, request: &Request<Body>) -> Response<Body> {
        let status = status::render(Problem::no_such_method());
        self.calls.count(request.uri().path(), status.code());
        if let Ok(principal) = auth::authenticate(&self.guard, request) {
            let peer = auth::peer(request.extensions());
            let method = request.uri().path();
            self.refusals.note(&principal, &peer, method, &status, &[]);
        }
        status.into_http()
    }
}

fn kind(path: &str) -> Kind {
    if [event_service::SUBSCRIBE, subscription_service::RECEIVE].contains(&path) {
        Kind::Subscriber
    } else if SIDE_STREAMS.contains(&path) {
        Kind::Side
    } else {
        Kind::Unary
    }
}
