//! `clerkcast tail`, where it cannot connect and where it is told to stop.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, ChildStderr, Command, Stdio};

use crate::harness::{Gateway, Options, binary, body};
use crate::tls::Secured;

/// `tail` under way, killed when dropped.
struct Tail {
    process: Child,
    stderr: BufReader<ChildStderr>,
}

impl Tail {
    fn start(args: &[&str]) -> Self {
        let mut process = binary()
            .arg("tail")
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let stderr = BufReader::new(process.stderr.take().expect("piped"));
        Self { process, stderr }
    }

    fn stderr_line(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).expect("text");
        line
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _status = self.process.wait();
    }
}

/// Ends by itself: exit code, and what it said.
fn ended(args: &[&str]) -> (Option<i32>, String) {
    let output = binary().arg("tail").args(args).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[tokio::test]
async fn tail_stops_at_what_waiting_cannot_mend() {
    let plain = Gateway::start();
    let secured = Secured::start("[anonymous]\n");
    let ca = secured.file("ca.pem").display().to_string();
    let stranger = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(stranger.path(), crate::tls::Authority::new().pem()).expect("written");
    let stranger = stranger.path().display().to_string();

    // Certificates that do not verify, and TLS to a port that does not speak it.
    let tls = format!("https://{}", secured.gateway.grpc);
    let grpcs = format!("grpcs://{}", secured.gateway.grpc);
    let tls_to_plain = format!("grpcs://{}", plain.grpc);
    let tls_to_webhooks = format!("https://{}", plain.http);
    for (args, remedy) in [
        (&["--server", &tls][..], "--ca-cert"),
        (&["--server", &grpcs, "--ca-cert", &stranger], "--ca-cert"),
        (&["--server", &tls_to_plain], "http://"),
        (&["--server", &tls_to_webhooks], "http://"),
    ] {
        let (code, said) = ended(args);
        assert_eq!(code, Some(1), "{args:?}: {said}");
        assert!(said.contains(remedy) && said.contains("TLS"), "{said}");
        assert!(!said.contains("trying again"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    // What another port or a start of the gateway would mend is waited for, with a hint.
    let http_1 = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let answers = http_1.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in http_1.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let mut request = [0; 64];
            let _head = stream.read(&mut request);
            let _gone = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let retried = [
        (format!("http://{}", secured.gateway.grpc), Some("https://")),
        (format!("grpc://{}", plain.http), Some("speak gRPC?")),
        (format!("http://{}", plain.admin), Some("speak gRPC?")),
        (format!("http://{answers}"), Some("speak gRPC?")),
        ("http://127.0.0.1:1".to_owned(), None),
    ];
    let mut tails = retried.map(|(server, hint)| {
        let tail = Tail::start(&["--server", &server]);
        (tail, server, hint)
    });
    // More often than a stream may break in the same way.
    for (tail, server, hint) in &mut tails {
        for _ in 0..6 {
            let line = tail.stderr_line();
            assert!(line.contains("not connected yet"), "{server}: {line}");
            assert!(line.contains("trying again"), "{server}: {line}");
            assert_eq!(hint.is_some(), line.contains("speak gRPC?"), "{line}");
            assert!(hint.is_none_or(|hint| line.contains(hint)), "{line}");
        }
    }

    // Each scheme, and none, reaches the gateway.
    plain.accept("msg_1", body("user.created", "user_1")).await;
    let all = ["--from", "earliest", "--until-caught-up", "--server"];
    for server in [
        format!("http://{}", plain.grpc),
        format!("grpc://{}", plain.grpc),
        plain.grpc.clone(),
    ] {
        let (code, said) = ended(&[&all[..], &[&server]].concat());
        assert_eq!(code, Some(0), "{server}: {said}");
        assert_eq!(said.lines().next(), Some("clerkcast: connected"));
    }
    let (code, said) = ended(&[&all[..], &[&grpcs, "--ca-cert", &ca]].concat());
    assert_eq!(code, Some(0), "{said}");
}

/// Once a stream was open, the address is right, and whatever happens is waited for.
#[tokio::test]
async fn tail_waits_for_a_gateway_that_was_there() {
    let mut gateway = Gateway::start();
    let mut tail = Tail::start(&["--server", &format!("http://{}", gateway.grpc)]);
    assert!(tail.stderr_line().contains("connected"));
    assert!(tail.stderr_line().contains("policy"));
    gateway.kill();
    for _ in 0..3 {
        let line = tail.stderr_line();
        assert!(
            line.contains("trying again") && !line.contains("speak gRPC?"),
            "{line}"
        );
        assert!(line.contains("connection lost"), "{line}");
    }
}

#[tokio::test]
async fn tail_says_how_to_resume() {
    let gateway = Gateway::start();
    let server = format!("http://{}", gateway.grpc);
    for (id, name) in [
        ("msg_1", "user.updated"),
        ("msg_2", "user.updated"),
        ("msg_3", "session.created"),
        ("msg_4", "user.deleted"),
    ] {
        gateway.accept(id, body(name, "user_1")).await;
    }
    let mut tail = Tail::start(&["--server", &server, "--from", "earliest", "-v"]);
    let stdout = tail.process.stdout.take().expect("piped");
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let last = lines.find(|line| line.contains("msg_4"));
    assert!(last.is_some());
    // The verified body below, on lines of its own.
    assert_eq!(lines.next().as_deref(), Some("    {"));
    assert_eq!(
        lines.find(|line| line.starts_with("    }")).as_deref(),
        Some("    }")
    );
    assert!(tail.stderr_line().contains("connected"));
    // What is sealed from callers without credentials is told at the first stream.
    assert!(tail.stderr_line().contains("`grant = ["));
    let pid = tail.process.id().to_string();
    let status = Command::new("kill").args(["-INT", &pid]).status();
    assert!(status.expect("kill runs").success());
    let said = tail.stderr_line();
    assert_eq!(tail.process.wait().expect("it ends").code(), Some(130));
    let counts = "clerkcast: 4 events (2 user.updated, 1 session.created, …); resume with --after ";
    let cursor = said
        .strip_prefix(counts)
        .unwrap_or_else(|| panic!("{said}"));
    gateway
        .accept("msg_5", body("user.created", "user_1"))
        .await;
    let rest = binary()
        .args([
            "tail",
            "--server",
            &server,
            "--until-caught-up",
            "--after",
            cursor.trim(),
        ])
        .output()
        .expect("it runs");
    let rest = String::from_utf8_lossy(&rest.stdout).into_owned();
    assert_eq!(rest.lines().count(), 1, "{rest}");
    assert!(rest.contains("msg_5"));
}

#[test]
fn tail_reports_once_what_a_policy_takes_away() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let file = directory.path().join("clerkcast.toml");
    let config = "[anonymous]\ntypes = [\"user.*\", \"email.*\"]\nredact = [\"contact\"]\n";
    std::fs::write(&file, config).expect("written");
    let gateway = Gateway::start_with(Options::args(&["--config", &file.display().to_string()]));
    let server = format!("http://{}", gateway.grpc);
    let (code, said) = ended(&[
        "--server",
        &server,
        "--from",
        "earliest",
        "--until-caught-up",
    ]);
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "only types: ",
        "user.*",
        "fields removed: contact, messages",
        "grant = [\"messages\"]",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let (_, said) = ended(&["--server", &server, "--type", "user.*", "--until-caught-up"]);
    assert!(
        said.contains("contact") && !said.contains("grant"),
        "{said}"
    );
}
