//! The trace of a call, from its head to the end of its answer.

use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::access::{ANONYMOUS, Principal};
use crate::proto::{DESCRIPTORS, PACKAGE};
use crate::telemetry::traces::{Attribute, Trace, Traces};

/// The names of the calls that are traced. A path is a caller's word, and the names of traces
/// are bounded.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let own = DESCRIPTORS
        .services()
        .filter(|service| service.package_name() == PACKAGE);
    own.flat_map(|service| {
        let methods: Vec<String> = service
            .methods()
            .map(|method| format!("{}/{}", service.full_name(), method.name()))
            .collect();
        methods
    })
    .collect()
});

/// The trace of one call, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct CallTrace {
    trace: Trace,
    code: Code,
}

impl CallTrace {
    /// Begins the trace of a call that was admitted; none if traces are off, or the path names
    /// no call of this gateway. A caller without credentials is not known, and names no parent.
    pub(super) fn begin(
        traces: &Traces,
        request: &Request<Body>,
        principal: &Principal,
    ) -> Option<Self> {
        if !traces.are_on() {
            return None;
        }
        let path = request.uri().path().strip_prefix('/')?;
        let name = NAMES.iter().find(|name| *name == path)?;
        let mut trace = traces.begin(name.as_str());
        if principal.name() != ANONYMOUS {
            trace.trust(request.headers());
        }
        trace.set(Attribute::Principal(principal.name()));
        Some(Self {
            trace,
            // Of a call that its caller gives up.
            code: Code::Cancelled,
        })
    }

    /// The response, with whose end the trace ends.
    pub(super) fn end_with(mut self, response: Response<Body>) -> Response<Body> {
        match Status::from_header_map(response.headers()) {
            Some(status) => {
                self.code = status.code();
                response
            }
            None => response.map(|body| {
                Body::new(TracedBody {
                    body,
                    trace: Some(self),
                })
            }),
        }
    }
}

impl Drop for CallTrace {
    fn drop(&mut self) {
        self.trace.set(Attribute::GrpcStatus(self.code.into()));
    }
}

/// The body of an answer, whose trailers end the trace.
struct TracedBody {
    body: Body,
    trace: Option<CallTrace>,
}

impl HttpBody for TracedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let traced = self.get_mut();
        let polled = Pin::new(&mut traced.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
            && let Some(mut trace) = traced.trace.take()
        {
            let status = Status::from_header_map(trailers);
            trace.code = status.map_or(Code::Unknown, |status| status.code());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
