//! What commands print of texts that others wrote, and what they do where they cannot print.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clerkcast::proto::{ReceiveRequest, SubscribeRequest};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

use crate::harness::{Gateway, SECRET, binary, body, now_seconds, sign};
use crate::subscriptions::{Caller, named, worker_of};
use crate::terminal::screen;
use crate::worker::work::Process;

/// Sets a title, clears the screen, forges a line, begins a sequence in C1, reverses the rest.
const HOSTILE: &str =
    "user.created\u{1b}]0;PWN\u{7}\u{1b}[2J\nFAKE 2026 line\u{9b}31m\u{202e}\u{2066}\u{feff}\u{7f}";
/// A type that is suggested in place of `zebra.paintet`.
const SUGGESTED: &str = "zebra.painted\u{9b}\u{202e}";
const COLORS: [&str; 3] = ["\x1b[2m", "\x1b[1;36m", "\x1b[0m"];

/// Whether a terminal obeys the character, or reorders or hides others because of it.
fn is_obeyed(character: char) -> bool {
    let hides = ['\u{61c}', '\u{feff}'];
    character.is_control()
        || hides.contains(&character)
        || ('\u{200b}'..='\u{200f}').contains(&character)
        || ('\u{2028}'..='\u{202e}').contains(&character)
        || ('\u{2066}'..='\u{2069}').contains(&character)
}

fn uncolored(text: &str) -> String {
    let text = text.to_owned();
    COLORS
        .iter()
        .fold(text, |text, color| text.replace(color, ""))
}

/// The lines of a text in which a terminal would find something to obey, and forged ones.
fn obeyed(text: &str) -> Vec<String> {
    let plain = uncolored(text);
    let lines = plain
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line));
    let is_forged = |line: &str| line.contains(is_obeyed) || line.starts_with("FAKE");
    let found = lines.filter(|line| is_forged(line));
    found.map(|line| format!("{line:?}")).collect()
}

/// A command, and `CLERKCAST_GRPC_URL`.
fn command(gateway: &Gateway, args: &[&str]) -> Command {
    let mut command = binary();
    command
        .args(args)
        .env("CLERKCAST_GRPC_URL", format!("http://{}", gateway.grpc))
        .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
        .stdin(Stdio::null());
    command
}

/// What is printed into pipes, of both streams.
fn piped(gateway: &Gateway, args: &[&str]) -> (String, String) {
    let output = command(gateway, args).output().expect("it runs");
    let [out, err] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
    assert!(
        !out.is_empty() || !err.is_empty(),
        "{args:?} printed nothing"
    );
    (out, err)
}

