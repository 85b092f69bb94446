//! Where hyper runs streams, each watched together with the call that it belongs to: a body
//! that waits for room in HTTP/2's window is not asked for anything.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Call, ConnectionCalls, END_TIMEOUT, Ending, Kind};

/// Runs the streams of one connection, each together with the call that it belongs to.
#[derive(Clone, Debug)]
pub(in crate::grpc) struct Executor {
    pub(in crate::grpc) connection: ConnectionCalls,
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let Some(call) = self.connection.take_over() else {
            tokio::spawn(async move {
                stream.await;
            });
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
        Ending::Over(_) if !is_sent => {
            if tokio::time::timeout(END_TIMEOUT, stream).await.is_err() {
                call.connection.close_unless_in_force();
            }
        }
        Ending::Over(_) => call.taken().await,
        // What HTTP/2 was handed goes with the stream, or with the connection alone.
        Ending::NotRead | Ending::GaveWay if is_sent => {
            call.connection.close_unless_subscribed();
            call.taken().await;
        }
        Ending::NotRead | Ending::GaveWay => {}
    }
}
