//! Starts the real binary on free ports, posts signed webhooks, subscribes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clerkcast::proto;
use clerkcast::proto::event_service_client::EventServiceClient;
use clerkcast::proto::subscribe_request::Start;
use clerkcast::proto::subscribe_response::Kind;
use clerkcast::proto::{StartPosition, SubscribeRequest, SubscribeResponse};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use svix::webhooks::Webhook;
use tempfile::TempDir;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::log_file::LogFile;

pub(crate) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
pub(crate) const OTHER_SECRET: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl";
/// Nothing on a loaded machine takes so long; a test that waits longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A running gateway, killed when dropped.
pub(crate) struct Gateway {
    process: Child,
    pub(crate) http: String,
    pub(crate) grpc: String,
    pub(crate) admin: String,
    data_dir: Arc<TempDir>,
    options: Options,
    log: LogFile,
    pub(crate) poster: Poster,
}

/// How to start it.
#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
}

impl Options {
    pub(crate) fn args(args: &[&str]) -> Self {
        Self {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
        }
    }
}

/// A gateway that keeps nothing from callers without credentials, and the directory of
/// its configuration.
pub(crate) fn start_unsealed() -> (Gateway, TempDir) {
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("clerkcast.toml");
    let config = "[anonymous]\ngrant = [\"messages\", \"invitation_urls\"]\n";
    std::fs::write(&file, config).expect("written");
    let path = file.display().to_string();
    let gateway = Gateway::start_with(Options::args(&["--config", &path]));
    (gateway, directory)
}

pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clerkcast"));
    for (name, _) in std::env::vars() {
        if name.starts_with("CLERK") || name.starts_with("OTEL") {
            command.env_remove(name);
        }
    }
    command
}

impl Gateway {
    pub(crate) fn start() -> Self {
        Self::start_with(Options::default())
    }

    pub(crate) fn start_with(options: Options) -> Self {
        let data_dir = Arc::new(TempDir::new().expect("a temporary directory"));
        Self::start_in(data_dir, options)
    }

    /// Starts a gateway on a data directory, and waits until it listens.
    pub(crate) fn start_in(data_dir: Arc<TempDir>, options: Options) -> Self {
        let log = LogFile::new();
        let mut command = binary();
        command
            .args(["serve", "--log-format", "json"])
            .args(["--http-listen", "127.0.0.1:0"])
            .args(["--grpc-listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(data_dir.path())
            .args(&options.args)
            .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
            .envs(options.env.iter().cloned())
            .stdout(Stdio::null())
            .stderr(log.writer());
        let mut process = command.spawn().expect("the binary starts");
        let [http, grpc, admin] = ["webhooks", "subscribers", "operators"]
            .map(|who| log.wait_for_address(&mut process, &format!("listening for {who}")));
        Self {
            process,
            poster: Poster::new(&http),
            http,
            grpc,
            admin,
            data_dir,
            options,
            log,
        }
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.data_dir().join("clerkcast.db")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn log_text(&self) -> String {
        self.log.text()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it was started");
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.pid().to_string()])
            .status();
        assert!(status.expect("kill runs").success());
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("it was started").is_some()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().expect("it was started") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "it did not end:\n{}",
                self.log_text()
            );
            std::thread::yield_now();
        }
    }

    /// Ended gracefully; its data directory is still there.
    pub(crate) fn stopped(mut self) -> Self {
        self.signal("-TERM");
        assert_eq!(self.wait().code(), Some(0), "{}", self.log_text());
        self
    }

    /// A new process on the same data directory.
    pub(crate) fn restarted(mut self) -> Self {
        if self.process.try_wait().expect("it was started").is_none() {
            self.kill();
        }
        Self::start_in(Arc::clone(&self.data_dir), self.options.clone())
    }

    pub(crate) fn webhook_url(&self) -> String {
        format!("http://{}/webhooks/clerk", self.http)
    }

    /// Signs `body` and posts it to the default source.
    pub(crate) async fn post(&self, id: &str, body: impl Into<Bytes>) -> Answer {
        let posted = self.poster.post(id, body.into()).await;
        posted.expect("the gateway answers")
    }

    /// Posts, and expects a 200 that is no duplicate.
    pub(crate) async fn accept(&self, id: &str, body: impl Into<Bytes>) {
        let answer = self.post(id, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["duplicate"], false);
    }

    pub(crate) async fn post_signed(
        &self,
        path: &str,
        secret: &str,
        id: &str,
        body: Bytes,
    ) -> Answer {
        let headers = sign(secret, id, now_seconds(), &body);
        self.request("POST", &format!("/webhooks/clerk{path}"), &headers, body)
            .await
            .expect("the gateway answers")
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Answer, String> {
        self.poster.request(method, path, headers, body).await
    }

    pub(crate) async fn admin_get(&self, path: &str) -> Answer {
        let answer = self.poster.get(&self.admin, path).await;
        answer.expect("the admin port answers")
    }

    /// The value of one metric, given as it is exposed.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.admin_get("/metrics").await.text;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    pub(crate) async fn client(&self) -> EventServiceClient<Channel> {
        let client = EventServiceClient::connect(format!("http://{}", self.grpc)).await;
        client.expect("gRPC connects")
    }

    pub(crate) async fn subscribe(&self, request: SubscribeRequest) -> Stream {
        let mut client = self.client().await;
        let response = client.subscribe(request).await.expect("subscribed");
        Stream {
            frames: response.into_inner(),
        }
    }

    /// Everything that is in the log and matches, read to its end.
    pub(crate) async fn history(&self, request: SubscribeRequest) -> Vec<proto::Event> {
        let mut stream = self
            .subscribe(SubscribeRequest {
                stop_when_caught_up: true,
                ..request
            })
            .await;
        let mut events = Vec::new();
        while let Some(frame) = stream.next().await {
            if let Some(Kind::Event(event)) = frame.kind {
                events.push(event);
            }
        }
        events
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- the gateway's log ---\n{}", self.log_text());
        }
    }
}