/// A gateway with an event whose texts are hostile, in the log, as a dead letter of `crm`, and in
/// `jobs` and `mail`.
async fn with_hostile_event() -> (Gateway, Caller) {
    let gateway = Gateway::start();
    let event = json!({
        "type": HOSTILE,
        "object": "event",
        "timestamp": now_seconds() * 1000,
        "data": {"id": "user_1\u{9b}", "object": "user", "first_name": HOSTILE},
    });
    gateway.accept("msg_1", event.to_string()).await;
    gateway.accept("msg_2", body(SUGGESTED, "user_2")).await;
    let mut caller = Caller::of(&gateway).await;
    for name in ["crm", "jobs", "mail"] {
        caller.create(named(name)).await.expect("created");
    }
    let mut worker = caller.worker("crm").await;
    let delivery = worker.delivery().await;
    caller.reject("crm", &delivery, HOSTILE).await;
    (gateway, caller)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_cannot_command_a_terminal() {
    let (gateway, _caller) = with_hostile_event().await;
    let request = SubscribeRequest {
        filter: crate::harness::types(&[SUGGESTED]),
        ..SubscribeRequest::default()
    };
    let _subscriber = gateway.subscribe(request).await;
    let all = ["tail", "--from", "earliest", "--until-caught-up"];
    let more = |more: &[&'static str]| [&all[..], more].concat();
    let commands = [
        all.to_vec(),
        more(&["-v"]),
        more(&["--json", "--include-payload"]),
        // Exits with what the gateway says.
        vec!["tail", "--type", "zebra.paintet"],
        vec!["get", "msg_1", "-v"],
        vec!["get", "msg_1", "--json", "--include-payload"],
        vec!["types"],
        vec!["types", "--json"],
        vec!["subscribers"],
        vec!["subscription", "dead", "crm"],
        vec!["subscription", "dead", "crm", "--json"],
        // Given back, because they are not acknowledged.
        vec!["work", "jobs", "--max", "1", "--", "false"],
        vec!["tail", "--subscription", "mail", "--max", "1", "-v"],
    ];
    let mut found = Vec::new();
    for args in &commands {
        let (_, printed) = screen(80, &mut command(&gateway, args));
        assert!(!printed.is_empty(), "{args:?}");
        found.extend(
            obeyed(&printed)
                .into_iter()
                .map(|line| format!("{args:?}: {line}")),
        );
        // Lines in color are events; each fits.
        let events = printed.lines().filter(|line| line.contains(COLORS[0]));
        let widths = events.map(|line| uncolored(line).chars().count());
        assert!(widths.max() <= Some(80), "{printed}");
    }
    let is_repeated = |args: &&Vec<&str>| !args.contains(&"--max");
    for args in commands.iter().filter(is_repeated) {
        let (out, err) = piped(&gateway, args);
        let lines = obeyed(&out).into_iter().chain(obeyed(&err));
        found.extend(lines.map(|line| format!("{args:?} | {line}")));
    }
    assert!(found.is_empty(), "{found:#?}");

    // The same text, so that nothing is lost, and one line each.
    let (out, _) = piped(&gateway, &all);
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(
        out.contains("\\u{1b}]0;PWN\\u{7}\\u{1b}[2J\\u{a}FAKE"),
        "{out}"
    );
    let (_, err) = piped(&gateway, &["tail", "--type", "zebra.paintet"]);
    assert!(
        err.contains("did you mean zebra.painted\\u{9b}\\u{202e}?"),
        "{err}"
    );
    let (out, _) = piped(&gateway, &more(&["--json"]));
    let frame: Value = serde_json::from_str(out.lines().next().expect("a line")).expect("JSON");
    assert_eq!(frame["event"]["type"], HOSTILE);
    let (out, _) = piped(&gateway, &["get", "msg_1", "-v"]);
    let body: String = out.lines().skip_while(|line| *line != "    {").collect();
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["data"]["first_name"], HOSTILE);
    // As the gateway sends it to any caller.
    let refused = gateway
        .client()
        .await
        .subscribe(SubscribeRequest {
            filter: crate::harness::types(&["zebra.paintet"]),
            ..SubscribeRequest::default()
        })
        .await
        .expect_err("unknown");
    assert_eq!(obeyed(refused.message()), [""; 0], "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_that_a_caller_chooses_hides_or_reorders_text() {
    let gateway = Gateway::start();
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    for mark in [
        "\u{202e}", "\u{2066}", "\u{200b}", "\u{200d}", "\u{feff}", "\u{2028}",
    ] {
        let name = format!("crm{mark}");
        let mut client = gateway.client().await;
        let subscribed = client.subscribe(SubscribeRequest {
            subscriber_name: name.clone(),
            ..SubscribeRequest::default()
        });
        let received = ReceiveRequest {
            worker_name: name.clone(),
            ..worker_of("crm")
        };
        let named_so = [
            subscribed.await.err(),
            caller.receive(received).await.err(),
            caller.create(named(&name)).await.err(),
        ];
        for refused in named_so {
            let refused = refused.unwrap_or_else(|| panic!("taken: {name:?}"));
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
            assert_eq!(obeyed(refused.message()), [""; 0], "{refused:?}");
        }
    }
    let metrics = gateway.admin_get("/metrics").await;
    assert_eq!(obeyed(&metrics.text), [""; 0]);
    assert_eq!(obeyed(&gateway.log_text()), [""; 0]);
}

/// An endpoint that refuses everything with this text.
fn refusing(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            let _head = stream.read(&mut request);
            let length = text.len();
            let head =
                format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {length}\r\n\r\n{text}");
            let _gone = stream.write_all(head.as_bytes());
        }
    });
    url
}

#[test]
fn what_an_endpoint_answers_cannot_command_a_terminal() {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join("deliveries.ndjson");
    let headers = sign(SECRET, "msg_1", now_seconds(), b"{}");
    let headers: serde_json::Map<String, Value> = headers
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect();
    let delivery = json!({
        "type": "event",
        "event_type": HOSTILE,
        "headers": headers,
        "body_b64": STANDARD.encode("{}"),
    });
    std::fs::write(&path, delivery.to_string()).expect("written");
    let path = path.display().to_string();
    let url = refusing("no\nFAKE: 1 of 1 was accepted\u{9b}2J\u{202e}");
    let send = ["send", "--delivery", &path, "--url", &url];
    let (status, printed) = screen(80, binary().args(send));
    assert_eq!(status.code(), Some(1), "{printed}");
    assert_eq!(obeyed(&printed), [""; 0], "{printed}");
    assert!(printed.contains("no\\u{a}FAKE: 1 of 1"), "{printed}");
    let (_, printed) = screen(80, binary().args(send).arg("--json"));
    assert_eq!(obeyed(&printed), [""; 0], "{printed}");
    let line: Value = serde_json::from_str(printed.lines().next().expect("a line")).expect("JSON");
    assert_eq!(line["type"], HOSTILE);
}

/// Where nothing can be written.
fn full() -> File {
    let device = OpenOptions::new().write(true).open("/dev/full");
    device.expect("a device")
}

