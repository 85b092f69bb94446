//! TLS on both ports, with certificates made for the test.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use clerkcast::proto::event_service_client::EventServiceClient;
use clerkcast::proto::subscribe_response::Kind;
use clerkcast::proto::{ListSubscribersRequest, SubscribeRequest};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Gateway, Options, SECRET, binary, body, eventually, from_earliest};
use crate::interop::succeeded;
use crate::readme::toml_block;
use crate::refused;

/// An authority that vouches for servers and clients.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key);
        Self {
            issuer: issuer.expect("signed"),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate and its key.
    pub(crate) fn issue(&self, names: Vec<SanType>, common_name: &str) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.subject_alt_names = names;
        let subject = &mut params.distinguished_name;
        subject.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }

    pub(crate) fn issue_server(&self) -> (String, String) {
        let names = vec![
            dns("localhost"),
            SanType::IpAddress("127.0.0.1".parse().expect("an address")),
        ];
        self.issue(names, "gateway")
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("a name"))
}

/// A gateway that speaks TLS on both ports, and the files that it reads.
pub(crate) struct Secured {
    pub(crate) gateway: Gateway,
    authority: Authority,
    directory: TempDir,
}

impl Secured {
    pub(crate) fn start(principals: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let authority = Authority::new();
        let file = |name: &str| directory.path().join(name);
        write_pair(directory.path(), authority.issue_server());
        std::fs::write(file("ca.pem"), authority.pem()).expect("written");
        let of = |name: &str| file(name).display().to_string();
        let [pair, key, ca] = ["server.pem", "server.key", "ca.pem"].map(of);
        let mut config = format!(
            "http_tls_cert = \"{pair}\"\nhttp_tls_key = \"{key}\"\n\
             grpc_tls_cert = \"{pair}\"\ngrpc_tls_key = \"{key}\"\n"
        );
        if principals.contains("client_certificate") {
            config = format!("{config}grpc_tls_client_ca = \"{ca}\"\n");
        }
        let config = format!("{config}{principals}");
        std::fs::write(file("clerkcast.toml"), config).expect("written");
        let path = of("clerkcast.toml");
        Self {
            gateway: Gateway::start_with(Options::args(&["--config", &path])),
            authority,
            directory,
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn connect(
        &self,
        authority: &Authority,
        identity: Option<(String, String)>,
    ) -> Result<EventServiceClient<Channel>, tonic::transport::Error> {
        let authority = Certificate::from_pem(authority.pem());
        let mut tls = ClientTlsConfig::new().ca_certificate(authority);
        if let Some((certificate, key)) = identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let endpoint = Channel::from_shared(format!("https://{}", self.gateway.grpc));
        let endpoint = endpoint.expect("an address").tls_config(tls)?;
        Ok(EventServiceClient::new(endpoint.connect().await?))
    }

    /// The name that the gateway knows this caller by.
    async fn name_of(&self, identity: Option<(String, String)>) -> Result<String, Status> {
        let client = self.connect(&self.authority, identity).await;
        let mut client = client.map_err(|error| Status::unavailable(error.to_string()))?;
        let _stream = client.subscribe(SubscribeRequest::default()).await?;
        let listed = client
            .list_subscribers(ListSubscribersRequest::default())
            .await?;
        let subscribers = listed.into_inner().subscribers;
        Ok(subscribers[0].principal.clone())
    }

    fn run(&self, command: &str, args: &[&str]) -> std::process::Output {
        let mut process = binary();
        process.arg(command).args(args);
        process.env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET);
        process.stdin(Stdio::null()).output().expect("it runs")
    }
}

fn write_pair(directory: &Path, (certificate, key): (String, String)) {
    std::fs::write(directory.join("server.pem"), certificate).expect("written");
    std::fs::write(directory.join("server.key"), key).expect("written");
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map_or(String::new(), |it| it.reason.clone())
}

#[tokio::test]
async fn a_subscriber_is_known_by_a_name_of_its_certificate() {
    let secured = Secured::start(
        "[[principals]]\nname = \"billing\"\nclient_certificate = \"billing.internal\"\n\
         [[principals]]\nname = \"search\"\nclient_certificate = \"spiffe://prod/search\"\n\
         [[principals]]\nname = \"audit\"\nclient_certificates = [\"audit\", \"auditor\"]\n",
    );
    let issue = |names, common| Some(secured.authority.issue(names, common));
    let spiffe = SanType::URI("spiffe://prod/search".try_into().expect("a URI"));
    for (identity, name) in [
        (issue(vec![dns("billing.internal")], "x"), "billing"),
        (issue(vec![dns("else.internal"), spiffe], "x"), "search"),
        (issue(Vec::new(), "auditor"), "audit"),
        // An authority may check alternative names alone, and copy the common name.
        (issue(vec![dns("billing.internal")], "auditor"), "billing"),
    ] {
        let known = secured.name_of(identity).await.expect("let in");
        assert_eq!(known, name);
    }

    let unknown = issue(vec![dns("billing.internal.example")], "x");
    let copied = issue(vec![dns("search.internal")], "auditor");
    for (identity, why) in [
        (unknown, "UNKNOWN_CERTIFICATE"),
        (copied, "UNKNOWN_CERTIFICATE"),
        (None, "NO_CREDENTIALS"),
    ] {
        let refused = secured.name_of(identity).await.expect_err("not let in");
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert_eq!(reason(&refused), why);
    }

    // A name counts only where an authority of the operator's choice vouches for it.
    let forged = Authority::new().issue(vec![dns("billing.internal")], "x");
    let refused = secured.name_of(Some(forged)).await.expect_err("refused");
    assert_ne!(refused.code(), Code::Unauthenticated, "not even a call");
    let log = || async { secured.gateway.log_text().contains("TLS handshake failed") };
    eventually("the operator is told", log).await;
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_without_ending_a_stream() {
    let secured = Secured::start("");
    let client = secured.connect(&secured.authority, None).await;
    let request = SubscribeRequest::default();
    let mut client = client.expect("connected");
    let mut stream = client
        .subscribe(request)
        .await
        .expect("opened")
        .into_inner();
    let first = stream.message().await.expect("no error").expect("no end");
    assert!(matches!(first.kind, Some(Kind::Started(_))));

    // Half a renewal: the key is not the certificate's.
    let renewed = Authority::new();
    let (certificate, key) = renewed.issue_server();
    std::fs::write(secured.file("server.pem"), certificate).expect("written");
    secured.gateway.signal("-HUP");
    let refused = "the former stays in force";
    eventually(refused, || async {
        secured.gateway.log_text().contains(refused)
    })
    .await;
    let still = secured.connect(&secured.authority, None).await;
    still.expect("the former is in force");

    std::fs::write(secured.file("server.key"), key).expect("written");
    secured.gateway.signal("-HUP");
    eventually("the renewed certificate is in force", || async {
        secured.connect(&renewed, None).await.is_ok()
    })
    .await;
    let former = secured.connect(&secured.authority, None).await;
    former.expect_err("the former certificate is not shown any more");

    std::fs::write(secured.file("ca.pem"), renewed.pem()).expect("written");
    let ca = secured.file("ca.pem").display().to_string();
    let url = format!("https://{}/webhooks/clerk", secured.gateway.http);
    let sent = secured.run("send", &["user.created", "--url", &url, "--ca-cert", &ca]);
    assert!(sent.status.success(), "{sent:?}");
    loop {
        let frame = stream.message().await.expect("the stream goes on");
        if let Some(Kind::Event(event)) = frame.expect("no end").kind {
            assert_eq!(event.r#type, "user.created");
            break;
        }
    }
}

#[tokio::test]
async fn send_and_tail_speak_tls_and_show_certificates() {
    let secured =
        Secured::start("[[principals]]\nname = \"billing\"\nclient_certificate = \"*\"\n");
    let (certificate, key) = secured.authority.issue(Vec::new(), "anyone");
    std::fs::write(secured.file("client.pem"), certificate).expect("written");
    std::fs::write(secured.file("client.key"), key).expect("written");
    let path = |name: &str| secured.file(name).display().to_string();
    let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(path);
    let url = format!("https://{}/webhooks/clerk", secured.gateway.http);
    let untrusted = secured.run("send", &["user.created", "--url", &url]);
    assert!(!untrusted.status.success(), "its CA is not the system's");
    let sent = secured.run("send", &["user.created", "--url", &url, "--ca-cert", &ca]);
    assert!(sent.status.success(), "{sent:?}");

    let server = format!("https://{}", secured.gateway.grpc);
    let mut args = vec![
        "--server",
        &server,
        "--from",
        "earliest",
        "--until-caught-up",
    ];
    args.extend(["--ca-cert", &ca]);
    let refused = secured.run("tail", &args);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("client certificate"), "{told}");
    args.extend(["--client-cert", &certificate, "--client-key", &key]);
    let tailed = secured.run("tail", &args);
    let printed = String::from_utf8_lossy(&tailed.stdout);
    assert!(printed.contains("user.created"), "{tailed:?}");

    let metric = "clerkcast_tls_certificate_expiry_timestamp_seconds{port=\"grpc\"}";
    assert!(secured.gateway.metric(metric).await > 1e9);
}

#[test]
fn the_file_that_cannot_be_used_is_that_of_its_option() {
    let directory = TempDir::new().expect("a temporary directory");
    write_pair(directory.path(), Authority::new().issue_server());
    let path = |name: &str| directory.path().join(name).display().to_string();
    let [pair, key] = [path("server.pem"), path("server.key")];
    for (certificate, key, option, told) in [
        (&pair, &pair, "grpc_tls_key", "holds no private key in PEM"),
        (
            &key,
            &path("none"),
            "grpc_tls_cert",
            "holds no certificate in PEM",
        ),
        (&pair, &path("none"), "grpc_tls_key", "No such file"),
    ] {
        let mut check = binary();
        check.args(["config", "check", "--json", "--grpc-tls-cert", certificate]);
        check.args(["--grpc-tls-key", key]);
        check.env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET);
        let checked = check.output().expect("it runs");
        let json: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("JSON");
        let error = &json["errors"][0];
        assert_eq!(error["key"], option, "{json}");
        let message = error["message"].as_str().expect("text");
        assert!(
            message.contains(told) && !message.contains(", --grpc-tls"),
            "{message}"
        );
    }
}

/// As in a minimal container, which has no file of authorities.
#[tokio::test]
async fn a_machine_without_authorities_needs_those_that_it_is_given() {
    let run = |args: &[&str]| {
        let mut command = binary();
        command.args(args);
        command
            .env("SSL_CERT_FILE", "/nonexistent")
            .env("SSL_CERT_DIR", "/nonexistent");
        command.output().expect("it runs")
    };
    let plain = Gateway::start();
    let url = plain.webhook_url();
    succeeded(&run(&[
        "send",
        "user.created",
        "--secret",
        SECRET,
        "--url",
        &url,
    ]));

    let secured =
        Secured::start("[[principals]]\nname = \"billing\"\nclient_certificate = \"*\"\n");
    let url = format!("https://{}/webhooks/clerk", secured.gateway.http);
    let send = ["send", "user.created", "--secret", SECRET, "--url", &url];
    let failed = run(&send);
    let told = String::from_utf8_lossy(&failed.stderr);
    assert!(
        told.contains("cannot read the system's certificates"),
        "{told}"
    );
    let ca = secured.file("ca.pem").display().to_string();
    succeeded(&run(&[&send[..], &["--ca-cert", &ca]].concat()));

    let (certificate, key) = secured.authority.issue(Vec::new(), "anyone");
    std::fs::write(secured.file("client.pem"), certificate).expect("written");
    std::fs::write(secured.file("client.key"), key).expect("written");
    let path = |name: &str| secured.file(name).display().to_string();
    let [certificate, key] = ["client.pem", "client.key"].map(path);
    let server = format!("https://{}", secured.gateway.grpc);
    let info = [
        "info",
        "--server",
        &server,
        "--client-cert",
        &certificate,
        "--client-key",
        &key,
    ];
    let failed = run(&info);
    let told = String::from_utf8_lossy(&failed.stderr);
    assert!(told.contains("--ca-cert"), "{told}");
    succeeded(&run(&[&info[..], &["--ca-cert", &ca]].concat()));
}

/// Plain text to a port that speaks TLS is no more than a failed handshake.
#[tokio::test]
async fn plain_text_is_not_served_where_tls_is_asked_for() {
    let secured = Secured::start("");
    let refused = secured
        .gateway
        .poster
        .post("msg_1", body("user.created", "user_1").into())
        .await;
    refused.expect_err("no answer in plain text");
    let plain = EventServiceClient::connect(format!("http://{}", secured.gateway.grpc)).await;
    if let Ok(mut client) = plain {
        let refused = client.subscribe(from_earliest()).await;
        refused.expect_err("no stream in plain text");
    }
}

fn refused_start(config: &str) -> String {
    let directory = TempDir::new().expect("a temporary directory");
    let (certificate, key) = Authority::new().issue_server();
    let (_, other_key) = Authority::new().issue_server();
    for (name, text) in [("c.pem", certificate), ("k.pem", key), ("o.pem", other_key)] {
        std::fs::write(directory.path().join(name), text).expect("written");
    }
    let at = directory.path().display().to_string();
    let file = directory.path().join("clerkcast.toml");
    std::fs::write(&file, config.replace("AT", &at)).expect("written");
    let (code, said) = refused::refused_start(|command| {
        command.arg("--config").arg(&file);
    });
    assert_ne!(code, Some(0), "{said}");
    said
}

#[test]
fn an_unusable_certificate_is_reported_at_start_with_its_file() {
    for (config, told) in [
        ("grpc_tls_cert = \"AT/c.pem\"", "--grpc-tls-key"),
        ("grpc_tls_client_ca = \"AT/c.pem\"", "--grpc-tls-cert"),
        (
            "http_tls_cert = \"AT/none.pem\"\nhttp_tls_key = \"AT/k.pem\"",
            "none.pem",
        ),
        (
            "http_tls_cert = \"AT/k.pem\"\nhttp_tls_key = \"AT/k.pem\"",
            "no certificate",
        ),
        (
            "http_tls_cert = \"AT/c.pem\"\nhttp_tls_key = \"AT/c.pem\"",
            "c.pem",
        ),
        (
            "http_tls_cert = \"AT/c.pem\"\nhttp_tls_key = \"AT/o.pem\"",
            "o.pem",
        ),
        (
            "grpc_tls_cert = \"AT/c.pem\"\ngrpc_tls_key = \"AT/k.pem\"\ngrpc_tls_client_ca = \"AT/c.pem\"",
            "client_certificate",
        ),
        (
            "[[principals]]\nname = \"a\"\nclient_certificate = \"a\"",
            "--grpc-tls-client-ca",
        ),
    ] {
        let said = refused_start(config);
        assert!(said.contains(told), "{config}: {said}");
    }
}

/// Its principals and its TLS, together and with certificates that are there.
#[tokio::test]
async fn the_security_configuration_of_the_readme_is_accepted() {
    let directory = TempDir::new().expect("a temporary directory");
    let authority = Authority::new();
    let (certificate, key) = authority.issue_server();
    for (name, text) in [
        ("grpc.pem", &certificate),
        ("grpc.key", &key),
        ("http.pem", &certificate),
        ("http.key", &key),
        ("clients.pem", &authority.pem()),
    ] {
        std::fs::write(directory.path().join(name), text).expect("written");
    }
    let there = directory.path().display().to_string();
    let tls = toml_block("grpc_tls_client_ca").replace("/etc/clerkcast", &there);
    let principals =
        toml_block("name = \"billing\"").replace("# client_certificate", "client_certificate");
    let file = directory.path().join("clerkcast.toml");
    std::fs::write(&file, format!("{tls}\n{principals}")).expect("written");
    let secured = Secured {
        gateway: Gateway::start_with(Options::args(&["--config", &file.display().to_string()])),
        authority,
        directory,
    };
    let billing = secured
        .authority
        .issue(vec![dns("billing.internal")], "billing");
    let name = secured.name_of(Some(billing)).await;
    assert_eq!(name.expect("recognised"), "billing");
    let stranger = secured.name_of(None).await.expect_err("nobody");
    assert_eq!(reason(&stranger), "NO_CREDENTIALS");
}
