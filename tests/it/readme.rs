//! The README and the pages under `docs`: their commands, run as they stand there, and what
//! they say of flags.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use clerkcast::api::reason;

use crate::harness::{Gateway, OTHER_SECRET, Options, SECRET, binary, body};
use crate::interop::tools;
use crate::nats::server::Server;

/// The pages that people read, beginning with the README.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(root.join("docs")).expect("there are docs");
    let mut docs: Vec<PathBuf> = entries.map(|entry| entry.expect("a page").path()).collect();
    docs.sort();
    let of_root = [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ];
    let mut pages: Vec<PathBuf> = of_root.map(|name| root.join(name)).to_vec();
    pages.extend(docs);
    pages.push(root.join("benches/README.md"));
    pages
}

fn text_of(page: &Path) -> String {
    std::fs::read_to_string(page).expect("a page")
}

/// All pages, one after the other.
pub(crate) fn manual() -> String {
    let pages = pages();
    let texts: Vec<String> = pages.iter().map(|page| text_of(page)).collect();
    texts.join("\n")
}

/// The blocks of the README, of `docs` and of the benches, each with its language.
fn all_blocks() -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    for page in pages() {
        let text = text_of(&page);
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let Some(language) = line.trim_start().strip_prefix("```") else {
                continue;
            };
            let block = lines.by_ref().take_while(|line| line.trim() != "```");
            let block: Vec<&str> = block.collect();
            blocks.push((language.to_owned(), block.join("\n")));
        }
    }
    blocks
}

/// The languages of all blocks.
pub(crate) fn languages() -> BTreeSet<String> {
    let blocks = all_blocks().into_iter();
    blocks.map(|(language, _)| language).collect()
}

/// All blocks in this language.
pub(crate) fn blocks(language: &str) -> Vec<String> {
    let blocks = all_blocks().into_iter();
    let blocks = blocks.filter(|(of_block, _)| of_block == language);
    blocks.map(|(_, block)| format!("{block}\n")).collect()
}

/// The first `toml` block that has this in it.
pub(crate) fn toml_block(part: &str) -> String {
    let blocks = blocks("toml");
    let block = blocks.into_iter().find(|block| block.contains(part));
    block.unwrap_or_else(|| panic!("no toml block has {part}"))
}

/// The page whose commands `subscriptions::manual` runs.
const SUBSCRIPTIONS: &str = "docs/subscriptions.md";

/// The commands of all pages but [`SUBSCRIPTIONS`].
pub(crate) fn commands() -> Vec<String> {
    let pages = pages();
    let pages = pages.iter().filter(|page| !page.ends_with(SUBSCRIPTIONS));
    pages.flat_map(|page| commands_of(&text_of(page))).collect()
}

/// The commands of all `sh` blocks of a page, with continued lines joined.
pub(crate) fn commands_of(page: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut inside = false;
    for line in page.replace("\\\n", " ").lines().map(str::trim) {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            "" => {}
            _ if inside && !line.starts_with('#') => commands.push(line.to_owned()),
            _ => {}
        }
    }
    commands
}

