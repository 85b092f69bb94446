//! A client that decides on every byte: heads without messages, windows that stay closed.

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Status;
use tonic::codegen::http::{HeaderMap, Request, Version};

use crate::harness::PATIENCE;

/// A connection of its own.
pub(crate) struct Raw {
    send: SendRequest<Bytes>,
    windows: mpsc::UnboundedSender<u32>,
    token: Option<String>,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// With a message.
    Answered(Bytes),
    Refused(Status),
    /// Its stream was reset, or its connection closed, for this reason.
    Reset(String),
}

impl Outcome {
    pub(crate) fn status(&self) -> &Status {
        match self {
            Self::Refused(status) => status,
            other => panic!("not refused: {other:?}"),
        }
    }
}

/// A call whose head has been sent.
pub(crate) struct RawCall {
    response: ResponseFuture,
    request: SendStream<Bytes>,
}

/// A call that is answered, and not read yet.
pub(crate) struct Unread {
    body: RecvStream,
}

impl Raw {
    /// Connects. `window` is how much of each answer the gateway may send.
    pub(crate) async fn connect(address: &str, token: Option<&str>, window: u32) -> Self {
        let stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("a socket");
        Self::over(stream, token, window).await
    }

    /// Speaks over any stream of bytes.
    pub(crate) async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        token: Option<&str>,
        window: u32,
    ) -> Self {
        let opening = h2::client::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(window.max(65_535))
            .handshake(stream);
        let (send, mut connection) = opening.await.expect("HTTP/2");
        let (windows, mut changes) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _closed = &mut connection => return,
                    Some(window) = changes.recv() => {
                        let _closed = connection.set_initial_window_size(window);
                    }
                }
            }
        });
        Self {
            send: send.ready().await.expect("ready"),
            windows,
            token: token.map(ToOwned::to_owned),
        }
    }

    /// Lets the gateway send this much of each answer, also of those that wait.
    pub(crate) fn open_windows(&self, window: u32) {
        // A connection that was closed has nothing to send.
        let _closed = self.windows.send(window);
    }

    /// Sends the head of a call.
    pub(crate) async fn head(&mut self, method: &str) -> RawCall {
        let mut request = Request::post(format!("http://gateway/{method}"))
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(()).expect("a request");
        let ready = self.send.clone().ready();
        let ready = timeout(PATIENCE, ready).await.expect("in time");
        self.send = ready.expect("connected");
        let (response, request) = self.send.send_request(request, false).expect("sent");
        RawCall { response, request }
    }

    /// A whole call, answered.
    pub(crate) async fn call(&mut self, method: &str, message: &impl Message) -> Outcome {
        let mut call = self.head(method).await;
        call.send(&framed(message), true);
        call.outcome().await
    }

    /// A whole call, answered and not read.
    pub(crate) async fn unread(
        &mut self,
        method: &str,
        message: &impl Message,
    ) -> Result<Unread, Outcome> {
        let mut call = self.head(method).await;
        call.send(&framed(message), true);
        call.answered().await
    }
}

impl RawCall {
    pub(crate) fn send(&mut self, bytes: &[u8], is_end: bool) {
        let bytes = Bytes::copy_from_slice(bytes);
        // A stream that was reset takes nothing, which the outcome shows.
        let _reset = self.request.send_data(bytes, is_end);
    }

    /// Waits for the head of the answer.
    pub(crate) async fn answered(self) -> Result<Unread, Outcome> {
        let response = timeout(PATIENCE, self.response).await.expect("in time");
        let response = response.map_err(|error| Outcome::Reset(error.to_string()))?;
        assert_eq!(response.status(), 200);
        match Status::from_header_map(response.headers()) {
            Some(status) => Err(Outcome::Refused(status)),
            None => Ok(Unread {
                body: response.into_body(),
            }),
        }
    }

    pub(crate) async fn outcome(self) -> Outcome {
        match self.answered().await {
            Ok(unread) => unread.read().await,
            Err(outcome) => outcome,
        }
    }
}

impl Unread {
    /// Reads what the windows let through, to its end.
    pub(crate) async fn read(mut self) -> Outcome {
        let reading = async {
            let mut message = BytesMut::new();
            while let Some(data) = self.body.data().await {
                let data = match data {
                    Ok(data) => data,
                    Err(error) => return Outcome::Reset(error.to_string()),
                };
                let _closed = self.body.flow_control().release_capacity(data.len());
                message.extend_from_slice(&data);
            }
            match self.body.trailers().await {
                Ok(trailers) => ended(&message.freeze(), &trailers.unwrap_or_default()),
                Err(error) => Outcome::Reset(error.to_string()),
            }
        };
        timeout(PATIENCE, reading).await.expect("an end in time")
    }

    /// Waits until its stream is reset.
    pub(crate) async fn reset(mut self) {
        let reset = timeout(PATIENCE, async {
            while let Some(Ok(_)) = self.body.data().await {}
        });
        reset.await.expect("a reset in time");
    }
}

fn ended(message: &Bytes, trailers: &HeaderMap) -> Outcome {
    match Status::from_header_map(trailers) {
        Some(status) if status.code() != tonic::Code::Ok => Outcome::Refused(status),
        Some(_) => Outcome::Answered(message.slice(5.min(message.len())..)),
        None => Outcome::Reset("no status".to_owned()),
    }
}

/// A message with gRPC's prefix.
pub(crate) fn framed(message: &impl Message) -> Vec<u8> {
    let mut framed = vec![0];
    framed.put_u32(u32::try_from(message.encoded_len()).expect("short"));
    message.encode(&mut framed).expect("room");
    framed
}
