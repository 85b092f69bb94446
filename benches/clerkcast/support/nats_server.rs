//! Real NATS servers, as `tests/tools/install` brings them: one, or a cluster.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, Context};
use tempfile::TempDir;

const STARTED_WITHIN: Duration = Duration::from_secs(30);
const TRIED_EVERY: Duration = Duration::from_millis(50);

/// Servers on a file store with its default settings, killed when dropped.
pub(crate) struct NatsServers {
    processes: Vec<Child>,
    /// Of the first.
    pub(crate) url: String,
    _directory: TempDir,
}

impl NatsServers {
    /// Starts so many, which form a cluster, and waits until they can hold a stream.
    pub(crate) async fn start(servers: usize) -> Self {
        let program = tools().join("venv/bin/nats-server");
        let directory = TempDir::new().expect("a directory");
        let ports = free_ports(2 * servers);
        let (client_ports, route_ports) = ports.split_at(servers);
        let mut processes = Vec::new();
        for (index, client_port) in client_ports.iter().enumerate() {
            let home = directory.path().join(format!("server-{index}"));
            std::fs::create_dir(&home).expect("created");
            let mut config = format!(
                "server_name: server-{index}\nlisten: \"127.0.0.1:{client_port}\"\nmax_payload: 4MB\njetstream {{ store_dir: {home:?} }}\n"
            );
            if servers > 1 {
                config.push_str(&cluster(route_ports[index], route_ports));
            }
            let file = home.join("server.conf");
            std::fs::write(&file, config).expect("written");
            let log = File::create(home.join("log")).expect("created");
            let process = Command::new(&program)
                .arg("--config")
                .arg(&file)
                .stdout(Stdio::null())
                .stderr(log)
                .spawn();
            processes.push(process.expect("nats-server starts"));
        }
        let servers = Self {
            processes,
            url: format!("nats://127.0.0.1:{}", client_ports[0]),
            _directory: directory,
        };
        servers.wait_until_ready().await;
        servers
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Context {
        let client = async_nats::connect(&self.url).await.expect("connected");
        jetstream::new(client)
    }

    async fn wait_until_ready(&self) {
        let deadline = Instant::now() + STARTED_WITHIN;
        loop {
            if let Ok(client) = async_nats::connect(&self.url).await
                && jetstream::new(client).query_account().await.is_ok()
            {
                return;
            }
            assert!(Instant::now() < deadline, "nats-server did not start");
            tokio::time::sleep(TRIED_EVERY).await;
        }
    }
}

impl Drop for NatsServers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _gone = process.kill();
            let _reaped = process.wait();
        }
    }
}

fn cluster(port: u16, all: &[u16]) -> String {
    let routes = all.iter().map(|it| format!("\"nats://127.0.0.1:{it}\""));
    let routes = routes.collect::<Vec<_>>().join(", ");
    format!("cluster {{ name: bench, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}\n")
}

fn free_ports(count: usize) -> Vec<u16> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    // All are open at once, so that no port comes twice.
    let listeners: Vec<TcpListener> = listeners.collect();
    let ports = listeners.iter().map(|it| it.local_addr().expect("bound"));
    ports.map(|address| address.port()).collect()
}

/// Where the test tools are; installs them first if they are missing.
fn tools() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let installed = Command::new(root.join("tests/tools/install")).status();
    assert!(
        installed.expect("tests/tools/install runs").success(),
        "without nats-server there is no baseline"
    );
    let directory = std::env::var_os("CLERKCAST_TEST_TOOLS").map(PathBuf::from);
    directory.unwrap_or_else(|| root.join("target/test-tools"))
}