/// The reasons of the table of gRPC's errors: what stands in its second column.
fn documented_reasons() -> BTreeSet<String> {
    let readme = text_of(&pages()[0]);
    let section = readme
        .split("## Errors over gRPC\n")
        .nth(1)
        .expect("the section");
    let rows = section
        .lines()
        .skip_while(|line| !line.starts_with("| code | `reason` |"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let columns = rows.filter_map(|row| row.split('|').nth(2).map(str::to_owned));
    let reasons = columns.flat_map(|column| {
        let named = column.split('`').skip(1).step_by(2).map(str::to_owned);
        named.collect::<Vec<_>>()
    });
    reasons.collect()
}

#[test]
fn every_reason_stands_in_the_manual_and_every_documented_reason_exists() {
    let reasons = reason::ALL.iter().map(|reason| (*reason).to_owned());
    assert_eq!(documented_reasons(), reasons.collect::<BTreeSet<_>>());
}

/// Splits a command into words as a shell does, for the quoting that the README uses.
pub(crate) fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for character in command.chars() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, ' ') => words.push(String::new()),
            _ => words.last_mut().expect("never empty").push(character),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Runs a `clerkcast …` line against `gateway`, which the environment points it to.
fn run_clerkcast(gateway: &Gateway, args: &[String]) -> Output {
    binary()
        .args(args)
        .env("CLERKCAST_GRPC_URL", format!("http://{}", gateway.grpc))
        .env("CLERKCAST_WEBHOOK_URL", gateway.webhook_url())
        .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
        .output()
        .expect("it runs")
}

/// Runs a `grpcurl …` line with `buf curl`, which does the same and can be installed
/// from a package registry, and returns what it prints first.
fn run_grpcurl(gateway: &Gateway, words: &[String]) -> String {
    let mut command = Command::new(tools().join("venv/bin/buf"));
    command.args(["curl", "--protocol", "grpc", "--http2-prior-knowledge"]);
    let mut words = words.iter().skip(1).filter(|word| *word != "-plaintext");
    let mut target = None;
    while let Some(word) = words.next() {
        match word.as_str() {
            "-d" => {
                command.args(["-d", words.next().expect("a body")]);
            }
            "localhost:50051" => {}
            "describe" => {
                words.next();
                command.arg("--list-methods");
                target = Some(format!("http://{}", gateway.grpc));
            }
            method => target = Some(format!("http://{}/{method}", gateway.grpc)),
        }
    }
    // Away from the repository, whose proto files it would otherwise read.
    let elsewhere = tempfile::TempDir::new().expect("a temporary directory");
    let mut process = command
        .arg(target.expect("a target"))
        .current_dir(elsewhere.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("buf runs");
    // A subscription does not end by itself; its first bytes say that it works.
    let mut first = vec![0; 512];
    let mut stdout = process.stdout.take().expect("piped");
    let length = stdout.read(&mut first).expect("output");
    if length == 0 {
        let output = process.wait_with_output().expect("it ends");
        panic!("{}", String::from_utf8_lossy(&output.stderr));
    }
    process.kill().expect("it was started");
    process.wait().expect("it was started");
    String::from_utf8_lossy(&first[..length]).into_owned()
}

/// Runs the `clerkcast copy …` lines on the log of a gateway that has stopped, and with
/// one server in the place of three.
fn run_copies(stopped: &Gateway, copies: Vec<Vec<String>>) {
    let server = Server::start();
    let elsewhere = tempfile::TempDir::new().expect("a temporary directory");
    assert_eq!(copies.len(), 3);
    for words in copies {
        let args = words[1..].iter().map(|word| match word.as_str() {
            "/var/lib/clerkcast" => stopped.data_dir().display().to_string(),
            "/var/lib/clerkcast-again" => "again".to_owned(),
            urls if urls.starts_with("nats://") => server.url(),
            "3" => "1".to_owned(),
            other => other.to_owned(),
        });
        let copied = binary().args(args).current_dir(&elsewhere).output();
        let copied = copied.expect("it runs");
        let said = String::from_utf8_lossy(&copied.stderr);
        assert!(copied.status.success(), "{words:?}: {said}");
        assert!(!said.contains(" 0 events copied"), "{words:?}: {said}");
    }
}

/// Runs the `clerkcast backup …` line beside the gateway, and restores the file as it says.
async fn back_up(gateway: &Gateway, words: &[String]) {
    let [_, command, data_dir, file] = words else {
        panic!("another command: {words:?}");
    };
    assert_eq!(
        (data_dir.as_str(), file.as_str()),
        ("/var/lib/clerkcast", "/backup/clerkcast.db")
    );
    let restored = tempfile::TempDir::new().expect("a temporary directory");
    let file = restored.path().join("clerkcast.db").display().to_string();
    let data_dir = gateway.data_dir().display().to_string();
    let output = run_clerkcast(gateway, &[command.clone(), data_dir, file]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!output.stdout.is_empty());
    let restored = Gateway::start_in(Arc::new(restored), Options::default());
    let again = restored.post("msg_example", body("a", "b")).await;
    assert_eq!(again.json()["duplicate"], true);
}

/// Whether a command belongs to the README's example of a gateway in production.
fn is_of_production(command: &str) -> bool {
    command.contains("/etc/clerkcast") || command.contains("clerkcast.internal")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_works() {
    let gateway = Gateway::start();
    gateway
        .accept("msg_example", body("user.created", "user_1"))
        .await;
    let mut ran = 0;
    let mut copies = Vec::new();
    for command in commands() {
        let words = words(&command);
        match words[0].as_str() {
            // `snippets::production` runs these.
            _ if is_of_production(&command) => {}
            "clerkcast" if words[1] == "tail" && !command.contains("--until-caught-up") => {
                let mut args = words[1..].to_vec();
                args.push("--until-caught-up".to_owned());
                assert!(run_clerkcast(&gateway, &args).status.success(), "{command}");
            }
            "clerkcast" if words[1] == "copy" => copies.push(words),
            "clerkcast" if words[1] == "backup" => back_up(&gateway, &words).await,
            "clerkcast" => {
                let output = run_clerkcast(&gateway, &words[1..]);
                assert!(output.status.success(), "{command}");
                assert!(!output.stdout.is_empty(), "{command}");
            }
            "grpcurl" => {
                let printed = run_grpcurl(&gateway, &words);
                assert!(
                    printed.contains('{') || printed.contains("EventService/"),
                    "{command}: {printed}"
                );
            }
            "sqlite3" => {
                let database = rusqlite::Connection::open(gateway.database()).expect("opens");
                let mut statement = database
                    .prepare(words.last().expect("a statement"))
                    .expect("valid SQL");
                assert!(
                    statement
                        .query([])
                        .expect("runs")
                        .next()
                        .expect("runs")
                        .is_some()
                );
            }
            // `commands::dev_…` runs the first; this is the second.
            "cargo" => {
                assert!(["cargo run -- dev --samples", "cargo test"].contains(&command.as_str()))
            }
            "git" => {
                let address = env!("CARGO_PKG_REPOSITORY");
                assert_eq!(command, format!("git clone {address} && cd clerkcast"));
            }
            // `snippets::clerk_cli` holds it against Clerk's CLI.
            "npx" => assert!(command.ends_with("/webhooks/clerk"), "{command}"),
            // The harness serves, and `commands::dev_…` runs the other.
            secret if secret.starts_with("CLERK_WEBHOOK_SIGNING_SECRET=") => {
                assert!(["serve", "dev"].contains(&words[2].as_str()), "{command}")
            }
            // `snippets::operating` renders the chart.
            "helm" => assert!(command.contains(" deploy/helm/clerkcast "), "{command}"),
            // `nats::readme` runs it, and the gateway beside it.
            "nats-server" => {}
            other => panic!("no test runs {other}"),
        }
        ran += 1;
    }
    assert!(ran > 10, "the README's commands were found");
    run_copies(&gateway.stopped(), copies);
}

#[tokio::test]
async fn the_configuration_file_of_the_readme_is_accepted() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), toml_block("CLERK_PROD_SECRETS")).expect("written");
    let gateway = Gateway::start_with(Options {
        args: vec!["--config".to_owned(), file.path().display().to_string()],
        env: vec![("CLERK_PROD_SECRETS".to_owned(), OTHER_SECRET.to_owned())],
    });
    let event =
        r#"{"type":"user.created","data":{},"instance_id":"ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"}"#;
    let answer = gateway
        .post_signed("/production", OTHER_SECRET, "msg_1", event.into())
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = gateway
        .post_signed("/staging", SECRET, "msg_1", event.into())
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[test]
fn every_flag_and_default_of_the_readme_is_that_of_serve() {
    let help = binary()
        .args(["serve", "--help"])
        .output()
        .expect("it runs");
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    let lines = help.lines().filter(|line| line.starts_with("      --"));
    let options = lines.filter_map(|line| line.split_whitespace().next());
    let options: Vec<String> = options.map(str::to_owned).collect();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let manual = manual();
    let table = manual
        .split("| flag | default | |")
        .nth(1)
        .expect("a table of flags");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let rows: Vec<&str> = rows.collect();
    let rows_text = rows.join("\n");
    let mut flags = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let quoted = |cell: &str| {
            cell.split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let defaults = quoted(cells[2]);
        for (index, flag) in quoted(cells[1]).iter().enumerate() {
            assert!(help.contains(flag.as_str()), "serve has no {flag}");
            if let Some(default) = defaults.get(index) {
                assert!(
                    help.contains(&format!("[default: {default}]")),
                    "{flag}: {default}"
                );
            }
            flags += 1;
        }
    }
    assert!(flags > 12, "the table was found");
    for flag in options {
        let is_listed = rows_text.contains(&format!("`{flag}`"));
        assert!(
            is_listed || ["--config", "--help"].contains(&flag.as_str()),
            "no row has {flag}"
        );
    }
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_of_the_pages_lead_somewhere() {
    for page in pages() {
        let text = text_of(&page);
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            if link.starts_with("http") {
                continue;
            }
            let (file, wanted) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                page.clone()
            } else {
                page.parent().expect("a directory").join(file)
            };
            assert!(target.exists(), "{}: {link}", page.display());
            let has_anchor = || {
                let text = text_of(&target);
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                headings.any(|heading| anchor(heading) == wanted)
            };
            assert!(
                wanted.is_empty() || has_anchor(),
                "{}: {link}",
                page.display()
            );
        }
    }
}

#[test]
fn the_readme_is_short() {
    let text = text_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    let lines = text.lines().count();
    assert!(
        lines <= 200,
        "{lines} lines; what is not for a newcomer belongs under docs"
    );
}