/// Posts to one gateway; clones share their connections.
#[derive(Clone)]
pub(crate) struct Poster {
    http: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Poster {
    pub(crate) fn new(http: &str) -> Self {
        Self {
            http: http.to_owned(),
            // The gateway closes a connection that has been idle for some seconds, perhaps just
            // as a request goes out on it.
            client: Client::builder(TokioExecutor::new())
                .pool_idle_timeout(Duration::from_secs(1))
                .build_http(),
        }
    }

    /// Signs `body` and posts it; an error is a connection that failed or broke.
    pub(crate) async fn post(&self, id: &str, body: Bytes) -> Result<Answer, String> {
        let headers = sign(SECRET, id, now_seconds(), &body);
        self.request("POST", "/webhooks/clerk", &headers, body)
            .await
    }

    /// Gets from another address; an error is a connection that failed or broke.
    pub(crate) async fn get(&self, address: &str, path: &str) -> Result<Answer, String> {
        let uri = format!("http://{address}{path}");
        let response = self.client.get(uri.parse().expect("a URI")).await;
        Answer::read(response.map_err(|error| error.to_string())?).await
    }

    /// Any request; an error is a connection that failed or broke.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Answer, String> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.http));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).expect("a valid request");
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| error.to_string())?;
            Answer::read(response).await
        };
        let answered = tokio::time::timeout(PATIENCE, exchange).await;
        answered.expect("the gateway answers in time")
    }
}

/// What the gateway answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    async fn read(response: http::Response<hyper::body::Incoming>) -> Result<Self, String> {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?;
        Ok(Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(body.to_bytes().to_vec()).expect("UTF-8"),
        })
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).expect("JSON")
    }
}

pub(crate) fn now_seconds() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("after 1970");
    i64::try_from(since.as_secs()).expect("before the year 292 billion")
}

/// The headers of a delivery.
pub(crate) fn sign(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Vec<(String, String)> {
    let key = Webhook::new(secret).expect("a secret");
    let signature = key.sign(id, timestamp, body).expect("UTF-8");
    let headers = [
        ("svix-id", id.to_owned()),
        ("svix-timestamp", timestamp.to_string()),
        ("svix-signature", signature),
        ("content-type", "application/json".to_owned()),
    ];
    headers.map(|(name, value)| (name.to_owned(), value)).into()
}

/// A small body of the given type about the given user.
pub(crate) fn body(event_type: &str, user_id: &str) -> String {
    let now = now_seconds() * 1000;
    serde_json::json!({
        "data": {"id": user_id, "object": "user"},
        "object": "event",
        "type": event_type,
        "timestamp": now,
        "instance_id": "ins_1",
    })
    .to_string()
}

/// From the oldest event on.
pub(crate) fn from_earliest() -> SubscribeRequest {
    SubscribeRequest {
        start: Some(Start::StartPosition(StartPosition::Earliest.into())),
        ..SubscribeRequest::default()
    }
}

/// After a cursor.
pub(crate) fn after(cursor: &str) -> SubscribeRequest {
    SubscribeRequest {
        start: Some(Start::AfterCursor(cursor.to_owned())),
        ..SubscribeRequest::default()
    }
}

pub(crate) fn types(types: &[&str]) -> Option<proto::EventFilter> {
    Some(proto::EventFilter {
        types: types.iter().map(|name| (*name).to_owned()).collect(),
        ..proto::EventFilter::default()
    })
}

/// An open subscription.
pub(crate) struct Stream {
    frames: Streaming<SubscribeResponse>,
}

impl Stream {
    /// The next frame, or the end.
    pub(crate) async fn next(&mut self) -> Option<SubscribeResponse> {
        self.try_next().await.expect("no error")
    }

    pub(crate) async fn try_next(&mut self) -> Result<Option<SubscribeResponse>, tonic::Status> {
        let next = tokio::time::timeout(PATIENCE, self.frames.message()).await;
        next.expect("a frame in time")
    }

    /// The next frame that is not a heartbeat.
    pub(crate) async fn next_kind(&mut self) -> (String, Kind) {
        loop {
            let frame = self.next().await.expect("no end yet");
            match frame.kind.expect("every frame has a kind") {
                Kind::Heartbeat(_) => {}
                kind => return (frame.cursor, kind),
            }
        }
    }

    /// The next event and its cursor; other frames are passed over.
    pub(crate) async fn next_event(&mut self) -> (String, proto::Event) {
        loop {
            if let (cursor, Kind::Event(event)) = self.next_kind().await {
                return (cursor, event);
            }
        }
    }

    /// Passes over frames until the stream is live.
    pub(crate) async fn caught_up(&mut self) -> String {
        loop {
            if let (cursor, Kind::CaughtUp(_)) = self.next_kind().await {
                return cursor;
            }
        }
    }
}

/// Waits until `holds`; a test must not sleep for a guess of how long something takes.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
