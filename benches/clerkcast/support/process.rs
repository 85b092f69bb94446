//! Servers in processes of their own: the real binary, and this program as a baseline.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpListener;

use super::{bare, posts};

/// Makes this program play a baseline instead of measuring.
pub(crate) const ROLE: &str = "--role";
pub(crate) const BARE_WEBHOOK: &str = "bare-webhook";
pub(crate) const BARE_STREAM: &str = "bare-stream";

/// Serves as a baseline, on a port that it prints, until it is killed.
pub(crate) async fn play(role: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("bound"));
    match role {
        BARE_WEBHOOK => posts::serve_bare(listener).await,
        BARE_STREAM => bare::serve(listener, bare::BareService::new(1024)).await,
        unknown => panic!("there is no baseline {unknown}"),
    }
}

/// Keeps all threads of a process on one processor.
pub(crate) fn confine(process: u32, processor: usize) {
    let confined = Command::new("taskset")
        .args([
            "-a",
            "-c",
            "-p",
            &processor.to_string(),
            &process.to_string(),
        ])
        .stdout(Stdio::null())
        .status();
    assert!(confined.expect("there is taskset (util-linux)").success());
}

/// A process, killed when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Server {
    /// This program, as a baseline.
    pub(crate) fn baseline(role: &str) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut process = Command::new(program)
            .args([ROLE, role])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the baseline starts");
        let output = process.stdout.take().expect("piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("a line");
        let address = line.trim().parse().expect("an address");
        Self {
            process,
            http: address,
            grpc: address,
            admin: address,
        }
    }

    /// The real binary on a data directory.
    pub(crate) fn gateway(data_dir: &Path) -> Self {
        Self::gateway_with(data_dir, &[])
    }

    /// The same, with more arguments.
    pub(crate) fn gateway_with(data_dir: &Path, args: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_clerkcast"))
            .args(["serve", "--log-format", "json", "--data-dir"])
            .arg(data_dir)
            .args(["--http-listen", "127.0.0.1:0"])
            .args(["--grpc-listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0"])
            .args(args)
            .env("CLERK_WEBHOOK_SIGNING_SECRET", posts::SECRET)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let mut address = |who: &str| loop {
            let line = lines.next().expect("it listens").expect("text");
            let line: serde_json::Value = serde_json::from_str(&line).expect("a JSON line");
            let message = line["message"].as_str().unwrap_or_default();
            if message.starts_with(&format!("listening for {who}")) {
                let address = line["address"].as_str().expect("an address");
                break address.parse().expect("an address");
            }
        };
        let http = address("webhooks");
        let grpc = address("subscribers");
        let admin = address("operators");
        // A pipe that nobody reads would fill up and stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            http,
            grpc,
            admin,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What its threads have used of the processors, by their names, in seconds.
    pub(crate) fn processor_seconds(&self) -> BTreeMap<String, f64> {
        /// `USER_HZ`: so many ticks are a second wherever Linux shows them.
        const TICKS: f64 = 100.0;
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id()));
        let mut seconds = BTreeMap::new();
        for thread in threads.expect("it runs") {
            let stat = thread.expect("a thread").path().join("stat");
            let Ok(stat) = std::fs::read_to_string(stat) else {
                continue;
            };
            let (name, rest) = stat.rsplit_once(')').expect("a name in parentheses");
            let (_, name) = name.split_once('(').expect("a name in parentheses");
            // The 14th and 15th field, "utime" and "stime" (proc(5)).
            let ticks = rest.split_whitespace().skip(11).take(2);
            let ticks: f64 = ticks.map(|it| it.parse::<f64>().expect("a number")).sum();
            *seconds.entry(name.to_owned()).or_default() += ticks / TICKS;
        }
        seconds
    }

    /// Bytes that the process has had the kernel write to disks, in whole pages.
    pub(crate) fn written_bytes(&self) -> usize {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.process.id()));
        let io = io.expect("it runs");
        let bytes = io.lines().find_map(|it| it.strip_prefix("write_bytes:"));
        let bytes = bytes.expect("Linux counts").trim();
        bytes.parse().expect("a number")
    }

    /// Bytes of memory that the process occupies.
    pub(crate) fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.expect("Linux tells").trim().trim_end_matches(" kB");
        1024 * kilobytes.parse::<usize>().expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}
