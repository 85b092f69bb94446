//! Sends messages to the supervisor, from a thread of its own.
//!
//! ```text
//!   states ─► Queue: in order, at most WAITING_MAX ─► the thread ─► socket
//!                                                        └─ waits while the socket is full
//! ```
//!
//! A supervisor that does not read its socket holds up whatever writes to it, for any time. Only
//! this thread waits for it, and nothing waits for the thread: the process ends without it.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};
use sd_notify::NotifyState;
use tokio::sync::oneshot;

/// Maximum number of messages that wait. Beyond, the oldest is dropped, because the supervisor
/// acts on the newest state.
const WAITING_MAX: usize = 16;

/// One datagram.
#[derive(Debug)]
pub(super) struct Message {
    text: String,
    is_keep_alive: bool,
    receipt: Option<oneshot::Sender<()>>,
}

impl Message {
    /// The states that the gateway has from now on.
    pub(super) fn state(states: &[NotifyState<'_>]) -> Self {
        let mut text = String::new();
        for state in states {
            let _infallible = writeln!(text, "{state}");
        }
        Self {
            text,
            is_keep_alive: false,
            receipt: None,
        }
    }

    /// A message that is repeated; one that waits stands for all.
    pub(super) fn keep_alive(states: &[NotifyState<'_>]) -> Self {
        Self {
            is_keep_alive: true,
            ..Self::state(states)
        }
    }

    /// Adds a receipt, which arrives once the message is sent, and fails if it is dropped.
    pub(super) fn with_receipt(self) -> (Self, oneshot::Receiver<()>) {
        let (sender, receipt) = oneshot::channel();
        let message = Self {
            receipt: Some(sender),
            ..self
        };
        (message, receipt)
    }
}

/// Messages in the order of their states.
#[derive(Debug, Default)]
struct Queue(VecDeque<Message>);

impl Queue {
    fn push(&mut self, message: Message) {
        if message.is_keep_alive && self.0.iter().any(|waiting| waiting.is_keep_alive) {
            return;
        }
        if self.0.len() >= WAITING_MAX {
            self.0.pop_front();
        }
        self.0.push_back(message);
    }

    fn pop(&mut self) -> Option<Message> {
        self.0.pop_front()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The side that hands messages to the thread.
#[derive(Debug)]
pub(super) struct Notifier(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

impl Notifier {
    /// Starts the thread, if `NOTIFY_SOCKET` names a socket.
    pub(super) fn of_environment() -> Option<Self> {
        let socket = env::var_os("NOTIFY_SOCKET")?;
        let shared = Arc::new(Shared::default());
        let queue = Arc::clone(&shared);
        let name = "systemd".to_owned();
        let spawned = thread::Builder::new()
            .name(name)
            .spawn(move || queue.send_all(&socket));
        match spawned {
            Ok(_detached) => Some(Self(shared)),
            Err(error) => {
                tracing::warn!(%error, "cannot start the thread that notifies systemd");
                None
            }
        }
    }

    /// Sends a message after those before it. Never waits.
    pub(super) fn send(&self, message: Message) {
        self.0.queue.lock().push(message);
        self.0.arrived.notify_one();
    }
}

impl Shared {
    fn next(&self) -> Message {
        let mut queue = self.queue.lock();
        loop {
            match queue.pop() {
                Some(message) => return message,
                None => self.arrived.wait(&mut queue),
            }
        }
    }

    /// Warns once for each time that the socket stops taking messages.
    fn send_all(&self, socket: &OsStr) {
        let mut is_warned = false;
        loop {
            let Message { text, receipt, .. } = self.next();
            let mut sent = send(socket, &text, Wait::No);
            if let Err(error) = &sent {
                let is_full = error.kind() == io::ErrorKind::WouldBlock;
                if !is_warned && is_full {
                    tracing::warn!(
                        "the supervisor does not read NOTIFY_SOCKET; the newest states wait until it does"
                    );
                } else if !is_warned {
                    tracing::warn!(%error, "cannot notify systemd through NOTIFY_SOCKET");
                }
                is_warned = true;
                if is_full {
                    sent = send(socket, &text, Wait::UntilRead);
                }
            }
            // As long as others wait, the socket may be full again with each of them.
            if is_warned && sent.is_ok() && self.queue.lock().is_empty() {
                is_warned = false;
                tracing::info!("NOTIFY_SOCKET takes messages again");
            }
            if let (Ok(()), Some(receipt)) = (sent, receipt) {
                let _process_is_ending = receipt.send(());
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    No,
    UntilRead,
}

/// The address of a path, or of `@` and a name, which is of no file (`sd_notify(3)`).
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    }
}

/// Sends one datagram. Connects each time, because the supervisor may have made its socket
/// again.
fn send(socket: &OsStr, text: &str, wait: Wait) -> io::Result<()> {
    let datagram = UnixDatagram::unbound()?;
    datagram.connect_addr(&address(socket)?)?;
    datagram.set_nonblocking(wait == Wait::No)?;
    datagram.send(text.as_bytes()).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(mut queue: Queue) -> Vec<String> {
        let messages = std::iter::from_fn(move || queue.pop());
        messages.map(|message| message.text).collect()
    }

    #[test]
    fn states_keep_their_order_and_one_keep_alive_waits() {
        let mut queue = Queue::default();
        queue.push(Message::state(&[
            NotifyState::Ready,
            NotifyState::Status("a"),
        ]));
        for _ in 0..100 {
            queue.push(Message::keep_alive(&[NotifyState::Watchdog]));
        }
        queue.push(Message::state(&[NotifyState::Stopping]));
        assert_eq!(
            sent(queue),
            ["READY=1\nSTATUS=a\n", "WATCHDOG=1\n", "STOPPING=1\n"]
        );
    }

    #[test]
    fn a_socket_may_have_a_name_without_a_file() {
        let name = format!("@clerkcast-{}", std::process::id());
        let socket = OsStr::new(&name);
        let bound = UnixDatagram::bind_addr(&address(socket).expect("an address"));
        let bound = bound.expect("a free name");
        send(socket, "READY=1\n", Wait::No).expect("sent");
        let mut bytes = [0; 16];
        let length = bound.recv(&mut bytes).expect("received");
        assert_eq!(&bytes[..length], b"READY=1\n");
    }

    #[test]
    fn the_newest_states_are_kept() {
        let mut queue = Queue::default();
        let (first, receipt) = Message::state(&[NotifyState::Ready]).with_receipt();
        queue.push(first);
        for number in 0..100 {
            queue.push(Message::state(&[NotifyState::Errno(number)]));
        }
        let mut receipt = receipt;
        receipt.try_recv().expect_err("it was dropped");
        let expected: Vec<_> = (84..100)
            .map(|number| format!("ERRNO={number}\n"))
            .collect();
        assert_eq!(sent(queue), expected);
    }
}
