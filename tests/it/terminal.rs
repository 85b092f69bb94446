//! `clerkcast tail` in a pseudo-terminal.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Stdio};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;

use crate::commands::{run, stderr, stdout};
use crate::harness::{Gateway, SECRET, binary};

/// A terminal of this width: what reads its screen, and what a command writes to.
fn terminal(columns: u16) -> (OwnedFd, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
    grantpt(&master).expect("granted");
    unlockpt(&master).expect("unlocked");
    let name = ptsname(&master, Vec::new()).expect("a name");
    let slave = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("opened");
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&slave, size).expect("resized");
    (master, slave)
}

/// Runs a command; how it ended, and what is on the screen.
fn run_in(master: OwnedFd, command: &mut Command) -> (ExitStatus, String) {
    let mut process = command.stdin(Stdio::null()).spawn().expect("it runs");
    // The command's description of itself holds the terminal open too.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // Reading ends with an error once no process has the terminal open.
    let mut printed = Vec::new();
    let _closed = File::from(master).read_to_end(&mut printed);
    let status = process.wait().expect("it ends");
    (status, String::from_utf8(printed).expect("UTF-8"))
}

/// Runs a command with standard output and standard error in a terminal of this width.
pub(crate) fn screen(columns: u16, command: &mut Command) -> (ExitStatus, String) {
    let (master, slave) = terminal(columns);
    let stderr = slave.try_clone().expect("a terminal");
    run_in(master, command.stdout(slave).stderr(stderr))
}

/// Runs a command with standard output in a terminal of this width; what it printed.
fn in_terminal(columns: u16, args: &[&str], env: &[(&str, &str)]) -> (ExitStatus, Vec<String>) {
    let (master, slave) = terminal(columns);
    let mut command = binary();
    command
        .args(args)
        .env("TZ", "IST-5:30")
        .envs(env.iter().copied())
        .stdout(slave)
        .stderr(Stdio::null());
    let (status, text) = run_in(master, &mut command);
    (status, text.lines().map(str::to_owned).collect())
}

/// The line without its colors.
fn plain(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (_, rest) = part.split_once('m').expect("a color");
        text + rest
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn tail_fits_the_terminal() {
    let gateway = Gateway::start();
    let sent = run(&["send", "--url", &gateway.webhook_url(), "--secret", SECRET]);
    assert!(sent.status.success(), "{}", stderr(&sent));
    let long = format!("user_{}", "x".repeat(60));
    // 2026-11-27 20:00:00 UTC is the next day, 01:30:00, in India.
    let late = json!({
        "type": "user.created",
        "timestamp": 1_795_809_600_000_i64,
        "data": {"id": long, "object": "user"},
    });
    gateway.accept("msg_long", late.to_string()).await;
    let server = format!("http://{}", gateway.grpc);
    let all = [
        "tail",
        "--server",
        &server,
        "--from",
        "earliest",
        "--until-caught-up",
    ];
    let printed = |columns: u16, more: &[&str]| {
        let (status, lines) = in_terminal(columns, &[&all[..], more].concat(), &[]);
        assert!(status.success());
        assert!(lines.iter().all(|line| line.contains('\x1b')), "in colors");
        lines.iter().map(|line| plain(line)).collect::<Vec<_>>()
    };
    let narrow = printed(80, &[]);
    assert_eq!(narrow.len(), 47);
    for line in &narrow {
        assert!(line.chars().count() <= 80, "{line}");
        let (time, rest) = line.split_at(8);
        let digits = time.split(':').flat_map(|part| part.parse::<u8>());
        assert_eq!(digits.count(), 3, "{line}");
        assert!(rest.contains('.'), "a type: {line}");
    }
    let last = narrow.last().expect("47");
    assert!(
        last.starts_with("01:30:00 user.created  ") && last.ends_with("x"),
        "{last}"
    );
    assert!(last.contains(" user_x") && last.contains('…'), "{last}");
    assert_eq!(last.chars().count(), 80);

    let with_date = printed(91, &[]);
    assert!(with_date.iter().all(|line| line.chars().count() <= 91));
    assert!(
        with_date[46].starts_with("2026-11-28 01:30:00 "),
        "{}",
        with_date[46]
    );
    let wide = printed(250, &[]);
    assert!(wide.iter().all(|line| line.contains("  msg_")));
    assert!(wide[46].contains(&long), "{}", wide[46]);
    let membership = printed(250, &["--type", "organizationMembership.created"]);
    for id in ["orgmem_", "user_", "org_", "msg_"] {
        assert!(membership[0].contains(&format!(" {id}")), "{membership:?}");
    }

    let (_, uncolored) = in_terminal(80, &all, &[("NO_COLOR", "1")]);
    assert_eq!(uncolored, narrow);
    let (_, with_body) = in_terminal(80, &[&all[..], &["-v"]].concat(), &[]);
    assert!(with_body.len() > 1000);
    assert_eq!(with_body[1], "    {");
    // To a program, all of it, in UTC.
    let piped = stdout(&run(&all));
    assert_eq!(piped.lines().count(), 47);
    let expected =
        format!("2026-11-27T20:00:00Z     user.created                     {long}  msg_long");
    assert_eq!(piped.lines().last(), Some(&*expected));
}
