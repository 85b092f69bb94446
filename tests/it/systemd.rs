//! The states that systemd is notified of, through a socket as systemd's own.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use tempfile::TempDir;

use crate::harness::{Gateway, Options, PATIENCE, SECRET, binary, body, eventually};
use crate::nats::place::on;
use crate::nats::server::Server;
use crate::preload::{compile, preloaded};

/// A socket that notes what a gateway sends to it.
struct Systemd {
    directory: TempDir,
    /// One assignment each, such as `READY=1`.
    received: Arc<Mutex<Vec<String>>>,
}

impl Systemd {
    fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("bound");
        let received = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&received);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = socket.recv(&mut bytes) {
                let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
                noted.lock().extend(message.lines().map(str::to_owned));
            }
        });
        Self {
            directory,
            received,
        }
    }

    fn env(&self) -> Vec<(String, String)> {
        let socket = self.directory.path().join("notify").display().to_string();
        vec![("NOTIFY_SOCKET".to_owned(), socket)]
    }

    /// The same, with a watchdog that waits this long.
    fn env_with_watchdog(&self, microseconds: u64) -> Vec<(String, String)> {
        let mut env = self.env();
        env.push(("WATCHDOG_USEC".to_owned(), microseconds.to_string()));
        env
    }

    fn received(&self) -> Vec<String> {
        self.received.lock().clone()
    }

    fn count(&self, assignment: &str) -> usize {
        let received = self.received.lock();
        let found = received.iter().filter(|line| line.starts_with(assignment));
        found.count()
    }

    async fn wait_for(&self, assignment: &str, count: usize) {
        eventually(assignment, || async { self.count(assignment) >= count }).await;
    }
}

/// A file that makes the disk of a gateway fail, and the environment for that.
fn fault(directory: &Path, fault: &str) -> (PathBuf, Vec<(String, String)>) {
    let library = compile("fault", directory);
    let control = directory.join("fault");
    std::fs::write(&control, fault).expect("written");
    let env = preloaded(&library, "CLERKCAST_FAULT", &control);
    (control, env)
}

#[tokio::test]
async fn systemd_sees_the_states_in_order() {
    let systemd = Systemd::start();
    let config = systemd.directory.path().join("clerkcast.toml");
    std::fs::write(&config, "retain_for = \"30d\"\n").expect("written");
    let gateway = Gateway::start_with(Options {
        env: systemd.env(),
        ..Options::args(&[
            "--config",
            &config.display().to_string(),
            "--drain-timeout",
            "20s",
        ])
    });
    systemd.wait_for("READY=1", 1).await;
    gateway.signal("-HUP");
    systemd.wait_for("READY=1", 2).await;
    std::fs::write(&config, "retain_for = \"long\"\n").expect("written");
    gateway.signal("-HUP");
    systemd.wait_for("READY=1", 3).await;
    gateway.stopped();
    systemd.wait_for("STATUS=draining", 1).await;

    let mut received = systemd.received();
    let monotonic = |line: &String| line.starts_with("MONOTONIC_USEC=");
    for line in received.iter_mut().filter(|line| monotonic(line)) {
        let (_, time) = line.split_once('=').expect("an assignment");
        assert!(time.parse::<u64>().expect("a number") > 0);
        *line = "MONOTONIC_USEC".to_owned();
    }
    // A start that takes longer asks more than once.
    let asks = |line: &String| line == "EXTEND_TIMEOUT_USEC=30000000";
    received.dedup_by(|later, earlier| asks(later) && asks(earlier));
    assert_eq!(
        received,
        [
            "STATUS=recovering the log",
            "EXTEND_TIMEOUT_USEC=30000000",
            "READY=1",
            "STATUS=ready",
            "RELOADING=1",
            "MONOTONIC_USEC",
            "READY=1",
            "STATUS=ready; configuration reloaded",
            "RELOADING=1",
            "MONOTONIC_USEC",
            "READY=1",
            "STATUS=ready; the new configuration was refused, the old one stays in force",
            "STOPPING=1",
            "EXTEND_TIMEOUT_USEC=30000000",
            "STATUS=draining",
        ]
    );
}

/// A process that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _ended_already = self.0.wait();
    }
}

