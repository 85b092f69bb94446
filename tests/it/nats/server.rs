//! Real NATS servers on free ports: one, or a cluster of three.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{Config as Settings, Info};
use tempfile::TempDir;

use super::links::Links;
use crate::harness::PATIENCE;
use crate::interop::tools;

/// A server, which is killed when dropped. Its ports and its store outlive it.
pub(crate) struct Server {
    process: Option<Child>,
    directory: Arc<TempDir>,
    name: String,
    client_port: u16,
    route_port: Option<u16>,
    routes: Vec<u16>,
    /// More lines of its configuration.
    more: String,
    more_of_jetstream: String,
    more_of_cluster: &'static str,
}

impl Server {
    /// A server on its own.
    pub(crate) fn start() -> Self {
        Self::start_with(String::new())
    }

    /// The same, with more lines of configuration.
    pub(crate) fn start_with(more: String) -> Self {
        Self::start_as(String::new(), more)
    }

    fn start_as(more_of_jetstream: String, more: String) -> Self {
        let directory = Arc::new(TempDir::new().expect("a temporary directory"));
        let mut server = Self {
            process: None,
            directory,
            name: "alone".to_owned(),
            client_port: 0,
            route_port: None,
            routes: Vec::new(),
            more,
            more_of_jetstream,
            more_of_cluster: "",
        };
        server.run();
        server
    }

    /// The same, with a limit to what JetStream may keep in files.
    pub(crate) fn start_with_room(max_file_store: &str, more: &str) -> Self {
        let room = format!(", max_file_store: {max_file_store}");
        Self::start_as(room, more.to_owned())
    }

    /// Three that form a cluster.
    pub(crate) fn cluster() -> [Self; 3] {
        // A server needs to know where the others will be before they are.
        let routes = free_ports();
        Self::cluster_with(routes, |_| routes.to_vec(), "", "")
    }

    /// The same, with a limit to what JetStream may keep in the files of each.
    pub(crate) fn cluster_with_room(room: &str) -> [Self; 3] {
        let routes = free_ports();
        let room = format!(", max_file_store: {room}");
        Self::cluster_with(routes, |_| routes.to_vec(), "", &room)
    }

    /// Three that form a cluster, and reach each other over links.
    pub(crate) fn linked_cluster() -> ([Self; 3], Links) {
        let listening = free_ports();
        let links = Links::to(listening);
        // They tell each other where they listen, and must not be found there.
        let elsewhere = ", advertise: \"127.0.0.1:1\"";
        let servers = Self::cluster_with(listening, |index| links.routes(index), elsewhere, "");
        (servers, links)
    }

    fn cluster_with(
        listening: [u16; 3],
        routes: impl Fn(usize) -> Vec<u16>,
        more: &'static str,
        more_of_jetstream: &str,
    ) -> [Self; 3] {
        let directory = Arc::new(TempDir::new().expect("a temporary directory"));
        let mut index = 0;
        ["one", "two", "three"].map(|name| {
            let mut server = Self {
                process: None,
                directory: Arc::clone(&directory),
                name: name.to_owned(),
                client_port: 0,
                route_port: Some(listening[index]),
                routes: routes(index),
                more: String::new(),
                more_of_jetstream: more_of_jetstream.to_owned(),
                more_of_cluster: more,
            };
            server.run();
            index += 1;
            server
        })
    }

    /// A server as a command line starts it, in the directory that it is started in.
    pub(crate) fn run_in(home: &Path, args: &[String]) -> Process {
        let process = Command::new(tools().join("venv/bin/nats-server"))
            .args(args)
            .current_dir(home)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Process(process.expect("nats-server starts"))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.client_port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.client_port
    }

    /// JetStream, as an operator uses it.
    pub(crate) async fn jetstream(&self) -> Context {
        let client = async_nats::connect(self.url()).await.expect("connects");
        async_nats::jetstream::new(client)
    }

    /// The stream of the gateways, as it is now.
    pub(crate) async fn stream(&self) -> Info {
        let stream = self.jetstream().await.get_stream("CLERKCAST").await;
        stream.expect("it is there").cached_info().clone()
    }

    /// Changes settings of the stream of the gateways.
    pub(crate) async fn edit_stream(&self, edit: impl FnOnce(&mut Settings)) {
        let mut settings = self.stream().await.config;
        edit(&mut settings);
        let edited = self.jetstream().await.update_stream(settings).await;
        edited.expect("the server allows it");
    }

