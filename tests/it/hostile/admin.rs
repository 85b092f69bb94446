//! The admin port, which may be reached from a whole network.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Gateway, PATIENCE};

/// More than a port of operators needs.
const CONNECTIONS_MAX: usize = 64;

async fn connect(gateway: &Gateway, text: &str) -> TcpStream {
    let mut socket = TcpStream::connect(&gateway.admin).await.expect("connected");
    socket.write_all(text.as_bytes()).await.expect("sent");
    socket
}

/// All that a connection says until it is closed, or broken off.
async fn until_closed(socket: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = timeout(PATIENCE, socket.read_to_end(&mut text)).await;
    let _closed_or_reset = read.expect("it is closed");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_slow_head_on_the_admin_port_is_closed() {
    let gateway = Gateway::start();
    let mut slow = connect(&gateway, "GET /healthz HTTP/1.1\r\nhost: x\r\n").await;
    let mut silent = connect(&gateway, "").await;
    let large = format!("GET /healthz HTTP/1.1\r\nx: {}", "x".repeat(20 << 10));
    let mut large = connect(&gateway, &large).await;
    let said = until_closed(&mut large).await;
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    for socket in [&mut slow, &mut silent] {
        let said = until_closed(socket).await;
        assert!(!said.contains("alive"), "{said}");
    }
    assert_eq!(gateway.admin_get("/healthz").await.status, 200);
}

#[tokio::test]
async fn the_admin_port_bounds_its_connections() {
    let gateway = Gateway::start();
    let mut open = Vec::new();
    // Each is answered, so that it is known to be open.
    for _ in 0..=CONNECTIONS_MAX {
        let mut socket = connect(&gateway, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nG").await;
        let mut answer = [0; 12];
        let read = timeout(PATIENCE, socket.read_exact(&mut answer)).await;
        read.expect("in time").expect("answered");
        assert_eq!(&answer, b"HTTP/1.1 200");
        open.push(socket);
    }
    until_closed(&mut open[0]).await;
    assert!(gateway.log_text().contains("too many connections"));
    assert_eq!(gateway.admin_get("/healthz").await.status, 200);
}
