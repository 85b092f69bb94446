//! The proxies of `docs/operations.md`, in front of a gateway: a stream passes through them, and
//! outlives the limits that they have for requests and for idle ones.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clerkcast::proto::SubscribeRequest;
use clerkcast::proto::subscribe_response::Kind;
use clerkcast_client::Subscriber;
use serde_json::json;
use tempfile::TempDir;

use super::operating::{READ_YAML, read_yaml};
use super::{only_block, yaml};
use crate::client::free_port;
use crate::harness::{Gateway, PATIENCE, body};
use crate::interop::tools;

/// Heartbeats come each second. Envoy's limit for a request is 15 s, unless it is off.
const HEARTBEATS: usize = 17;
/// The idle limit in place of the page's five minutes.
const IDLE_LIMIT: &str = "6s";

/// A proxy in front of a gateway, killed when dropped.
struct Proxy {
    process: Child,
    address: String,
    _directory: TempDir,
}

impl Proxy {
    fn start(address: String, directory: TempDir, command: &mut Command) -> Self {
        let process = command.stdin(Stdio::null()).spawn().expect("it runs");
        Self {
            process,
            address,
            _directory: directory,
        }
    }

    fn nginx(grpc: &str) -> Self {
        // Installs it.
        tools();
        let address = free_port();
        let server = replaced(
            &only_block("nginx"),
            &[
                ("listen 50051", &format!("listen {address}")),
                ("127.0.0.1:50052", grpc),
                ("5m;", &format!("{IDLE_LIMIT};")),
            ],
        );
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|what| format!("{what}_temp_path {what};\n"));
        // One process, which is killed with the test.
        let config = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\n\
             http {{\naccess_log off;\n{}{server}}}\n",
            temporary.concat()
        );
        let directory = TempDir::new().expect("a temporary directory");
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, config).expect("written");
        let mut nginx = Command::new("/usr/sbin/nginx");
        nginx.arg("-p").arg(directory.path()).arg("-c").arg(&file);
        nginx.args(["-e", "stderr"]);
        Self::start(address, directory, &mut nginx)
    }

    fn envoy(grpc: &str) -> Self {
        let address = free_port();
        let route = replaced(&yaml("route_config:"), &[("300s", IDLE_LIMIT)]);
        let route = read_yaml(READ_YAML, &route)["route_config"].clone();
        let api = "type.googleapis.com/envoy.extensions";
        let filters = json!([{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": format!("{api}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": "clerkcast",
                "route_config": route,
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": format!("{api}.filters.http.router.v3.Router")},
                }],
            },
        }]);
        let config = json!({"static_resources": {
            "listeners": [{"address": socket(&address), "filter_chains": [{"filters": filters}]}],
            "clusters": [{
                "name": "clerkcast",
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": format!("{api}.upstreams.http.v3.HttpProtocolOptions"),
                        "explicit_http_config": {"http2_protocol_options": {}},
                    },
                },
                "load_assignment": {
                    "cluster_name": "clerkcast",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(grpc)}}]}],
                },
            }],
        }});
        let directory = TempDir::new().expect("a temporary directory");
        let file = directory.path().join("envoy.json");
        std::fs::write(&file, config.to_string()).expect("written");
        // The program itself, and not Python's wrapper, which would leave it running.
        let packages = std::fs::read_dir(tools().join("checks/lib")).expect("a venv");
        let python = packages.flatten().next().expect("of a Python").path();
        let mut envoy = Command::new(python.join("site-packages/envoy/_bin/envoy"));
        envoy.arg("-c").arg(&file);
        envoy.args([
            "--disable-hot-restart",
            "--concurrency",
            "1",
            "--log-level",
            "error",
        ]);
        Self::start(address, directory, &mut envoy)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _has_ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn replaced(text: &str, replacements: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (from, to) in replacements {
        assert!(text.contains(from), "no {from}: {text}");
        text = text.replace(from, to);
    }
    text
}

/// An address as Envoy writes it.
fn socket(address: &str) -> serde_json::Value {
    let (host, port) = address.split_once(':').expect("a port");
    let port: u16 = port.parse().expect("a number");
    json!({"socket_address": {"address": host, "port_value": port}})
}

/// Subscribes through the proxy, as soon as that has started, and waits for heartbeats.
async fn quiet_stream(proxy: &Proxy) -> Subscriber {
    let request = SubscribeRequest {
        heartbeat_interval: Duration::from_secs(1).try_into().ok(),
        ..SubscribeRequest::default()
    };
    let url = format!("http://{}", proxy.address);
    let mut subscriber = Subscriber::new(&url, request).expect("an address");
    let mut starts = 0;
    let mut heartbeats = 0;
    while heartbeats < HEARTBEATS {
        match next(&mut subscriber).await {
            Kind::Started(_) => starts += 1,
            Kind::Heartbeat(_) => heartbeats += 1,
            Kind::CaughtUp(_) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(
            starts, 1,
            "the stream was ended after {heartbeats} heartbeats"
        );
    }
    subscriber
}

async fn next(subscriber: &mut Subscriber) -> Kind {
    let frame = tokio::time::timeout(PATIENCE, subscriber.next()).await;
    let frame = frame.expect("in time").expect("not refused");
    frame.expect("no end").kind.expect("a kind")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_outlives_the_limits_of_the_manuals_proxies() {
    let gateway = Gateway::start();
    let proxies = [Proxy::nginx(&gateway.grpc), Proxy::envoy(&gateway.grpc)];
    let [nginx, envoy] = &proxies;
    let (nginx, envoy) = tokio::join!(quiet_stream(nginx), quiet_stream(envoy));
    gateway
        .accept("msg_1", body("user.created", "user_1"))
        .await;
    for mut subscriber in [nginx, envoy] {
        // Of the stream that was ready first, more heartbeats wait to be read.
        let mut kind = next(&mut subscriber).await;
        while let Kind::Heartbeat(_) = kind {
            kind = next(&mut subscriber).await;
        }
        let Kind::Event(event) = kind else {
            panic!("the stream was ended: {kind:?}");
        };
        assert_eq!(event.id, "msg_1");
    }
}