#[tokio::test]
async fn systemd_is_asked_for_time_until_the_log_is_recovered() {
    let systemd = Systemd::start();
    let directory = TempDir::new().expect("a temporary directory");
    let (control, faulty) = fault(directory.path(), "stall");
    let mut command = binary();
    command
        .args(["serve", "--http-listen", "127.0.0.1:0"])
        .args(["--grpc-listen", "127.0.0.1:0"])
        .args(["--admin-listen", "127.0.0.1:0", "--data-dir"])
        .arg(directory.path().join("data"))
        .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
        .envs(systemd.env())
        .envs(faulty)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _gateway = Killed(command.spawn().expect("the binary starts"));
    systemd.wait_for("EXTEND_TIMEOUT_USEC=", 2).await;
    assert_eq!(systemd.count("READY=1"), 0);
    std::fs::write(&control, "").expect("written");
    systemd.wait_for("READY=1", 1).await;
}

#[tokio::test]
async fn systemd_hears_no_watchdog_while_the_writer_is_held() {
    let systemd = Systemd::start();
    let directory = TempDir::new().expect("a temporary directory");
    let (control, faulty) = fault(directory.path(), "");
    let mut env = systemd.env_with_watchdog(400_000);
    env.extend(faulty);
    let gateway = Gateway::start_with(Options {
        env,
        ..Options::args(&["--log-level", "debug"])
    });
    systemd.wait_for("WATCHDOG=1", 2).await;

    std::fs::write(&control, "stall").expect("written");
    let count = |text: &str| gateway.log_text().matches(text).count();
    let held = async {
        eventually("the log does not answer", || async {
            count("the log does not answer") == 1
        })
        .await;
        let before = systemd.count("WATCHDOG=1");
        eventually("it still does not", || async {
            count("the log still does not answer") >= 3
        })
        .await;
        assert_eq!(systemd.count("WATCHDOG=1"), before);
        std::fs::write(&control, "").expect("written");
        before
    };
    let (answer, before) =
        tokio::join!(gateway.post("msg_1", body("user.created", "user_1")), held);
    assert_eq!(answer.status, 200, "{}", answer.text);
    systemd.wait_for("WATCHDOG=1", before + 2).await;
    assert!(count("the log answers again") >= 1);
}

/// A restart would neither make room nor repair a connection.
#[tokio::test]
async fn systemd_hears_the_watchdog_while_the_log_refuses_writes() {
    let systemd = Systemd::start();
    let directory = TempDir::new().expect("a temporary directory");
    let (control, faulty) = fault(directory.path(), "");
    let mut env = systemd.env_with_watchdog(4_000_000);
    env.extend(faulty);
    let gateway = Gateway::start_with(Options {
        env,
        ..Options::default()
    });
    std::fs::write(&control, "full").expect("written");
    let refused = gateway.post("msg_1", body("user.created", "user_1")).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    let before = systemd.count("WATCHDOG=1");
    systemd.wait_for("WATCHDOG=1", before + 2).await;
}

#[tokio::test]
async fn systemd_hears_the_watchdog_while_nats_is_away() {
    let systemd = Systemd::start();
    let server = Server::start();
    let gateway = Gateway::start_with(Options {
        env: systemd.env_with_watchdog(16_000_000),
        ..on(&[&server])
    });
    systemd.wait_for("WATCHDOG=1", 1).await;
    server.freeze();
    eventually("it is not ready", || async {
        gateway.admin_get("/readyz").await.status == 503
    })
    .await;
    let before = systemd.count("WATCHDOG=1");
    systemd.wait_for("WATCHDOG=1", before + 1).await;
    server.signal("-CONT");
}

#[tokio::test]
async fn the_shortest_watchdog_bounds_the_notifications() {
    let start = |microseconds| {
        let systemd = Systemd::start();
        let gateway = Gateway::start_with(Options {
            env: systemd.env_with_watchdog(microseconds),
            ..Options::default()
        });
        (systemd, gateway)
    };
    let (slow, _gateway) = start(400_000);
    let (fast, _gateway) = start(1);
    fast.wait_for("WATCHDOG=1", 5).await;
    slow.wait_for("WATCHDOG=1", 20).await;
    let (slow, fast) = (slow.count("WATCHDOG=1"), fast.count("WATCHDOG=1"));
    assert!(fast < 10 * slow, "{fast} notifications, and {slow}");
}

