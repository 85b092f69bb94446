//! Servers that want to know who connects, and say who they are.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use tempfile::TempDir;

use super::place::on;
use super::server::Server;
use crate::harness::{Gateway, Options, SECRET, binary, body, eventually, from_earliest};
use crate::tls::Authority;

pub(super) fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

async fn takes_events(gateway: &Gateway) {
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    assert_eq!(gateway.history(from_earliest()).await.len(), 1);
}

#[tokio::test]
async fn tls_both_sides_show_certificates() {
    let directory = TempDir::new().expect("a temporary directory");
    let authority = Authority::new();
    let file = |name: &str, text: &str| write(directory.path(), name, text);
    let ca = file("ca.pem", &authority.pem());
    let (certificate, key) = authority.issue_server();
    let [certificate, key] = [file("server.pem", &certificate), file("server.key", &key)];
    let server = Server::start_with(format!(
        "tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}\n"
    ));
    let (certificate, key) = authority.issue(Vec::new(), "gateway");
    let [certificate, key] = [file("client.pem", &certificate), file("client.key", &key)];
    let mut options = on(&[&server]);
    let more = [
        "--nats-tls-ca",
        &ca,
        "--nats-tls-cert",
        &certificate,
        "--nats-tls-key",
        &key,
    ];
    options.args.extend(more.map(str::to_owned));
    let gateway = Gateway::start_with(options);
    takes_events(&gateway).await;
}

