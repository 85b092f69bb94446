//! Who may subscribe to what: principals, policies and redaction, with the real binary.

mod policies;
mod principals;
mod scope;
mod start_up;

use std::path::PathBuf;

use clerkcast::clerk::samples::SAMPLES;
use clerkcast::proto;
use clerkcast::proto::event_service_client::EventServiceClient;
use clerkcast::proto::subscribe_response::Kind;
use clerkcast::proto::{SubscribeRequest, SubscribeResponse};
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::harness::{Gateway, Options, binary, eventually};
use crate::nats::Place;

/// What the gateway says once a configuration is in force.
const RELOADED: &str = "configuration reloaded";

/// A gateway with principals, whose configuration can be changed.
pub(crate) struct Guarded {
    pub(crate) gateway: Gateway,
    file: PathBuf,
    _directory: TempDir,
}

impl Guarded {
    pub(crate) fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    pub(crate) fn start_with(config: &str, args: &[&str]) -> Self {
        Self::start_on(&Place::embedded(), config, args)
    }

    fn start_on(place: &Place, config: &str, args: &[&str]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let file = directory.path().join("clerkcast.toml");
        std::fs::write(&file, config).expect("written");
        let path = file.display().to_string();
        let args = [&["--config", &path], args].concat();
        let gateway = place.start_with(Options::args(&args));
        Self {
            gateway,
            file,
            _directory: directory,
        }
    }

    /// Replaces the configuration, and waits until the gateway says that it has read it.
    async fn reload(&self, config: &str, said: &str) {
        std::fs::write(&self.file, config).expect("written");
        self.gateway.signal("-HUP");
        eventually(said, || async { self.gateway.log_text().contains(said) }).await;
    }

    /// Replaces the configuration, and waits until it is in force.
    pub(crate) async fn reloaded(&self, config: &str) {
        let taken = || self.gateway.log_text().matches(RELOADED).count();
        let before = taken();
        std::fs::write(&self.file, config).expect("written");
        self.gateway.signal("-HUP");
        eventually(RELOADED, || async { taken() > before }).await;
    }

    /// One event of every type, as Clerk would send them.
    pub(crate) async fn post_samples(&self) {
        for sample in SAMPLES {
            let id = format!("msg_{}", sample.event_type);
            self.gateway.accept(&id, sample.body).await;
        }
    }
}

/// A subscriber that shows a token.
pub(crate) struct Caller {
    pub(crate) client: EventServiceClient<Channel>,
    token: Option<String>,
}

impl Caller {
    pub(crate) async fn of(gateway: &Gateway, token: &Token) -> Self {
        Self {
            client: gateway.client().await,
            token: Some(token.secret.clone()),
        }
    }

    async fn anonymous(gateway: &Gateway) -> Self {
        Self {
            client: gateway.client().await,
            token: None,
        }
    }

    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let value = format!("Bearer {token}").parse().expect("ASCII");
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    pub(crate) async fn subscribe(
        &mut self,
        request: SubscribeRequest,
    ) -> Result<Streaming<SubscribeResponse>, Status> {
        let request = self.request(request);
        Ok(self.client.subscribe(request).await?.into_inner())
    }

    /// `Started`, and the events of the history.
    async fn history(
        &mut self,
        request: SubscribeRequest,
    ) -> Result<(proto::Started, Vec<proto::Event>), Status> {
        let mut stream = self
            .subscribe(SubscribeRequest {
                stop_when_caught_up: true,
                ..request
            })
            .await?;
        let mut started = proto::Started::default();
        let mut events = Vec::new();
        while let Some(frame) = stream.message().await? {
            match frame.kind {
                Some(Kind::Started(it)) => started = it,
                Some(Kind::Event(event)) => events.push(event),
                _ => {}
            }
        }
        Ok((started, events))
    }
}

/// What `clerkcast token new` printed.
pub(crate) struct Token {
    pub(crate) secret: String,
    pub(crate) stanza: String,
}

pub(crate) fn new_token(name: &str) -> Token {
    let output = binary().args(["token", "new", name]).output();
    let output = output.expect("the binary runs");
    assert!(output.status.success());
    let [secret, said] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
    let at = said.find("[[principals]]").expect("a stanza");
    Token {
        secret: secret.trim_end().to_owned(),
        stanza: said[at..].trim_end().to_owned(),
    }
}

pub(crate) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}
