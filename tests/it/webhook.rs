//! The HTTP contract: what is accepted, what is refused, and how it is told.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{
    Gateway, OTHER_SECRET, Options, SECRET, body, eventually, from_earliest, now_seconds, sign,
};

#[tokio::test]
async fn a_signed_event_is_accepted_and_its_repetition_is_answered_as_a_duplicate() {
    let gateway = Gateway::start();
    let event = body("user.created", "user_1");
    let first = gateway.post("msg_1", event.clone()).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.text, r#"{"id":"msg_1","duplicate":false}"#);
    let second = gateway.post("msg_1", event).await;
    assert_eq!(second.status, 200);
    assert_eq!(second.text, r#"{"id":"msg_1","duplicate":true}"#);
}

#[tokio::test]
async fn a_trailing_slash_is_accepted_and_get_explains_the_url() {
    let gateway = Gateway::start();
    let event = Bytes::from(body("user.created", "user_1"));
    let headers = sign(SECRET, "msg_1", now_seconds(), &event);
    let answer = gateway
        .request("POST", "/webhooks/clerk/", &headers, event.clone())
        .await;
    assert_eq!(answer.expect("answered").status, 200);
    let answer = gateway
        .request("POST", "/webhooks/clerk/default/", &headers, event)
        .await;
    assert!(
        answer.expect("answered").json()["duplicate"]
            .as_bool()
            .expect("a bool")
    );
    for path in [
        "/webhooks/clerk",
        "/webhooks/clerk/",
        "/webhooks/clerk/default",
    ] {
        let answer = gateway
            .request("GET", path, &[], Bytes::new())
            .await
            .expect("answered");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text.lines().count(), 1);
        assert!(answer.text.contains("Clerk webhooks"));
    }
}

#[tokio::test]
async fn a_delivery_that_cannot_be_verified_is_a_400_that_says_what_to_check() {
    let gateway = Gateway::start();
    let event = Bytes::from(body("user.created", "user_1"));
    let now = now_seconds();
    let good = sign(SECRET, "msg_1", now, &event);
    let without = |name: &str| {
        good.iter()
            .filter(|(n, _)| n != name)
            .cloned()
            .collect::<Vec<_>>()
    };
    let resplit = sign(SECRET, "msg_1.1.{", now, b"}");
    let not_utf8 = Bytes::from_static(b"{\"a\":\"\xff\"}");
    let cases = [
        ("missing_header", without("svix-id"), event.clone()),
        ("missing_header", without("svix-timestamp"), event.clone()),
        ("missing_header", without("svix-signature"), event.clone()),
        (
            "signature_mismatch",
            sign(OTHER_SECRET, "msg_1", now, &event),
            event.clone(),
        ),
        (
            "signature_mismatch",
            good.clone(),
            Bytes::from(format!("{} ", body("a", "b"))),
        ),
        // Far enough from the bound that a slow machine cannot cross it.
        (
            "timestamp_too_old",
            sign(SECRET, "msg_1", now - 301, &event),
            event.clone(),
        ),
        (
            "timestamp_too_new",
            sign(SECRET, "msg_1", now + 3600, &event),
            event.clone(),
        ),
        ("body_not_utf8", good.clone(), not_utf8),
        // The signature of another id and a longer body.
        ("malformed_header", resplit, "}".into()),
    ];
    for (error, headers, body) in cases {
        let answer = gateway
            .request("POST", "/webhooks/clerk", &headers, body)
            .await;
        let answer = answer.expect("answered");
        assert_eq!(answer.status, 400, "{error}: {}", answer.text);
        assert_eq!(answer.json()["error"], error);
        assert!(!answer.text.contains("whsec_"));
        assert!(!answer.text.contains(SECRET.trim_start_matches("whsec_")));
    }
    assert!(gateway.history(from_earliest()).await.is_empty());
}

#[tokio::test]
async fn a_delivery_signed_just_inside_the_tolerance_is_accepted() {
    let gateway = Gateway::start();
    let event = Bytes::from(body("user.created", "user_1"));
    // The exact bound, ±300 and ±301 s, is held against a clock that stands, in clock.rs.
    for (id, offset) in [("msg_1", -200), ("msg_2", 300)] {
        let headers = sign(SECRET, id, now_seconds() + offset, &event);
        let answer = gateway
            .request("POST", "/webhooks/clerk", &headers, event.clone())
            .await;
        assert_eq!(answer.expect("answered").status, 200);
    }
}

