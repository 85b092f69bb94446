//! The baseline of streaming: a tonic service that sends pre-encoded bytes from a
//! broadcast channel, and nothing else.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

pub(crate) const PATH: &str = "/bench.Bare/Stream";
/// Streams frames that are in memory, as many as the service was made with.
pub(crate) const REPLAY_PATH: &str = "/bench.Bare/Replay";

/// Bytes in, bytes out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(item.len());
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = source.remaining();
        Ok(Some(source.copy_to_bytes(length)))
    }
}

#[derive(Clone)]
pub(crate) struct BareService {
    frames: broadcast::Sender<Bytes>,
    replayed: usize,
}

impl BareService {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            frames: broadcast::Sender::new(capacity),
            replayed: 0,
        }
    }

    /// One that replays so many frames.
    pub(crate) fn replaying(frames: usize) -> Self {
        Self {
            replayed: frames,
            ..Self::new(1)
        }
    }

    pub(crate) fn publish(&self, frame: Bytes) {
        let _nobody = self.frames.send(frame);
    }
}

impl NamedService for BareService {
    const NAME: &'static str = "bench.Bare";
}

impl tower_service::Service<http::Request<Body>> for BareService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let handler = if request.uri().path() == REPLAY_PATH {
            Handler::Replay(self.replayed)
        } else {
            Handler::Live(self.frames.clone())
        };
        Box::pin(async move {
            let mut grpc = Grpc::new(RawCodec);
            Ok(grpc.server_streaming(handler, request).await)
        })
    }
}

enum Handler {
    Live(broadcast::Sender<Bytes>),
    Replay(usize),
}

impl ServerStreamingService<Bytes> for Handler {
    type Response = Bytes;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        // Tells the client that it is subscribed.
        let hello = stream::iter([Ok(Bytes::from_static(b"hello"))]);
        let frames: Self::ResponseStream = match self {
            Self::Live(frames) => {
                let frames = BroadcastStream::new(frames.subscribe());
                let frames = frames
                    .map(|frame| frame.map_err(|lagged| Status::data_loss(lagged.to_string())));
                Box::pin(hello.chain(frames))
            }
            Self::Replay(count) => {
                let frame = frame(1_500);
                let frames = stream::iter((0..*count).map(move |_| Ok(frame.clone())));
                Box::pin(hello.chain(frames).chain(stream::pending()))
            }
        };
        Box::pin(std::future::ready(Ok(Response::new(frames))))
    }
}

pub(crate) fn frame(bytes: usize) -> Bytes {
    Bytes::from(vec![b'x'; bytes])
}

pub(crate) async fn serve(listener: TcpListener, service: BareService) {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let served = Server::builder()
        .add_service(service)
        .serve_with_incoming(incoming)
        .await;
    served.expect("serves");
}
