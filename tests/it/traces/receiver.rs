//! A receiver of traces, which can hang and can go away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::harness::eventually;

/// A receiver in this process, with a runtime of its own, so that its connections end with it.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    taken: Arc<Taken>,
    runtime: Option<Runtime>,
}

/// What it has received.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) spans: Mutex<Vec<Span>>,
    pub(crate) resource: Mutex<BTreeMap<String, String>>,
    pub(crate) metadata: Mutex<Vec<MetadataMap>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Answers,
    Hangs,
}

struct Service {
    taken: Arc<Taken>,
    manner: Manner,
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.taken.metadata.lock().push(request.metadata().clone());
        if self.manner == Manner::Hangs {
            return std::future::pending().await;
        }
        for of_resource in request.into_inner().resource_spans {
            if let Some(resource) = of_resource.resource {
                *self.taken.resource.lock() = texts(&resource.attributes);
            }
            let of_scopes = of_resource.scope_spans.into_iter();
            let spans = of_scopes.flat_map(|scope| scope.spans);
            self.taken.spans.lock().extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Receiver {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0", Manner::Answers, None)
    }

    /// Takes requests, and answers none.
    pub(crate) fn start_hanging() -> Self {
        Self::start_at("127.0.0.1:0", Manner::Hangs, None)
    }

    pub(crate) fn start_with_tls((certificate, key): (String, String)) -> Self {
        let identity = Identity::from_pem(certificate, key);
        Self::start_at("127.0.0.1:0", Manner::Answers, Some(identity))
    }

    fn start_at(address: &str, manner: Manner, identity: Option<Identity>) -> Self {
        let listener = std::net::TcpListener::bind(address).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        let runtime = Runtime::new().expect("a runtime");
        let taken = Arc::<Taken>::default();
        let service = Service {
            taken: Arc::clone(&taken),
            manner,
        };
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a socket");
            let mut server = Server::builder();
            if let Some(identity) = identity {
                let tls = ServerTlsConfig::new().identity(identity);
                server = server.tls_config(tls).expect("a certificate");
            }
            let service = TraceServiceServer::new(service);
            let serving = server
                .add_service(service.accept_compressed(CompressionEncoding::Gzip))
                .serve_with_incoming(TcpListenerStream::new(listener));
            serving.await.expect("it serves");
        });
        Self {
            address,
            taken,
            runtime: Some(runtime),
        }
    }

    /// Another one in its place.
    pub(crate) fn restarted(mut self) -> Self {
        self.stop();
        Self::start_at(&self.address.to_string(), Manner::Answers, None)
    }

    /// Closes its port and its connections.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn taken(&self) -> &Taken {
        &self.taken
    }

    /// Waits until this many spans are here, and takes them, in the order in which they arrived.
    pub(crate) async fn spans(&self, count: usize) -> Vec<Span> {
        eventually("the spans arrive", || async {
            self.taken.spans.lock().len() >= count
        })
        .await;
        let spans = std::mem::take(&mut *self.taken.spans.lock());
        assert_eq!(spans.len(), count, "{spans:?}");
        spans
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Attributes as text, by name.
pub(crate) fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let pairs = attributes.iter().map(|pair| {
        let value = pair.value.as_ref().and_then(|value| value.value.as_ref());
        let text = match value {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        (pair.key.clone(), text)
    });
    pairs.collect()
}
