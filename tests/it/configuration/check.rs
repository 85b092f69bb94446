//! `clerkcast config check`.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use super::{BILLING, Configured, secret_of, source, write};
use crate::harness::{Gateway, OTHER_SECRET, Options, SECRET, binary};
use crate::readme::toml_block;
use crate::refused::refused_start;

fn check(configure: impl FnOnce(&mut Command)) -> Output {
    let mut command = binary();
    command.args(["config", "check"]);
    command.env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET);
    configure(&mut command);
    command.output().expect("it runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const WRONG: &str = "\
http_listen = \"localhost:80\"
retain_for = \"soon\"
retain_bytes = 5
htpp_listen = \"127.0.0.1:0\"
max_subscribers = 0

[[sources]]
name = \"A b\"
signing_secrets = [
  \"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\",
  \"sk_live_C2FVsBQIhrscChlQ\",
]

[[sources]]
name = \"staging\"
signing_secrets_env = [\"NOT_SET_ANYWHERE\"]
signing_secret = \"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\"

[[principals]]
name = \"billing\"
token_hash = \"sha256:00\"
types = [\"user.craeted\", \"user.*\", \"sesion.ended\"]
redact = [\"data.private_metdata\"]
payload = \"no\"
data_dir = \"/var/lib/clerkcast\"
";

#[test]
fn config_check_reports_all_errors() {
    let directory = TempDir::new().expect("a temporary directory");
    let file = write(directory.path(), "wrong.toml", WRONG);
    let expected = [
        (1, "http_listen", "write IP:PORT"),
        (2, "retain_for", "not a duration"),
        (3, "retain_bytes", "expected a string"),
        (4, "htpp_listen", "did you mean http_listen?"),
        (5, "max_subscribers", "must be more than 0"),
        (8, "sources[0].name", "a name is 1 to 64 of"),
        (
            11,
            "sources[0].signing_secrets",
            "signing_secrets[1]: this is a Clerk secret key",
        ),
        (
            16,
            "sources[1].signing_secrets_env",
            "NOT_SET_ANYWHERE is not set",
        ),
        (
            17,
            "sources[1].signing_secret",
            "did you mean signing_secrets?",
        ),
        (21, "principals[0].token_hash", "64 hexadecimal digits"),
        (22, "principals[0].types", "types[0]"),
        (22, "principals[0].types", "types[2]"),
        (
            23,
            "principals[0].redact",
            "did you mean data.private_metadata?",
        ),
        (24, "principals[0].payload", "expected true or false"),
        (
            25,
            "principals[0].data_dir",
            "write it above the first [[table]]",
        ),
    ];
    let printed = check(|command| {
        command.arg(&file);
    });
    assert_eq!(printed.status.code(), Some(2));
    let lines = stdout(&printed);
    for (line, key, message) in expected {
        let start = format!("{file}:{line}: {key}: ");
        let is_told = |told: &str| told.starts_with(&start) && told.contains(message);
        assert!(lines.lines().any(is_told), "{start}{message}\n{lines}");
    }
    assert_eq!(lines.lines().count(), expected.len(), "{lines}");

    let json = check(|command| {
        command.args(["--json", "--config", &file]);
    });
    assert_eq!(json.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["ok"], false);
    let errors = json["errors"].as_array().expect("a list");
    assert_eq!(errors.len(), expected.len());
    for (line, key, message) in expected {
        let is_told = |error: &serde_json::Value| {
            let text = error["message"].as_str().expect("text");
            error["file"] == file.as_str()
                && error["line"] == line
                && error["key"] == key
                && text.contains(message)
        };
        assert!(errors.iter().any(is_told), "{line} {key}: {json}");
    }
    for told in [lines, json.to_string()] {
        assert!(!told.contains("C2FVsBQIhrsc"), "{told}");
    }
}

/// A pattern may be meant for types that Clerk adds, and is no error.
#[test]
fn config_check_doubts_patterns_that_match_nothing() {
    let directory = TempDir::new().expect("a temporary directory");
    let doubtful = format!("{BILLING}types = [\"usr.*\", \"user.*\", \"*\"]\n");
    let file = write(directory.path(), "doubtful.toml", &doubtful);
    let checked = check(|command| {
        command.args(["--json", "--config", &file]);
    });
    let json: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    assert_eq!(json["ok"], true, "{json}");
    let warnings = json["warnings"].as_array().expect("a list");
    let doubts: Vec<_> = warnings
        .iter()
        .filter_map(|warning| warning.as_str())
        .filter(|warning| warning.contains("matches no type"))
        .collect();
    let doubt = "principal billing: usr.* matches no type that is known; did you mean user.*?";
    assert_eq!(doubts, [doubt]);
}

#[test]
fn config_check_says_what_would_run() {
    let directory = TempDir::new().expect("a temporary directory");
    let config = format!(
        "retain_for = \"720h\"\ndata_dir = \"/var/lib/clerkcast\"\n{}{}{BILLING}",
        secret_of("a", SECRET),
        secret_of("b", OTHER_SECRET)
    );
    let file = write(directory.path(), "right.toml", &config);
    let output = check(|command| {
        command.args(["--grpc-listen", "127.0.0.1:7", &file]);
    });
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        stdout(&output),
        "ok: 2 sources, 1 principal, log embedded in /var/lib/clerkcast, retain 30d / 10 GiB, webhooks on 0.0.0.0:8080, subscribers on 127.0.0.1:7\n"
    );
    let warned = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        warned.contains("CLERK_WEBHOOK_SIGNING_SECRET"),
        "it is not used: {warned}"
    );
    let alias = binary().args(["check", "--no-env", &file]).output();
    assert_eq!(alias.expect("it runs").status.code(), Some(0));

    let printed = check(|command| {
        command.args(["--print", "--grpc-listen", "127.0.0.1:7", &file]);
        command.env("CLERKCAST_RING_SIZE", "8MiB");
    });
    let printed = stdout(&printed);
    for line in [
        "grpc_listen = 127.0.0.1:7 (flag)",
        "ring_size = 8MiB (env CLERKCAST_RING_SIZE)",
        "retain_for = 720h (file 1)",
        "http_listen = 0.0.0.0:8080 (default)",
        "sources[1].name = b (file 7)",
    ] {
        assert!(printed.lines().any(|it| it == line), "{line}\n{printed}");
    }
    assert!(!printed.contains("C2FVsBQIhrsc") && !printed.contains("plJ3nmyCDGB"));
    let left_out = check(|command| {
        command
            .args(["--print", "--no-env", &file])
            .env("CLERKCAST_RING_SIZE", "nonsense");
    });
    assert!(
        stdout(&left_out).contains("ring_size = 64MiB (default)"),
        "{left_out:?}"
    );
}

#[test]
fn config_check_prints_secrets_by_fingerprint_wherever_they_are() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let secret = write(at, "secret", SECRET);
    let config = format!(
        "{}{}{}",
        secret_of("a", SECRET),
        source("b", "signing_secrets_env = [\"B_SECRET\"]"),
        source("c", &format!("signing_secrets_file = [\"{secret}\"]")),
    );
    let file = write(at, "sources.toml", &config);
    let output = check(|command| {
        command
            .args(["--print", &file])
            .env("B_SECRET", OTHER_SECRET);
    });
    let printed = stdout(&output);
    let fingerprint = |index: usize| {
        let key = format!("sources[{index}].signing_secrets = ");
        let line = printed.lines().find_map(|line| line.strip_prefix(&key));
        line.unwrap_or_else(|| panic!("no {key}: {printed}"))
    };
    assert_eq!(fingerprint(0), "640bcf02 (file 3)");
    assert_eq!(fingerprint(2), "640bcf02 (file 7)");
    let of_environment = fingerprint(1);
    assert!(of_environment.ends_with(" (file 4)") && !of_environment.contains("640bcf02"));
    assert!(!printed.contains("plJ3nmyCDGB"), "{printed}");
}

fn serve_refuses(file: &Path) -> String {
    let (code, said) = refused_start(|command| {
        command.arg("--config").arg(file);
    });
    assert_eq!(code, Some(2), "{said}");
    said
}

#[test]
fn check_and_serve_agree() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let certificate = "http_tls_cert = \"/does/not/exist\"\nhttp_tls_key = \"/does/not/exist\"\n";
    for wrong in [
        WRONG,
        "nonsense\n",
        "retain_for = 1\nretain_for = 2\n",
        "sources = 1\n",
        "principals = [1]\n",
        "[anonymous]\nname = \"a\"\n",
        "[[sources]]\n",
        &source("a", ""),
        &source("a", "signing_secrets = \"x\""),
        &format!("{}{}", secret_of("a", SECRET), secret_of("a", SECRET)),
        "[[principals]]\nname = \"a\"\n",
        &format!("{BILLING}{BILLING}"),
        "[[principals]]\nname = \"anonymous\"\nclient_certificate = \"a\"\n",
        "grpc_tls_client_ca = \"/does/not/exist\"\n",
        certificate,
        "nats_url = \"nats://127.0.0.1\"\n",
        "log = \"nats\"\n",
        "log = \"nats\"\nnats_url = \"http://h\"\nnats_replicas = 7\n",
        "log = \"files\"\n",
        "log_format = \"xml\"\n",
        "log_level = \"verbose\"\n",
        "body_limit = \"1GiB\"\n",
        "in_flight_limit = \"1KiB\"\n",
        "http_trusted_proxies = \"10.0.0.0/8\"\n",
        "http_allow_from = \"svx\"\n",
        "grpc_open = \"metrics\"\n",
        "grpc_max_connections = 0\n",
        "grpc_allow_anonymous = \"yes\"\n",
    ] {
        let file = write(at, "wrong.toml", wrong);
        let checked = check(|command| {
            command.arg(&file);
        });
        assert_eq!(checked.status.code(), Some(2), "{wrong}");
        let said = serve_refuses(Path::new(&file));
        // `serve` is given the addresses by flags, which win.
        let told = stdout(&checked);
        for line in told.lines().filter(|line| !line.contains("http_listen:")) {
            let message = line.rsplit(": ").next().unwrap_or_default();
            assert!(
                said.contains(message),
                "{wrong}: {message} is not in {said}"
            );
        }
    }
    for right in [
        String::new(),
        BILLING.to_owned(),
        secret_of("a", SECRET),
        "[anonymous]\ntypes = [\"user.*\"]\n".to_owned(),
        "retain_for = \"off\"\nretain_bytes = \"off\"\nhttp_max_connections = 10\n".to_owned(),
        toml_block("CLERK_PROD_SECRETS"),
    ] {
        let file = write(at, "right.toml", &right);
        let checked = check(|command| {
            command.arg(&file).env("CLERK_PROD_SECRETS", SECRET);
        });
        assert_eq!(checked.status.code(), Some(0), "{right}: {checked:?}");
        let env = vec![("CLERK_PROD_SECRETS".to_owned(), SECRET.to_owned())];
        drop(Configured::start_with(&right, env));
    }
}

