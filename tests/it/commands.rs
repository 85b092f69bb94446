//! The commands, as they are typed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Output, Stdio};

use serde_json::Value;

use crate::harness::{Gateway, OTHER_SECRET, SECRET, binary, body, sign};

pub(crate) fn run(args: &[&str]) -> Output {
    binary()
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[test]
fn help_teaches_and_a_wrong_command_line_is_exit_code_2() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    for word in [
        "serve",
        "dev",
        "send",
        "tail",
        "verify",
        "grpcurl",
        "CLERK_WEBHOOK_SIGNING_SECRET",
    ] {
        assert!(stdout(&help).contains(word), "{word}");
    }
    for command in ["serve", "dev", "send", "tail", "verify"] {
        let help = run(&[command, "--help"]);
        assert!(help.status.success());
    }
    assert_eq!(run(&["serve", "--nonsense"]).status.code(), Some(2));
    assert_eq!(run(&["nonsense"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
}

#[tokio::test]
async fn send_and_tail_carry_one_event_of_every_type() {
    let gateway = Gateway::start();
    let url = gateway.webhook_url();
    let sent = run(&["send", "--url", &url, "--secret", SECRET, "--json"]);
    assert!(sent.status.success(), "{}", stderr(&sent));
    let sent: Vec<Value> = stdout(&sent)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(sent.len(), 46);

    let server = format!("http://{}", gateway.grpc);
    let tailed = run(&[
        "tail",
        "--server",
        &server,
        "--from",
        "earliest",
        "--until-caught-up",
        "--json",
    ]);
    assert!(tailed.status.success(), "{}", stderr(&tailed));
    let tailed: Vec<Value> = stdout(&tailed)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let pair = |value: &Value| (value["type"].clone(), value["id"].clone());
    let received: Vec<_> = tailed.iter().map(|frame| pair(&frame["event"])).collect();
    assert_eq!(received, sent.iter().map(pair).collect::<Vec<_>>());
    assert_eq!(tailed[0]["event"]["user"]["first_name"], "Ada");

    let cursor = tailed[43]["cursor"].as_str().expect("a cursor");
    let rest = run(&[
        "tail",
        "--server",
        &server,
        "--after",
        cursor,
        "--until-caught-up",
    ]);
    assert_eq!(stdout(&rest).lines().count(), 2);
    assert!(!stdout(&rest).contains('\x1b'), "colours are for terminals");
    let users = run(&[
        "tail",
        "--server",
        &server,
        "--from",
        "earliest",
        "--max",
        "2",
        "--type",
        "user.*",
        "--exclude-type",
        "user.created",
    ]);
    let users = stdout(&users);
    assert_eq!(users.lines().count(), 2);
    assert!(
        users
            .lines()
            .all(|line| line.contains("user.updated") || line.contains("user.deleted"))
    );
    let since = run(&[
        "tail",
        "--server",
        &server,
        "--from",
        "2020-01-01T00:00:00Z",
        "--until-caught-up",
    ]);
    assert_eq!(stdout(&since).lines().count(), 46);
}

#[tokio::test]
async fn send_reports_deliveries_that_were_not_accepted() {
    let gateway = Gateway::start();
    let url = gateway.webhook_url();
    let refused = run(&[
        "send",
        "user.created",
        "--url",
        &url,
        "--secret",
        OTHER_SECRET,
    ]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stdout(&refused).starts_with("400 user.created"));
    assert!(stdout(&refused).contains("signature_mismatch"));
    let unknown = run(&["send", "user.craeted", "--url", &url, "--secret", SECRET]);
    assert_eq!(unknown.status.code(), Some(2));
    let nobody = run(&[
        "send",
        "user.created",
        "--url",
        "http://127.0.0.1:1/webhooks/clerk",
        "--secret",
        SECRET,
    ]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        stderr(&nobody).contains("cannot reach"),
        "{}",
        stderr(&nobody)
    );
    let secretless = run(&["send"]);
    assert_eq!(secretless.status.code(), Some(2));
    assert!(stderr(&secretless).contains("--secret"));
}

#[tokio::test]
async fn send_posts_a_file_byte_for_byte_with_a_count_a_rate_and_an_id() {
    let gateway = Gateway::start();
    let url = gateway.webhook_url();
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    let content = "{ \"type\": \"planet.created\" }\n";
    file.write_all(content.as_bytes()).expect("written");
    let path = file.path().display().to_string();
    let sent = run(&[
        "send", "--file", &path, "--count", "3", "--rate", "100", "--id", "msg_same", "--url",
        &url, "--secret", SECRET,
    ]);
    assert!(sent.status.success());
    assert_eq!(stdout(&sent).matches("duplicate").count(), 2);
    let request = clerkcast::proto::SubscribeRequest {
        include_payload: true,
        ..crate::harness::from_earliest()
    };
    let events = gateway.history(request).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].payload_json.as_deref(), Some(content));
}

#[tokio::test]
async fn tail_reports_a_refusal_and_a_wrong_time() {
    let gateway = Gateway::start();
    let server = format!("http://{}", gateway.grpc);
    let refused = run(&["tail", "--server", &server, "--type", "user.craeted"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("did you mean user.created?"));
    let wrong = run(&["tail", "--server", &server, "--from", "yesterday"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("--from"));
}

#[test]
fn verify_says_why_a_delivery_does_or_does_not_verify() {
    let body = body("user.created", "user_1");
    let headers = sign(SECRET, "msg_1", 1_731_705_121, body.as_bytes());
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let verify = |secret: &str, content: &str| {
        let path = directory.path().join("body");
        std::fs::write(&path, content).expect("written");
        let path = path.display().to_string();
        run(&[
            "verify",
            "--secret",
            secret,
            "--id",
            &headers[0].1,
            "--timestamp",
            &headers[1].1,
            "--signature",
            &headers[2].1,
            "--payload",
            &path,
        ])
    };
    let good = verify(SECRET, &body);
    assert_eq!(good.status.code(), Some(0));
    assert!(stdout(&good).starts_with("verified"));
    assert!(
        stdout(&good).contains("a gateway would refuse it now"),
        "it is years old"
    );

    let wrong_secret = verify(OTHER_SECRET, &body);
    assert_eq!(wrong_secret.status.code(), Some(1));
    assert!(stdout(&wrong_secret).contains("no signature matches"));
    assert!(!stdout(&wrong_secret).contains("hint"));

    let newline = verify(SECRET, &format!("{body}\n"));
    assert_eq!(newline.status.code(), Some(1));
    assert!(stdout(&newline).contains("white space at the end"));
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&body).expect("JSON"))
        .expect("JSON");
    assert!(stdout(&verify(SECRET, &pretty)).contains("only the raw bytes are signed"));

    use base64::Engine as _;
    let delivery = serde_json::json!({
        "type": "event",
        "headers": {"Svix-Id": "msg_1", "Svix-Timestamp": ["1731705121"], "Svix-Signature": headers[2].1},
        "body_b64": base64::engine::general_purpose::STANDARD.encode(&body),
    });
    let path = directory.path().join("delivery.json");
    std::fs::write(&path, delivery.to_string()).expect("written");
    let from_delivery = run(&[
        "verify",
        "--json",
        "--secret",
        SECRET,
        "--delivery",
        &path.display().to_string(),
    ]);
    assert!(from_delivery.status.success(), "{}", stderr(&from_delivery));
    let verdict: Value = serde_json::from_str(&stdout(&from_delivery)).expect("JSON");
    assert_eq!(verdict["verified"], true);
}

/// The README's first command.
#[test]
fn dev_shows_signed_events_as_they_arrive_and_lines_to_paste() {
    let listen = [
        "--http-listen",
        "127.0.0.1:0",
        "--grpc-listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ];
    let mut process = Killed(
        binary()
            .args(["dev", "--samples"])
            .args(listen)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs"),
    );
    let events = BufReader::new(process.0.stdout.take().expect("piped"));
    let first: Vec<String> = events
        .lines()
        .take(2)
        .map(|line| line.expect("a line"))
        .collect();
    assert!(first[0].contains("user.created"), "{first:?}");
    assert!(first[1].contains("user.updated"), "{first:?}");

    let introduction = BufReader::new(process.0.stderr.take().expect("piped"));
    let introduction: Vec<String> = introduction
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.contains("They arrive here"))
        .collect();
    let word_after = |label: &str| {
        let line = introduction
            .iter()
            .find(|line| line.contains(label))
            .expect("introduced");
        line.trim()
            .trim_start_matches(label)
            .split_whitespace()
            .next()
            .expect("a value")
            .to_owned()
    };
    let (url, secret) = (word_after("webhook URL"), word_after("signing secret"));
    let pasted = introduction
        .iter()
        .find(|line| line.contains(" send user.created"))
        .expect("a line to paste");
    let pasted: Vec<&str> = pasted.split_whitespace().skip(1).collect();
    assert!(pasted.contains(&url.as_str()) && pasted.contains(&secret.as_str()));
    let sent = run(&pasted);
    assert!(sent.status.success(), "{}", stderr(&sent));
    let pasted = introduction
        .iter()
        .find(|line| line.contains(" tail --server"))
        .expect("a line to paste");
    let pasted = pasted.replace('\'', "");
    let mut pasted: Vec<&str> = pasted.split_whitespace().skip(1).collect();
    pasted.push("--until-caught-up");
    assert!(stdout(&run(&pasted)).lines().count() >= 3);
    assert!(
        introduction
            .iter()
            .any(|line| line.contains("grpcurl -plaintext -d"))
    );
}

#[test]
fn dev_takes_free_ports_where_its_own_are_busy() {
    // Held here or by somebody else: busy either way.
    let busy = [8080, 50051, 9090].map(|port| std::net::TcpListener::bind(("127.0.0.1", port)));
    let mut process = Killed(
        binary()
            .arg("dev")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs"),
    );
    let said = BufReader::new(process.0.stderr.take().expect("piped"));
    let said = said.lines().map_while(Result::ok);
    let said: Vec<String> = said
        .take_while(|line| !line.contains("Events appear"))
        .collect();
    for usual in ["127.0.0.1:8080", "127.0.0.1:50051", "127.0.0.1:9090"] {
        let told = format!("clerkcast: {usual} is busy; using a free port instead");
        assert!(said.contains(&told), "{said:?}");
    }
    let url = said
        .iter()
        .find(|line| line.contains("webhook URL"))
        .expect("introduced");
    assert!(!url.contains(":8080"), "{url}");
    drop(busy);
}

#[tokio::test]
async fn send_tries_again_as_svix_does() {
    let gateway = Gateway::start();
    let url = gateway.webhook_url();
    let again = [
        "--retry",
        "--retry-scale",
        "0",
        "--json",
        "--id",
        "msg_1",
        "--url",
        &url,
    ];
    let refused = run(&[
        &["send", "user.created", "--secret", OTHER_SECRET][..],
        &again,
    ]
    .concat());
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(stderr(&refused).matches("trying again").count(), 7);
    let rejected = "clerkcast_webhook_rejected_total";
    let metrics = gateway.admin_get("/metrics").await.text;
    let counted = metrics.lines().find(|line| {
        line.starts_with(rejected) && line.contains("signature_mismatch") && line.ends_with(" 8")
    });
    assert!(counted.is_some(), "{metrics}");
    let line: Value = serde_json::from_str(&stdout(&refused)).expect("one object");
    assert_eq!(line["answer"]["error"], "signature_mismatch");
    let sent = run(&[&["send", "user.created", "--secret", SECRET][..], &again].concat());
    assert!(sent.status.success(), "{}", stderr(&sent));
    let line: Value = serde_json::from_str(&stdout(&sent)).expect("one object");
    assert_eq!(line["answer"]["duplicate"], false);

    // Until the gateway is there: after 5 s and 5 min, a thousandth of them here.
    let mut process = Killed(
        binary()
            .args(["send", "user.created", "--retry", "--retry-scale", "0.001"])
            .args([
                "--secret",
                SECRET,
                "--url",
                "http://127.0.0.1:1/webhooks/clerk",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs"),
    );
    let said = BufReader::new(process.0.stderr.take().expect("piped"));
    let waits: Vec<String> = said
        .lines()
        .take(3)
        .map(|line| line.expect("text"))
        .collect();
    for (line, wait) in waits.iter().zip(["5ms", "300ms", "1.8s"]) {
        assert!(line.contains("cannot reach"), "{line}");
        assert!(line.ends_with(&format!("trying again in {wait}")), "{line}");
    }
}

#[test]
fn token_new_prints_the_token_alone_where_it_is_read_by_a_program() {
    let made = run(&["token", "new", "billing"]);
    let token = stdout(&made);
    assert!(
        token.starts_with("cct_") && token.lines().count() == 1,
        "{token}"
    );
    assert!(!stderr(&made).contains(token.trim()));
    let hash_of = |input: &str| {
        let mut process = binary()
            .args(["token", "hash"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut stdin = process.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        process.wait_with_output().expect("it ends")
    };
    let hash = stdout(&hash_of(&token));
    assert!(
        hash.starts_with("sha256:") && hash.trim().len() == 71,
        "{hash}"
    );
    assert!(stderr(&made).contains(&format!("token_hash = \"{}\"", hash.trim())));
    for wrong in ["", " \n", "two words"] {
        let refused = hash_of(wrong);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains("expected one token"));
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _ = self.0.wait();
    }
}
