//! What lies between the servers of a cluster, or between a gateway and its server, and can be
//! cut while others go on to reach them.

use std::net::TcpListener;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// A way from each server to each other one.
pub(crate) struct Links {
    /// Who is cut off.
    alone: watch::Sender<Option<usize>>,
    /// Where one server reaches another.
    ports: [[u16; 3]; 3],
}

impl Links {
    /// To servers that listen for each other on these ports.
    pub(crate) fn to(servers: [u16; 3]) -> Self {
        let alone = watch::Sender::new(None);
        let ports = [0, 1, 2].map(|from| {
            [0, 1, 2].map(|to| {
                let (listener, port) = listen();
                let cut = Cut {
                    alone: alone.subscribe(),
                    ends: [from, to],
                };
                tokio::spawn(carry(listener, servers[to], cut));
                port
            })
        });
        Self { alone, ports }
    }

    /// Where server `from` finds the others.
    pub(crate) fn routes(&self, from: usize) -> Vec<u16> {
        let others = (0..3).filter(|to| *to != from);
        others.map(|to| self.ports[from][to]).collect()
    }

    /// Breaks all connections between one server and the others, and lets none be made.
    pub(crate) fn cut_off(&self, server: usize) {
        self.alone.send_replace(Some(server));
    }

    pub(crate) fn mend(&self) {
        self.alone.send_replace(None);
    }
}

#[derive(Clone)]
struct Cut {
    alone: watch::Receiver<Option<usize>>,
    ends: [usize; 2],
}

impl Cut {
    fn is_cut(&self) -> bool {
        self.alone
            .borrow()
            .is_some_and(|alone| self.ends.contains(&alone))
    }

    async fn happens(mut self) {
        let ends = self.ends;
        let cut = |alone: &Option<usize>| alone.is_some_and(|alone| ends.contains(&alone));
        let _gone = self.alone.wait_for(cut).await;
    }
}

async fn carry(listener: TcpListener, port: u16, cut: Cut) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    while let Ok((mut near, _)) = listener.accept().await {
        if cut.is_cut() {
            continue;
        }
        let cut = cut.clone();
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else {
                return;
            };
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                () = cut.happens() => {}
            }
        });
    }
}

/// The way of one client to a server.
pub(crate) struct Link {
    alone: watch::Sender<Option<usize>>,
    port: u16,
}

impl Link {
    /// To a server that listens on this port.
    pub(crate) fn to(server: u16) -> Self {
        let alone = watch::Sender::new(None);
        let (listener, port) = listen();
        let cut = Cut {
            alone: alone.subscribe(),
            ends: [0, 1],
        };
        tokio::spawn(carry(listener, server, cut));
        Self { alone, port }
    }

    /// Where the client finds the server.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn cut(&self) {
        self.alone.send_replace(Some(0));
    }

    pub(crate) fn mend(&self) {
        self.alone.send_replace(None);
    }
}

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    listener.set_nonblocking(true).expect("a socket");
    (listener, port)
}
