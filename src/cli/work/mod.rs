//! `clerkcast work`: runs a command for each event of a subscription.
//!
//! ```text
//!   Worker ──delivery──► command: stdin, environment ──► exit 0: acknowledged
//!                            │ --timeout: its process group is killed
//!                            └─────────────────────────► anything else: failed, with the end of stderr
//! ```

mod command;

use std::ffi::OsString;
use std::sync::Arc;

use clap::Args;
use clerkcast_client::{Delivery, Worker};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connect::ConnectionArgs;
use super::failure::Failure;
use super::options::Period;
use super::output::note;
use super::{advice, notices};
use crate::proto::ReceiveRequest;
use command::{CommandLine, Ended};

const EXAMPLES: &str = "\
Examples:
  clerkcast work crm -- ./on-event.sh
      runs ./on-event.sh for each event of the subscription crm, with the event on standard input
  clerkcast work crm --concurrency 8 --timeout 1m -- sh -c 'jq .user | curl --fail -d @- URL'
      eight at a time

The command gets the event as one line of JSON on standard input, and in its environment
CLERKCAST_EVENT_ID, CLERKCAST_EVENT_TYPE and CLERKCAST_ATTEMPT. If it exits with 0, the event is
acknowledged. Otherwise the event has failed, and is handed out again after a delay.

SIGTERM and SIGINT give back the events that no command has begun with, and wait for commands that
run; a second signal kills them.";

#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct WorkArgs {
    #[command(flatten)]
    connection: ConnectionArgs,

    /// The subscription; create it with `clerkcast subscription create`
    #[arg(value_name = "NAME")]
    subscription: String,

    /// The command, and its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<OsString>,

    /// Run at most N commands at once; events of one user are handled one after the other
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(i32).range(1..=1000)
    )]
    concurrency: i32,

    /// Kill a command with all its processes after this long; the event has failed then
    #[arg(long, value_name = "TIME", default_value = "10m")]
    timeout: Period,

    /// Also pass the verified body, in the event's `payload_json`
    #[arg(long)]
    include_payload: bool,

    /// End after N events [default: no limit]
    #[arg(long, value_name = "N")]
    max: Option<i64>,

    /// End when all events that were in the log at the start are handled
    #[arg(long)]
    until_handled: bool,

    /// The name to show up with in the gateway's logs
    #[arg(long, value_name = "NAME", default_value = "clerkcast work")]
    name: String,
}

/// Why no further command is started.
enum End {
    /// As the request asked.
    Finished,
    Interrupted,
    Terminated,
    Failed(Failure),
}

pub(super) async fn run(args: WorkArgs) -> Result<(), Failure> {
    let subscription = args.subscription.clone();
    let request = ReceiveRequest {
        subscription: subscription.clone(),
        max_outstanding: args.concurrency,
        include_payload: args.include_payload,
        max_events: args.max.unwrap_or(0),
        stop_when_handled: args.until_handled,
        worker_name: args.name.clone(),
        ..ReceiveRequest::default()
    };
    let mut signals = Signals::listen()?;
    let mut worker = Worker::of(args.connection.gateway()?, request, args.timeout.0)
        .watch(notices::reporter(&subscription));
    let mut crew = Crew::new(&args);
    let end = loop {
        tokio::select! {
            end = signals.next() => break end,
            next = worker.next(), if crew.has_room() => match next {
                Ok(Some(delivery)) => crew.begin(delivery),
                Ok(None) => break End::Finished,
                Err(error) => break End::Failed(advice::failure(&error, &subscription)),
            },
            Some(handled) = crew.next() => {
                if let Err(failure) = crew.note(handled) {
                    break End::Failed(failure);
                }
            }
        }
    };
    // What no command has begun with is given back at once; then commands that run are awaited.
    let mut is_signaled = matches!(end, End::Interrupted | End::Terminated);
    let stopped = {
        let stopping = worker.stop();
        tokio::pin!(stopping);
        loop {
            tokio::select! {
                stopped = &mut stopping => break stopped,
                _ = signals.next() => {
                    if std::mem::replace(&mut is_signaled, true) {
                        crew.kill();
                    }
                }
                Some(handled) = crew.next() => {
                    let _reported_already = crew.note(handled);
                }
            }
        }
    };
    let summary = crew.summary();
    match (end, stopped) {
        (End::Failed(failure), _) => Err(failure),
        (_, Err(error)) => Err(advice::failure(&error, &subscription)),
        (End::Interrupted, Ok(())) => Err(Failure::Interrupted(summary)),
        (End::Finished | End::Terminated, Ok(())) => {
            note(summary);
            Ok(())
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::failed);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> End {
        tokio::select! {
            _ = self.terminate.recv() => End::Terminated,
            _ = self.interrupt.recv() => End::Interrupted,
        }
    }
}

/// The commands that run.
struct Crew {
    command: Arc<CommandLine>,
    room: usize,
    running: JoinSet<Handled>,
    kill: watch::Sender<bool>,
    handled: u64,
    failed: u64,
}

/// What became of one event.
enum Handled {
    Acknowledged,
    Failed,
    /// The event was given back: no event can be handled.
    NoCommand(std::io::Error),
}

impl Crew {
    fn new(args: &WorkArgs) -> Self {
        Self {
            command: Arc::new(CommandLine::new(&args.command, args.timeout)),
            room: usize::try_from(args.concurrency).unwrap_or(1),
            running: JoinSet::new(),
            kill: watch::Sender::new(false),
            handled: 0,
            failed: 0,
        }
    }

    fn has_room(&self) -> bool {
        self.running.len() < self.room
    }

    fn begin(&mut self, delivery: Delivery) {
        let command = Arc::clone(&self.command);
        self.running
            .spawn(handle(command, delivery, self.kill.subscribe()));
    }

    /// The next command that ends; none if no command runs.
    async fn next(&mut self) -> Option<Handled> {
        match self.running.join_next().await? {
            Ok(handled) => Some(handled),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Some(Handled::Failed),
        }
    }

    fn note(&mut self, handled: Handled) -> Result<(), Failure> {
        match handled {
            Handled::Acknowledged => self.handled += 1,
            Handled::Failed => self.failed += 1,
            Handled::NoCommand(error) => {
                let program = self.command.program.display();
                return Err(Failure::Usage(format!("COMMAND: {program}: {error}")));
            }
        }
        Ok(())
    }

    /// Kills the commands that run; their events have failed.
    fn kill(&self) {
        self.kill.send_replace(true);
    }

    fn summary(&self) -> String {
        let noun = if self.handled == 1 { "event" } else { "events" };
        match self.failed {
            0 => format!("{} {noun} handled", self.handled),
            failed => format!("{} {noun} handled, {failed} failed", self.handled),
        }
    }
}

/// Runs the command for one event, and gives the event its outcome.
async fn handle(
    command: Arc<CommandLine>,
    delivery: Delivery,
    killed: watch::Receiver<bool>,
) -> Handled {
    let ended = match command.run(&delivery, killed).await {
        Ok(ended) => ended,
        Err(error) if command::is_permanent(&error) => {
            delivery.release();
            return Handled::NoCommand(error);
        }
        Err(error) => Ended::failed(format!("the command cannot be started: {error}")),
    };
    let Some(failure) = &ended.failure else {
        delivery.acknowledge();
        return Handled::Acknowledged;
    };
    let (id, name, attempt) = (&delivery.event.id, &delivery.event.r#type, delivery.attempt);
    note(format_args!(
        "{id} {name}, delivery {attempt}, failed: {failure}"
    ));
    delivery.fail(ended.reason(failure));
    Handled::Failed
}
