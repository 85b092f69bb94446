//! What a reload does about each option.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use clerkcast::cli::options::{AtReload, OPTIONS};
use tempfile::TempDir;

use super::write;
use crate::harness::{SECRET, binary};

/// The tables of the file, beside its options.
const TABLES: [&str; 3] = ["anonymous", "principals", "sources"];

/// A gateway that has everything from its file.
struct FromFile {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl FromFile {
    fn start(file: &str) -> Self {
        let mut process = binary()
            .args(["serve", "--config", file])
            .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = process.stderr.take().expect("piped");
        let lines = BufReader::new(stderr).lines();
        let mut gateway = Self { process, lines };
        gateway.lines_until("ready");
        gateway
    }

    fn lines_until(&mut self, message: &str) -> Vec<serde_json::Value> {
        let mut lines = Vec::new();
        loop {
            let line = self.lines.next().expect("no end").expect("text");
            let line: serde_json::Value = serde_json::from_str(&line).expect(&line);
            let is_it = line["message"] == message;
            lines.push(line);
            if is_it {
                return lines;
            }
        }
    }

    /// The keys that a reload says need a restart.
    fn keys_after_hangup(&mut self) -> Vec<String> {
        let pid = self.process.id().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-HUP", &pid])
            .status();
        assert!(sent.expect("kill runs").success());
        let lines = self.lines_until("configuration reloaded");
        let mut told = lines.iter().filter_map(|line| {
            let message = line["message"].as_str()?;
            let keys = message.strip_prefix("restart to take up: ")?;
            assert_eq!(line["level"], "WARN");
            Some(keys.split(", ").map(str::to_owned).collect())
        });
        told.next().unwrap_or_default()
    }
}

impl Drop for FromFile {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// Another value than its default, for each option.
fn other_value(key: &str, directory: &str) -> String {
    let path = |name: &str| format!("\"{directory}/{name}\"");
    match key {
        "http_listen" => "\"127.0.0.1:1\"".to_owned(),
        "grpc_listen" => "\"127.0.0.1:2\"".to_owned(),
        "admin_listen" => "\"127.0.0.1:3\"".to_owned(),
        "grpc_allow_anonymous" => "true".to_owned(),
        "grpc_open" => "\"none\"".to_owned(),
        "data_dir" => path("other"),
        "retain_for" => "\"40d\"".to_owned(),
        "retain_bytes" => "\"20GiB\"".to_owned(),
        "body_limit" => "\"1KiB\"".to_owned(),
        "body_timeout" | "drain_timeout" => "\"1s\"".to_owned(),
        "in_flight_limit" | "ring_size" => "\"8MiB\"".to_owned(),
        "max_subscribers"
        | "max_subscriptions"
        | "http_max_connections"
        | "grpc_max_connections" => "7".to_owned(),
        "log" => "\"nats\"".to_owned(),
        "nats_url" => "\"nats://127.0.0.1:1\"".to_owned(),
        "nats_credentials" | "nats_tls_ca" => path("file.pem"),
        "nats_tls_cert" | "http_tls_cert" | "grpc_tls_cert" => path("cert.pem"),
        "nats_tls_key" | "http_tls_key" | "grpc_tls_key" => path("key.pem"),
        "nats_stream" => "\"OTHER\"".to_owned(),
        "nats_subject_prefix" => "\"other\"".to_owned(),
        "nats_replicas" => "3".to_owned(),
        "nats_duplicate_window" => "\"30h\"".to_owned(),
        "http_allow_from" | "http_trusted_proxies" => "\"10.0.0.0/8\"".to_owned(),
        "log_format" => "\"text\"".to_owned(),
        "log_level" => "\"debug\"".to_owned(),
        "otlp_endpoint" => "\"http://127.0.0.1:4\"".to_owned(),
        "otlp_sample_ratio" => "0.5".to_owned(),
        other => panic!("give {other} a value here"),
    }
}

#[test]
fn a_reload_names_what_needs_a_restart() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path().display().to_string();
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
    let pair = pair.expect("a certificate");
    write(directory.path(), "cert.pem", &pair.cert.pem());
    write(
        directory.path(),
        "key.pem",
        &pair.signing_key.serialize_pem(),
    );
    let start = format!(
        "http_listen = \"127.0.0.1:0\"\ngrpc_listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\
         data_dir = \"{at}/data\"\nlog_format = \"json\"\n"
    );
    let file = write(directory.path(), "clerkcast.toml", &start);
    let mut gateway = FromFile::start(&file);
    assert!(
        gateway.keys_after_hangup().is_empty(),
        "nothing has changed"
    );

    // An authority is taken together with a principal that shows its certificate, which a
    // port without TLS cannot take: see below.
    let changed: Vec<_> = OPTIONS
        .iter()
        .filter(|option| option.is_in_file() && option.key != "grpc_tls_client_ca")
        .collect();
    let lines = changed
        .iter()
        .map(|option| format!("{} = {}\n", option.key, other_value(option.key, &at)));
    write(
        directory.path(),
        "clerkcast.toml",
        &lines.collect::<String>(),
    );
    let expected: Vec<&str> = changed
        .iter()
        .filter(|option| match option.at_reload {
            AtReload::TakenUp | AtReload::TakenUpByEmbeddedLog => false,
            AtReload::NeedsRestart | AtReload::TakenUpByTls => true,
        })
        .map(|option| option.key)
        .collect();
    assert!(expected.len() > 20, "{expected:?}");
    assert_eq!(gateway.keys_after_hangup(), expected);