#[tokio::test]
async fn a_rotated_secret_and_a_list_of_signatures_verify() {
    let both = format!("{OTHER_SECRET} {SECRET}");
    let gateway = Gateway::start_with(Options {
        env: vec![("CLERK_WEBHOOK_SIGNING_SECRET".to_owned(), both)],
        ..Options::default()
    });
    let event = Bytes::from(body("user.created", "user_1"));
    for (id, secret) in [("msg_old", OTHER_SECRET), ("msg_new", SECRET)] {
        let answer = gateway.post_signed("", secret, id, event.clone()).await;
        assert_eq!(answer.status, 200);
    }
    // During a rotation Svix signs with both keys, and other versions may stand beside.
    let mut headers = sign(SECRET, "msg_list", now_seconds(), &event);
    let unknown_key = sign(
        "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "msg_list",
        now_seconds(),
        &event,
    );
    headers[2].1 = format!("v1a,c2ln {} {}", unknown_key[2].1, headers[2].1);
    let answer = gateway
        .request("POST", "/webhooks/clerk", &headers, event.clone())
        .await;
    assert_eq!(answer.expect("answered").status, 200);
    // Both endpoints deliver each event, with one id.
    let again = gateway
        .post_signed("", OTHER_SECRET, "msg_new", event)
        .await;
    assert_eq!(again.json()["duplicate"], true);
    assert_eq!(gateway.history(from_earliest()).await.len(), 3);
}

