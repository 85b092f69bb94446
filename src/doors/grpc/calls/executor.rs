//! Where hyper runs streams, each watched together with the call that it belongs to: a body
//! that waits for room in HTTP/2's window is not asked for anything.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::time::timeout;

use super::call::{Call, ConnectionCalls, Ending, UNREAD_TIMEOUT};
use super::kind::Kind;
use super::shared::END_TIMEOUT;

/// Runs the streams of one connection, each together with the call that it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Executor {
    pub(crate) connection: ConnectionCalls,
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    #[expect(
        clippy::disallowed_methods,
        reason = "hyper hands its streams to this executor; each ends with its call or connection"
    )]
    fn execute(&self, stream: F) {
        let Some(call) = self.connection.take_over() else {
            // A request that is not a call is answered at once, and need not be read.
            tokio::spawn(timeout(END_TIMEOUT, stream));
            return;
        };
        let watched = watch(Box::pin(stream), Arc::clone(&call));
        if call.kind == Kind::Side {
            tokio::spawn(watched);
        } else {
            call.calls.shared.running.spawn(watched);
        }
    }
}

/// Runs a stream until its answer is taken or the gateway ends its call.
async fn watch<F: Future>(mut stream: Pin<Box<F>>, call: Arc<Call>) {
    let mut is_sent = false;
    let ending = {
        let taken = async {
            (&mut stream).await;
            is_sent = true;
            call.taken().await;
        };
        tokio::select! {
            biased;
            () = taken => return,
            ending = call.ended() => ending,
        }
    };
    call.end(&ending);
    match ending {
        // A caller that reads receives the reason.
        Ending::Over(_) => {
            let rest = async {
                if !is_sent {
                    (&mut stream).await;
                }
                call.taken().await;
            };
            if timeout(END_TIMEOUT, rest).await.is_err() {
                call.connection.close_unless_in_force();
            }
        }
        // What HTTP/2 was handed goes with the stream, or with the connection alone. A
        // subscriber beside it may be slow, and has as long again.
        Ending::NotRead | Ending::GaveWay if is_sent => {
            call.connection.close_unless_subscribed();
            if timeout(UNREAD_TIMEOUT, call.taken()).await.is_err() {
                call.connection.close();
            }
        }
        Ending::NotRead | Ending::GaveWay => {}
    }
}