#[tokio::test]
async fn credentials_are_shown_and_a_wrong_file_is_named() {
    let operator = KeyPair::new_operator();
    let [account, system] = [(); 2].map(|()| KeyPair::new_account());
    let user = KeyPair::new_user();
    let operator_token = token(&operator, &operator, r#"{"type":"operator","version":2}"#);
    let account_token = token(&operator, &account, &account_claims(JETSTREAM_LIMITS));
    let system_token = token(&operator, &system, &account_claims(""));
    let user_claims = format!(r#"{{"pub":{{}},"sub":{{}},{UNLIMITED},"type":"user","version":2}}"#);
    let user_token = token(&account, &user, &user_claims);
    let (account, system) = (account.public_key(), system.public_key());
    let server = Server::start_with(format!(
        "operator: {operator_token}\nsystem_account: {system}\nresolver: MEMORY\n\
         resolver_preload {{ {account}: {account_token}, {system}: {system_token} }}\n"
    ));
    let directory = TempDir::new().expect("a temporary directory");
    let seed = user.seed().expect("a seed");
    let credentials = format!(
        "-----BEGIN NATS USER JWT-----\n{user_token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    let file = write(directory.path(), "gateway.creds", &credentials);
    let mut options = on(&[&server]);
    options.args.extend(["--nats-credentials".to_owned(), file]);
    let gateway = Gateway::start_with(options);
    takes_events(&gateway).await;

    let output = binary()
        .args(["serve", "--admin-listen", "127.0.0.1:0"])
        .args(["--log", "nats", "--nats-url", &server.url()])
        .args(["--nats-credentials", "/does/not/exist"])
        .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("cannot use the file of --nats-credentials: /does/not/exist"),
        "{said}"
    );
}

#[tokio::test]
async fn the_login_of_a_url_is_shown_to_the_servers_and_nowhere_else() {
    let user = r#"user: "gate way", password: "p@ss,w%rd/""#;
    let token = r#"token: "p@ss:w%rd""#;
    for (accepted, login) in [
        (user, "gate%20way:p%40ss%2Cw%25rd%2F"),
        (token, "p%40ss%3Aw%25rd"),
    ] {
        let server = Server::start_with(format!("authorization {{ {accepted} }}\n"));
        let port = server.port();
        let url = format!("nats://127.0.0.1:{port},nats://{login}@127.0.0.1:{port}");
        let args = ["--log", "nats", "--nats-url", &url, "--log-level"];
        let mut options = Options::args(&args);
        options.args.push("debug,async_nats=trace".to_owned());
        let gateway = Gateway::start_with(options);
        takes_events(&gateway).await;
        let log = gateway.log_text();
        assert!(log.contains("async_nats"), "{log}");
        assert!(!log.contains("w%"), "{log}");

        let output = tokio::task::spawn_blocking(move || {
            binary()
                .args(["serve", "--admin-listen", "127.0.0.1:0", "--log", "nats"])
                .args(["--nats-url", &format!("nats://me:wr0ng@127.0.0.1:{port}")])
                .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
                .output()
        });
        let output = output.await.expect("not canceled").expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let told =
            format!("NATS at nats://127.0.0.1:{port} refuses the gateway: authorization violation");
        assert!(said.contains(&told), "{said}");
        assert!(said.contains("in --nats-url"), "{said}");
        assert!(!said.contains("wr0ng"), "{said}");
    }
}

#[tokio::test]
async fn a_login_in_a_file_is_shown_to_the_servers_and_nowhere_else() {
    let authorization = "authorization { user: gateway, password: p4ssw0rd }\n";
    let server = Server::start_with(authorization.to_owned());
    let directory = TempDir::new().expect("a temporary directory");
    let write_url = |password: &str| {
        let url = format!("nats://gateway:{password}@127.0.0.1:{}\n", server.port());
        write(directory.path(), "nats.url", &url)
    };
    let mut options = Options::args(&["--log", "nats", "--log-level", "debug,async_nats=trace"]);
    let file = write_url("p4ssw0rd");
    options
        .env
        .push(("CLERKCAST_NATS_URL_FILE".to_owned(), file));
    let gateway = Gateway::start_with(options);
    takes_events(&gateway).await;
    // A process keeps its servers, and reports that there are others.
    write_url("0ther-w0rd");
    gateway.signal("-HUP");
    eventually("a reload", || async {
        gateway.log_text().contains("configuration reloaded")
    })
    .await;
    let log = gateway.log_text();
    let mut warnings = log.lines().filter(|line| line.contains("\"WARN\""));
    assert!(warnings.any(|line| line.contains("nats_url")), "{log}");
    for password in ["p4ssw0rd", "0ther-w0rd"] {
        assert!(!log.contains(password), "{log}");
    }
}

/// Whoever looks for the reason of an outage finds it in the log, and not once for each attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_not_taken_any_more_is_logged_once() {
    let authorization =
        |password: &str| format!("authorization {{ user: gateway, password: {password} }}\n");
    let mut server = Server::start_with(authorization("former"));
    let url = format!("nats://gateway:former@127.0.0.1:{}", server.port());
    let gateway = Gateway::start_with(Options::args(&[
        "--log",
        "nats",
        "--nats-url",
        &url,
        "--log-level",
        "debug",
    ]));
    takes_events(&gateway).await;
    server.run_with(authorization("new"));
    let told = "authorization violation";
    let has_logged = |text: &'static str, times: usize| {
        let gateway = &gateway;
        eventually(text, move || async move {
            gateway.log_text().matches(text).count() >= times
        })
    };
    has_logged(told, 3).await;
    let log = gateway.log_text();
    let warnings = log.lines().filter(|line| line.contains("\"WARN\""));
    let refused: Vec<_> = warnings.filter(|line| line.contains(told)).collect();
    assert_eq!(refused.len(), 1, "{log}");
    assert!(refused[0].contains("cannot connect to NATS"), "{log}");
    server.run_with(authorization("former"));
    has_logged("\"connected to NATS\"", 2).await;
}

const UNLIMITED: &str = r#""subs":-1,"data":-1,"payload":-1"#;
const JETSTREAM_LIMITS: &str = r#","mem_storage":-1,"disk_storage":-1,"streams":-1,"consumer":-1"#;

fn account_claims(more_limits: &str) -> String {
    let limits = format!(
        r#"{UNLIMITED},"imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1{more_limits}"#
    );
    format!(r#"{{"limits":{{{limits}}},"type":"account","version":2}}"#)
}

/// What `issuer` says of `subject`, signed.
fn token(issuer: &KeyPair, subject: &KeyPair, claims: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let claims = format!(
        r#"{{"jti":"test","iat":1700000000,"iss":"{}","name":"test","sub":"{}","nats":{claims}}}"#,
        issuer.public_key(),
        subject.public_key()
    );
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = issuer.sign(signed.as_bytes()).expect("a private key");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