#[tokio::test]
async fn unknown_paths_sources_and_methods_are_distinguished() {
    let gateway = Gateway::start();
    let request = |method, path| gateway.request(method, path, &[], Bytes::new());
    let unknown_source = request("POST", "/webhooks/clerk/nobody")
        .await
        .expect("answered");
    assert_eq!(unknown_source.status, 404);
    assert_eq!(unknown_source.json()["error"], "unknown_source");
    let unknown_path = request("POST", "/webhook").await.expect("answered");
    assert_eq!(unknown_path.status, 404);
    for method in ["PUT", "DELETE", "PATCH"] {
        let answer = request(method, "/webhooks/clerk").await.expect("answered");
        assert_eq!(answer.status, 405);
        assert_eq!(answer.headers["allow"], "GET, HEAD, POST");
    }
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused_announced_or_not() {
    let gateway = Gateway::start_with(Options::args(&["--body-limit", "1KiB"]));
    let large = Bytes::from(vec![b' '; 1025]);
    let answer = gateway.post("msg_1", large).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["error"], "body_too_large");
    let at_limit = Bytes::from(vec![b' '; 1024]);
    assert_eq!(gateway.post("msg_2", at_limit).await.status, 200);

    // A chunked body announces no length.
    let mut socket = TcpStream::connect(&gateway.http).await.expect("connected");
    let head = "POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\
                svix-id: msg_3\r\nsvix-timestamp: 1\r\nsvix-signature: v1,x\r\n\r\n";
    socket.write_all(head.as_bytes()).await.expect("sent");
    let chunk = format!("401\r\n{}\r\n0\r\n\r\n", "x".repeat(0x401));
    socket.write_all(chunk.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 12];
    socket.read_exact(&mut answer).await.expect("answered");
    assert_eq!(answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_a_408() {
    let gateway = Gateway::start_with(Options::args(&["--body-timeout", "200ms"]));
    let mut socket = TcpStream::connect(&gateway.http).await.expect("connected");
    let head = "POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\
                svix-id: msg_1\r\nsvix-timestamp: 1\r\nsvix-signature: v1,x\r\n\r\n{";
    socket.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 12];
    socket.read_exact(&mut answer).await.expect("answered");
    assert_eq!(answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn more_than_the_in_flight_budget_is_a_503_with_retry_after() {
    let args = [
        "--in-flight-limit",
        "100KiB",
        "--body-limit",
        "100KiB",
        "--body-timeout",
        "60s",
    ];
    let gateway = Gateway::start_with(Options::args(&args));
    // Holds the whole budget but for a byte, which does not come.
    let mut holder = TcpStream::connect(&gateway.http).await.expect("connected");
    let head = "POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ncontent-length: 102400\r\n\
                svix-id: msg_1\r\nsvix-timestamp: 1\r\nsvix-signature: v1,x\r\n\r\n";
    holder.write_all(head.as_bytes()).await.expect("sent");
    holder.write_all(&[b' '; 102_399]).await.expect("sent");
    eventually("what has arrived uses up the budget", || async {
        gateway.metric("clerkcast_webhook_in_flight_bytes").await == 102_399.0
    })
    .await;
    let answer = gateway.post("msg_3", body("user.created", "user_1")).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"], "overloaded");
    let retry_after: u64 = answer.headers["retry-after"]
        .to_str()
        .expect("ascii")
        .parse()
        .expect("seconds");
    assert!(Duration::from_secs(retry_after) <= Duration::from_secs(60));

    drop(holder);
    eventually("the budget is given back", || async {
        gateway
            .post("msg_2", body("user.created", "user_1"))
            .await
            .status
            == 200
    })
    .await;
}

#[tokio::test]
async fn sources_have_their_own_secrets_and_their_instance_is_pinned() {
    let config = tempfile::NamedTempFile::new().expect("a temporary file");
    let text = format!(
        "[[sources]]\nname = \"staging\"\nsigning_secrets = [\"{OTHER_SECRET}\"]\ninstance_id = \"ins_1\"\n\n\
         [[sources]]\nname = \"eu\"\nsigning_secrets_env = [\"EU_SECRET\"]\n"
    );
    std::fs::write(config.path(), text).expect("written");
    let gateway = Gateway::start_with(Options {
        args: vec!["--config".to_owned(), config.path().display().to_string()],
        env: vec![("EU_SECRET".to_owned(), OTHER_SECRET.to_owned())],
    });
    let event = Bytes::from(body("user.created", "user_1"));
    let ok = gateway
        .post_signed("/staging", OTHER_SECRET, "msg_1", event.clone())
        .await;
    assert_eq!(ok.status, 200, "{}", ok.text);
    let wrong_secret = gateway
        .post_signed("/staging", SECRET, "msg_2", event.clone())
        .await;
    assert_eq!(wrong_secret.json()["error"], "signature_mismatch");
    // The same id from another source is another event.
    let other = gateway
        .post_signed("/eu", OTHER_SECRET, "msg_1", event)
        .await;
    assert_eq!(other.json()["duplicate"], false);

    let foreign = Bytes::from(r#"{"type":"user.created","data":{},"instance_id":"ins_2"}"#);
    let refused = gateway
        .post_signed("/staging", OTHER_SECRET, "msg_3", foreign)
        .await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["error"], "instance_mismatch");
    // Svix's ping names no instance.
    let ping = Bytes::from_static(br#"{"success":true}"#);
    assert_eq!(
        gateway
            .post_signed("/staging", OTHER_SECRET, "msg_4", ping)
            .await
            .status,
        200
    );

    let sources: Vec<String> = gateway
        .history(from_earliest())
        .await
        .into_iter()
        .map(|event| event.source)
        .collect();
    assert_eq!(sources, ["staging", "eu", "staging"]);
}

#[tokio::test]
async fn no_redirect_is_ever_answered() {
    let gateway = Gateway::start();
    for path in [
        "/",
        "/webhooks",
        "/webhooks/",
        "/webhooks//clerk",
        "/webhooks/clerk//",
        "/WEBHOOKS/CLERK",
    ] {
        let answer = gateway
            .request("POST", path, &[], Bytes::new())
            .await
            .expect("answered");
        assert!(answer.status >= 400, "{path}: {}", answer.status);
    }
}

/// What shows at a body that does not verify is named, instead of doubts about the secret.
#[tokio::test]
async fn a_change_to_the_body_is_named_in_the_answer() {
    use base64::Engine as _;
    let gateway = Gateway::start();
    let signed = body("user.created", "user_1");
    let encoded = base64::engine::general_purpose::STANDARD.encode(&signed);
    for (received, encoding, named) in [
        ("", None, "the body is empty"),
        (encoded.as_str(), None, "base64"),
        ("payload=1", None, "not JSON"),
        (&signed[..40], None, "not JSON"),
        (&format!("{signed} "), Some("gzip"), "content-encoding"),
        (&format!("{signed} "), None, "signing secret"),
    ] {
        let mut headers = sign(SECRET, "msg_1", now_seconds(), signed.as_bytes()).to_vec();
        headers.extend(encoding.map(|name: &str| ("content-encoding".to_owned(), name.to_owned())));
        let answer = gateway.request(
            "POST",
            "/webhooks/clerk",
            &headers,
            received.to_owned().into(),
        );
        let answer = answer.await.expect("answered");
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["error"], "signature_mismatch");
        let message = answer.json()["message"].to_string();
        assert!(message.contains(named), "{received}: {message}");
        assert_eq!(
            message.contains("secret"),
            named.contains("secret"),
            "{message}"
        );
    }
    let headers = sign(SECRET, "msg_1", now_seconds() * 1000, signed.as_bytes());
    let answer = gateway.request("POST", "/webhooks/clerk", &headers, signed.into());
    let answer = answer.await.expect("answered");
    assert_eq!(answer.json()["error"], "timestamp_too_new");
    let message = answer.json()["message"].to_string();
    assert!(
        message.contains("milliseconds?") && !message.contains("clock"),
        "{message}"
    );
}