    // Each alone, among those that may stand alone.
    for key in ["ring_size", "grpc_open", "data_dir", "drain_timeout"] {
        let config = match key {
            "data_dir" => start.replace(&format!("{at}/data"), &format!("{at}/else")),
            _ => format!("{key} = {}\n{start}", other_value(key, &at)),
        };
        write(directory.path(), "clerkcast.toml", &config);
        assert_eq!(gateway.keys_after_hangup(), [key]);
    }
    // Back again, or written as it was by default, there is nothing to take up.
    write(
        directory.path(),
        "clerkcast.toml",
        &format!("ring_size = \"64MiB\"\n{start}"),
    );
    assert!(gateway.keys_after_hangup().is_empty());
}

#[test]
fn a_port_that_speaks_tls_takes_up_other_files() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path().display().to_string();
    for name in ["one", "two"] {
        let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
        let pair = pair.expect("a certificate");
        write(directory.path(), &format!("{name}.pem"), &pair.cert.pem());
        write(
            directory.path(),
            &format!("{name}.key"),
            &pair.signing_key.serialize_pem(),
        );
    }
    let config = |name: &str, more: &str| {
        format!(
            "http_listen = \"127.0.0.1:0\"\ngrpc_listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\
             data_dir = \"{at}/data\"\nlog_format = \"json\"\n\
             grpc_tls_cert = \"{at}/{name}.pem\"\ngrpc_tls_key = \"{at}/{name}.key\"\n{more}"
        )
    };
    let file = write(directory.path(), "clerkcast.toml", &config("one", ""));
    let mut gateway = FromFile::start(&file);
    let clients = format!(
        "grpc_tls_client_ca = \"{at}/two.pem\"\n[[principals]]\nname = \"a\"\nclient_certificate = \"*\"\n"
    );
    write(directory.path(), "clerkcast.toml", &config("two", &clients));
    assert!(gateway.keys_after_hangup().is_empty());
}

/// What `config check` prints of a file.
fn checked(text: &str) -> Vec<String> {
    let directory = TempDir::new().expect("a temporary directory");
    let file = write(directory.path(), "clerkcast.toml", text);
    let output = binary()
        .args(["config", "check", "--no-env", &file])
        .output();
    let output = output.expect("it runs");
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = lines.lines().map(|line| line.replace(&file, "FILE"));
    lines.collect()
}

#[test]
fn every_option_has_one_name_as_flag_variable_and_key() {
    let help = binary().args(["serve", "--help"]).output();
    let help = String::from_utf8(help.expect("it runs").stdout).expect("UTF-8");
    let mut flags = Vec::new();
    for section in help.split("\n      --").skip(1) {
        let flag = section.split_whitespace().next().expect("a flag");
        let variable = section.split("[env: ").nth(1);
        let variable = variable.and_then(|rest| rest.split([']', '=']).next());
        flags.push((flag, variable));
    }
    for option in OPTIONS.iter() {
        let key = option.key;
        let flag = key.replace('_', "-");
        let variable = format!("CLERKCAST_{}", key.to_uppercase());
        // The secret has variables of its own.
        let variable = (key != "signing_secret").then_some(variable.as_str());
        let is_it = |(shown, _): &&(&str, _)| *shown == flag;
        let shown: Vec<_> = flags.iter().filter(is_it).collect();
        assert_eq!(shown, [&(flag.as_str(), variable)], "{key}");
    }
    let beside = flags.len() - OPTIONS.len();
    assert_eq!(beside, 1, "--config alone: {flags:?}");

    // No option is a list: each is known, or belongs elsewhere.
    let file: String = OPTIONS
        .iter()
        .map(|option| format!("{} = []\n", option.key))
        .collect();
    let lines = checked(&file);
    for (index, option) in OPTIONS.iter().enumerate() {
        let start = format!("FILE:{}: {}: ", index + 1, option.key);
        let line = lines.iter().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("{start}\n{lines:?}"));
        let is_known = line.contains("invalid type");
        assert_eq!(is_known, option.is_in_file(), "{line}");
        let is_elsewhere = ["signing_secret", "instance_id"].contains(&option.key);
        assert_eq!(is_known, !is_elsewhere, "{line}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
    let keys = OPTIONS.iter().filter(|option| option.is_in_file());
    let keys: Vec<&str> = keys.map(|option| option.key).chain(TABLES).collect();
    // Each with one letter more than the nearest name has.
    let file: String = keys.iter().map(|key| format!("{key}x = 1\n")).collect();
    let lines = checked(&file);
    for (index, key) in keys.iter().enumerate() {
        let line = format!(
            "FILE:{}: {key}x: unknown field `{key}x`; did you mean {key}?",
            index + 1
        );
        assert!(lines.contains(&line), "{line}\n{lines:?}");
    }
    let far = checked("http_listen = \"127.0.0.1:0\"\nnothing_like_it = 1\n");
    let line = "FILE:2: nothing_like_it: unknown field `nothing_like_it`".to_owned();
    assert!(far.contains(&line), "{far:?}");
}