#[test]
fn check_and_serve_agree_about_the_data_directory() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let file = write(at, "file", "");
    let checked_with = |data_dir: &str| {
        check(|command| {
            command.args(["--json", "--data-dir", data_dir]);
        })
    };
    for data_dir in [
        file.clone(),
        format!("{file}/below"),
        format!("{file}/below/it"),
        at.join("x".repeat(300)).display().to_string(),
    ] {
        let checked = checked_with(&data_dir);
        assert_eq!(checked.status.code(), Some(2), "{data_dir}: {checked:?}");
        let json: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("JSON");
        let errors = json["errors"].as_array().expect("a list");
        assert_eq!(errors.len(), 1, "{json}");
        assert_eq!(errors[0]["key"], "data_dir", "{json}");
        let message = errors[0]["message"].as_str().expect("text");
        let (code, said) = refused_start(|command| {
            command.args(["--data-dir", &data_dir]);
        });
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(message), "{message} is not in {said}");
    }
    for data_dir in [at.join("new"), at.join("new/below"), at.to_owned()] {
        let before = data_dir.exists();
        let data_dir = data_dir.display().to_string();
        let checked = checked_with(&data_dir);
        assert_eq!(checked.status.code(), Some(0), "{checked:?}");
        let json: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("JSON");
        assert_eq!(json["warnings"], serde_json::json!([]), "{json}");
        assert_eq!(Path::new(&data_dir).exists(), before, "nothing is created");
        drop(Gateway::start_with(Options::args(&[
            "--data-dir",
            &data_dir,
        ])));
        std::fs::remove_dir_all(at.join("new")).unwrap_or_default();
    }
}