/// A socket that is read only when a test does.
struct Unread {
    directory: TempDir,
    socket: UnixDatagram,
}

impl Unread {
    fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("bound");
        let patience = socket.set_read_timeout(Some(PATIENCE));
        patience.expect("set");
        Self { directory, socket }
    }

    fn fill(&self) {
        let sender = UnixDatagram::unbound().expect("a socket");
        let path = self.directory.path().join("notify");
        sender.connect(path).expect("connected");
        sender.set_nonblocking(true).expect("set");
        while sender.send(b"FILLED=1\n").is_ok() {}
    }

    /// A gateway with a configuration file, whose sends all wait if one does.
    fn gateway(&self) -> Gateway {
        let config = self.directory.path().join("clerkcast.toml");
        std::fs::write(&config, "retain_for = \"30d\"\n").expect("written");
        let socket = self.directory.path().join("notify");
        let env = [
            ("NOTIFY_SOCKET", socket.display().to_string()),
            ("WATCHDOG_USEC", "400000".to_owned()),
            ("TOKIO_WORKER_THREADS", "1".to_owned()),
        ];
        Gateway::start_with(Options {
            env: env.map(|(name, value)| (name.to_owned(), value)).into(),
            ..Options::args(&["--config", &config.display().to_string()])
        })
    }

    /// The assignments that were sent, up to this one; less what is repeated.
    fn read_until(&self, assignment: &str) -> Vec<String> {
        let repeated = ["FILLED=", "EXTEND_TIMEOUT_USEC=3", "WATCHDOG=", "MONOTONIC"];
        let is_repeated = |line: &str| repeated.iter().any(|start| line.starts_with(start));
        let mut read = Vec::new();
        let mut bytes = [0; 4096];
        while !read.iter().any(|line| line == assignment) {
            let length = self.socket.recv(&mut bytes).expect("a message");
            let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let lines = message.lines().filter(|line| !is_repeated(line));
            read.extend(lines.map(str::to_owned));
        }
        read
    }
}

const NOT_READ: &str = "the supervisor does not read NOTIFY_SOCKET";

#[tokio::test]
async fn a_supervisor_that_reads_nothing_stops_nothing() {
    for is_full_at_start in [true, false] {
        let supervisor = Unread::start();
        if is_full_at_start {
            supervisor.fill();
        }
        let gateway = supervisor.gateway();
        let mut posted = 0;
        while posted == 0 || !gateway.log_text().contains(NOT_READ) {
            let event = body("user.created", "user_1");
            gateway.accept(&format!("msg_{posted}"), event).await;
            posted += 1;
        }
        assert_eq!(gateway.admin_get("/readyz").await.status, 200);
        gateway.signal("-HUP");
        eventually("a reload", || async {
            gateway.log_text().contains("configuration reloaded")
        })
        .await;
        let event = body("user.created", "user_1");
        gateway.accept("msg_last", event).await;
        let warnings = gateway.log_text().matches(NOT_READ).count();
        assert_eq!(warnings, 1);
        gateway.stopped();
    }
}

#[tokio::test]
async fn a_supervisor_that_reads_again_sees_the_states_in_order() {
    let supervisor = Unread::start();
    supervisor.fill();
    let gateway = supervisor.gateway();
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    gateway.signal("-HUP");
    eventually("a reload", || async {
        gateway.log_text().contains("configuration reloaded")
    })
    .await;
    let reloaded = "STATUS=ready; configuration reloaded";
    assert_eq!(
        supervisor.read_until(reloaded),
        [
            "STATUS=recovering the log",
            "READY=1",
            "STATUS=ready",
            "RELOADING=1",
            "READY=1",
            reloaded,
        ]
    );
    let warnings = || gateway.log_text().matches(NOT_READ).count();
    eventually("it is noted", || async {
        let log = gateway.log_text();
        log.matches("NOTIFY_SOCKET takes messages again").count() == warnings()
    })
    .await;
    let before = warnings();
    supervisor.fill();
    eventually("it is warned of again", || async { warnings() > before }).await;
    gateway.signal("-TERM");
    let draining = "STATUS=draining";
    assert_eq!(supervisor.read_until(draining), ["STOPPING=1", draining]);
}