    /// Starts it, on the ports that it had before, and waits until it listens.
    pub(crate) fn run(&mut self) {
        let home = self.home();
        std::fs::create_dir_all(&home).expect("created");
        let file = home.join("server.conf");
        std::fs::write(&file, self.config()).expect("written");
        let log = std::fs::File::create(home.join("log")).expect("created");
        let process = Command::new(tools().join("venv/bin/nats-server"))
            .arg("--config")
            .arg(&file)
            .arg("--ports_file_dir")
            .arg(&home)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server starts");
        let ports = home.join(format!("nats-server_{}.ports", process.id()));
        self.process = Some(process);
        let ports = self.wait_for_ports(&ports);
        self.client_port = port_of(&ports, "nats").expect("a port for clients");
    }

    /// Starts it again with other lines of configuration.
    pub(crate) fn run_with(&mut self, more: String) {
        self.kill();
        self.more = more;
        self.run();
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it was started");
        }
    }

    /// Ended gracefully.
    pub(crate) fn stop(&mut self) {
        self.signal("-TERM");
        if let Some(mut process) = self.process.take() {
            process.wait().expect("it was started");
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs");
        let status = Command::new("kill")
            .args([signal, &process.id().to_string()])
            .status();
        assert!(status.expect("kill runs").success());
    }

    /// Holds it where it is. The signal alone may still be on its way to some of its threads.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
        let process = self.process.as_ref().expect("it runs");
        let threads = format!("/proc/{}/task", process.id());
        let is_stopped = |thread: std::io::Result<std::fs::DirEntry>| {
            let status = std::fs::read_to_string(thread.expect("a thread").path().join("status"));
            // One that has just ended does nothing either.
            status.map_or(true, |status| status.contains("State:\tT"))
        };
        let asked = Instant::now();
        while !std::fs::read_dir(&threads)
            .expect("it runs")
            .all(is_stopped)
        {
            assert!(asked.elapsed() < PATIENCE, "it goes on");
            std::thread::yield_now();
        }
    }

    /// What its disk holds, while it does not run.
    pub(crate) fn copy_of_store(&self) -> TempDir {
        let copy = TempDir::new().expect("a temporary directory");
        copy_all(&self.home().join("store"), copy.path());
        copy
    }

    pub(crate) fn replace_store(&self, copy: &TempDir) {
        let store = self.home().join("store");
        std::fs::remove_dir_all(&store).expect("removed");
        copy_all(copy.path(), &store);
    }

    fn home(&self) -> PathBuf {
        self.directory.path().join(&self.name)
    }

    fn config(&self) -> String {
        let port = |port: u16| if port == 0 { -1 } else { i32::from(port) };
        let mut config = format!(
            "server_name: {}\nlisten: \"127.0.0.1:{}\"\nmax_payload: 4MB\njetstream {{ store_dir: {:?}{} }}\n",
            self.name,
            port(self.client_port),
            self.home().join("store"),
            self.more_of_jetstream,
        );
        config.push_str(&self.more);
        if let Some(route_port) = self.route_port {
            let routes = self.routes.iter();
            let routes = routes.map(|port| format!("\"nats://127.0.0.1:{port}\""));
            let routes = routes.collect::<Vec<_>>().join(", ");
            let listen = port(route_port);
            config.push_str(&format!(
                "cluster {{ name: test, listen: \"127.0.0.1:{listen}\", routes: [{routes}]{} }}\n",
                self.more_of_cluster
            ));
        }
        config
    }

    fn wait_for_ports(&mut self, file: &Path) -> serde_json::Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if let Ok(ports) = serde_json::from_str(&text) {
                return ports;
            }
            let ended = self.process.as_mut().map(Child::try_wait);
            let is_running = matches!(ended, Some(Ok(None)));
            assert!(
                is_running && Instant::now() < deadline,
                "nats-server did not start:\n{}",
                self.log_text()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(self.home().join("log")).unwrap_or_default()
    }
}

/// Killed when dropped.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ended_already = process.kill();
            let _ = process.wait();
            if std::thread::panicking() {
                eprintln!("--- the log of NATS {} ---\n{}", self.name, self.log_text());
            }
        }
    }
}

fn copy_all(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-RT").args([from, to]).status();
    assert!(copied.expect("cp runs").success());
}

fn port_of(ports: &serde_json::Value, kind: &str) -> Option<u16> {
    let url = ports[kind][0].as_str()?;
    url.rsplit_once(':')?.1.parse().ok()
}

pub(crate) fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound").port())
}