/// The check may run as another user than the gateway, or before a volume is mounted.
#[test]
fn a_data_directory_that_this_user_cannot_write_to_is_a_warning() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let program = at.join("clerkcast");
    std::fs::copy(binary().get_program(), &program).expect("copied");
    let closed = at.join("closed");
    std::fs::create_dir(&closed).expect("made");
    let set = |path: &Path, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, mode).expect("set");
    };
    set(at, 0o755);
    set(&closed, 0o555);
    for (data_dir, expected) in [
        (closed.clone(), "this user cannot write to"),
        (closed.join("new"), "this user cannot create it in"),
    ] {
        let mut command = Command::new(&program);
        command.args(["config", "check", "--json", "--data-dir"]);
        command
            .arg(&data_dir)
            .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET);
        if rustix::process::geteuid().is_root() {
            command.uid(65_534).gid(65_534);
        }
        let output = command.current_dir("/").output().expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let warnings = json["warnings"].as_array().expect("a list");
        assert_eq!(warnings.len(), 1, "{json}");
        let warning = warnings[0].as_str().expect("text");
        let path = data_dir.display().to_string();
        assert!(
            warning.contains(expected) && warning.contains(&path),
            "{warning}"
        );
    }
}

#[test]
fn retention_shorter_than_a_day_is_a_warning() {
    for (retain_for, is_doubted) in [("23h", true), ("1s", true), ("1d", false), ("off", false)] {
        let checked = check(|command| {
            command.args(["--json", "--retain-for", retain_for]);
        });
        assert_eq!(checked.status.code(), Some(0), "{checked:?}");
        let json: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("JSON");
        let warnings = json["warnings"].to_string();
        let expected = format!("events are removed after {retain_for} (--retain-for)");
        assert_eq!(warnings.contains(&expected), is_doubted, "{warnings}");
    }
}