/// Commands that print something to standard output and succeed.
fn printing_commands(gateway: &Gateway, directory: &TempDir) -> Vec<Vec<String>> {
    let file = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(file("body"), "{}").expect("written");
    let [id, timestamp, signature, ..] = &sign(SECRET, "msg_1", now_seconds(), b"{}")[..] else {
        panic!("three headers");
    };
    let data_dir = gateway.data_dir().display().to_string();
    let (url, backup, body) = (gateway.webhook_url(), file("backup.db"), file("body"));
    let verify = [
        &["verify", "--id", &id.1, "--timestamp", &timestamp.1][..],
        &["--signature", &signature.1, "--payload", &body],
    ]
    .concat();
    let commands: [&[&str]; 22] = [
        &["--help"],
        &["--version"],
        &["tail", "--help"],
        &["completions", "bash"],
        &["completions", "zsh"],
        &["completions", "fish"],
        &["config", "check"],
        &["config", "check", "--print"],
        &["config", "check", "--json"],
        &["info"],
        &["info", "--json"],
        &["types"],
        &["types", "--json"],
        &["get", "msg_1"],
        &["tail", "--from", "earliest", "--until-caught-up"],
        &["tail", "--subscription", "crm", "--max", "1"],
        &["subscription", "list"],
        &["subscription", "pause", "crm"],
        &["backup", &data_dir, &backup],
        &["token", "new", "billing"],
        &["send", "user.created", "--url", &url],
        &verify,
    ];
    let owned = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect();
    commands.into_iter().map(owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_output_is_lost_fails() {
    let gateway = Gateway::start();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    let mut caller = Caller::of(&gateway).await;
    caller.create(named("crm")).await.expect("created");
    let directory = TempDir::new().expect("a temporary directory");
    let mut wrong = Vec::new();
    for args in printing_commands(&gateway, &directory) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let lost = command(&gateway, &args)
            .stdout(full())
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&lost.stderr);
        let reason = "clerkcast: cannot write to standard output: No space left on device";
        if lost.status.code() != Some(1) || !said.contains(reason) {
            wrong.push(format!("{args:?} > /dev/full: {:?} {said}", lost.status));
        }
        let _none_yet = std::fs::remove_file(directory.path().join("backup.db"));
        // A reader that has read enough.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let closed = command(&gateway, &args)
            .stdout(writer)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&closed.stderr);
        if !closed.status.success() || said.contains("standard output") || said.contains("panicked")
        {
            wrong.push(format!("{args:?} | true: {:?} {said}", closed.status));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // An event that could not be printed was not acknowledged.
    assert_eq!(caller.look("crm").await.acknowledged_count, 0);
}

#[tokio::test]
async fn dev_ends_where_it_cannot_print_events() {
    let directory = TempDir::new().expect("a temporary directory");
    let ports = ["--http-listen", "--grpc-listen", "--admin-listen"];
    let ports = ports.map(|flag| format!("{flag}=127.0.0.1:0"));
    let ports = ports.each_ref().map(String::as_str);
    let args = [&["dev", "--samples"][..], &ports].concat();
    let mut dev = Process::printing_to(full(), directory, "", &args);
    assert_eq!(dev.ended().await.code(), Some(1), "{}", dev.stderr());
    dev.reports("clerkcast: cannot write to standard output")
        .await;
}

/// Runs a command whose standard input has no end.
fn limited(args: &[&str]) -> Output {
    // So that a command that reads on does not take this machine's memory.
    let script = "ulimit -v 4000000; exec \"$@\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .arg(binary().get_program())
        .args(args);
    command.env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET);
    command.stdin(File::open("/dev/zero").expect("a device"));
    command.output().expect("sh runs")
}

#[test]
fn an_endless_file_is_refused() {
    let zero = "/dev/zero";
    let headers = ["--id", "msg_1", "--timestamp", "1", "--signature", "v1,x"];
    let payload = [&["verify"][..], &headers, &["--payload", zero]].concat();
    let tail = ["tail", "--server", "https://127.0.0.1:1"];
    let ca_cert = [&tail[..], &["--ca-cert", zero]].concat();
    let client_cert = [&tail[..], &["--client-cert", zero, "--client-key", zero]].concat();
    for (args, refusal) in [
        (
            &["send", "--delivery", zero][..],
            "--delivery: /dev/zero: larger than 64 MiB",
        ),
        (
            &["send", "--file", zero],
            "--file: /dev/zero: larger than 16 MiB",
        ),
        (
            &["send", "--ca-cert", zero],
            "--ca-cert: /dev/zero: larger than 1 MiB",
        ),
        (
            &["verify", "--delivery", "-"],
            "--delivery: -: larger than 64 MiB",
        ),
        (&payload, "--payload: /dev/zero: larger than 16 MiB"),
        (&ca_cert, "--ca-cert: /dev/zero: larger than 1 MiB"),
        (&client_cert, "--client-cert: /dev/zero: larger than 1 MiB"),
        (&["token", "hash"], "standard input: larger than 4 KiB"),
    ] {
        let refused = limited(args);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {said}");
        assert_eq!(said, format!("clerkcast: {refusal}\n"), "{args:?}");
    }
    // The files of a gateway, as a running one reads them again.
    let check = ["config", "check", "--grpc-tls-cert", zero];
    let checked = limited(&[&check[..], &["--grpc-tls-key", zero]].concat());
    assert_eq!(checked.status.code(), Some(2), "{checked:?}");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(
        said.contains("/dev/zero: it is a device, not a regular file"),
        "{said}"
    );
}
