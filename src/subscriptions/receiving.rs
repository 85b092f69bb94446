//! What the owner of a subscription does with its events, and what operators do with its dead
//! letters.

use tokio::time::Instant;

use super::ack_id::AckId;
use super::ask::Report;
use super::dead::{DeadLetter, list_dead_letters};
use super::delivery::{Condition, Delivery, ReceiveOptions, WorkerFrame};
use super::directory::Entry;
use super::error::Error;
use super::handle::Subscriptions;
use super::name::Name;
use super::overview::Overview;
use super::running::Letters;
use super::worker::Worker;
use crate::access::{Narrowed, Policy, Principal, audit};
use crate::event::Position;
use crate::fanout::{Encoding, Lag, Payload, View, WorkerPlace};
use crate::filter::{AskedFilter, Filter};

/// A worker to connect.
#[derive(Clone, Debug)]
pub struct Receive {
    /// Who asks.
    pub principal: Principal,
    /// Where it connected from.
    pub peer: String,
    /// The worker's name for itself.
    pub worker_name: String,
    /// What it asks for.
    pub options: ReceiveOptions,
    /// Whether events come with their verified bodies.
    pub includes_payload: bool,
}

/// An open stream to a worker, pulled by its connection.
#[derive(Debug)]
pub struct WorkerStream {
    subscriptions: Subscriptions,
    entry: Entry,
    worker: Worker,
    view: View,
    /// Sent once.
    narrowed: Option<Narrowed>,
    receive: Receive,
    filter: AskedFilter,
    _place: WorkerPlace,
    opened: Instant,
    delivered: u64,
    ended: Option<&'static str>,
}

/// What a stream delivers.
#[derive(Debug)]
pub enum StreamFrame {
    /// The stream is open. Always first.
    Started(Box<Overview>, Option<Narrowed>),
    /// An event to handle.
    Delivery(Box<Delivery>),
    /// What the subscription is doing.
    Heartbeat(Condition, Lag),
}

/// What to do with dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Hand them out again.
    Replay,
    /// Forget them.
    Drop,
}

/// Dead letters that a caller may see, and how.
#[derive(Debug)]
pub struct LetterPage {
    /// In log order.
    pub letters: Vec<DeadLetter>,
    /// What of them to show.
    pub view: View,
    /// The position to continue after; absent where there are no more.
    pub next: Option<Position>,
}

impl Subscriptions {
    /// Connects a worker of the owner's.
    ///
    /// # Errors
    /// When the subscription is not the caller's, there are too many streams, the subscription
    /// cannot continue where it is, or the gateway stops.
    pub async fn receive(&self, name: &Name, receive: Receive) -> Result<WorkerStream, Error> {
        let principal = &receive.principal;
        let entry = self.owned(principal, name, "Receive").await?;
        let policy = principal.policy();
        if receive.includes_payload && policy.withholds_payload {
            return Err(not_allowed(principal, "include_payload"));
        }
        let asked = &entry.definition.settings.filter;
        let filter = Filter::compile_accepted(asked).unwrap_or_default();
        let within = filter.within(&policy.scope);
        let (filter, narrowed) = within.map_err(|denied| not_allowed(principal, &denied.asked))?;
        let view = view(receive.includes_payload, policy);
        let narrowed = Narrowed {
            filter: narrowed,
            redacted_fields: view.redaction.names(&filter.types()),
        };
        let fanout = &self.shared.surroundings.fanout;
        let place = fanout.admit_worker(principal)?;
        let worker = entry.running.receive(receive.options.clone()).await;
        let worker = worker.map_err(|error| Error::of_step(name, error))?;
        let stream = WorkerStream {
            subscriptions: self.clone(),
            filter: AskedFilter::new(asked),
            entry,
            worker,
            view,
            narrowed: (!narrowed.is_nothing()).then_some(narrowed),
            receive,
            _place: place,
            opened: Instant::now(),
            delivered: 0,
            ended: None,
        };
        audit::worker_opened(stream.audited());
        Ok(stream)
    }

    /// Records what became of deliveries. Returns, once that is durable, those whose outcome
    /// came too late.
    ///
    /// # Errors
    /// When the subscription is not the caller's, or the outcomes are not known to be durable.
    pub async fn acknowledge(
        &self,
        caller: &Principal,
        name: &Name,
        reports: Vec<Report>,
    ) -> Result<Vec<AckId>, Error> {
        let entry = self.owned(caller, name, "Acknowledge").await?;
        if reports.is_empty() {
            return Ok(Vec::new());
        }
        let settled = entry.running.settle(reports).await;
        settled.map_err(|error| Error::of_step(name, error))
    }

    /// Lists dead letters after a position, as far as the policies of the owner and of the caller
    /// allow both. A page may be shorter than asked for, and even empty, where more follow.
    ///
    /// # Errors
    /// When the caller sees no such subscription, or may not see bodies and asks for them.
    pub async fn list_letters(
        &self,
        caller: &Principal,
        name: &Name,
        after: Position,
        letters_max: usize,
        includes_payload: bool,
    ) -> Result<LetterPage, Error> {
        let entry = self.visible(caller, name).await?;
        let definition = &entry.definition;
        let owner = self.shared.access.principal(&definition.owner);
        // Of an owner that was removed, nothing is known any more.
        let owner = owner.unwrap_or_else(|| caller.clone());
        for principal in [&owner, caller] {
            if includes_payload && principal.policy().withholds_payload {
                return Err(not_allowed(principal, "include_payload"));
            }
        }
        let page = list_dead_letters(
            self.log(),
            name,
            definition.first_generation(),
            after,
            letters_max,
        );
        let mut page = page.await.map_err(|error| Error::of_step(name, error))?;
        let policies = [owner.policy(), caller.policy()];
        page.letters.retain(|letter| {
            let attributes = letter.record.entry.attributes.as_ref();
            policies
                .iter()
                .all(|policy| policy.scope.allows(attributes))
        });
        let mut view = view(includes_payload, owner.policy());
        if owner.name() != caller.name() {
            view.redaction = view.redaction.and(&caller.policy().redaction);
        }
        Ok(LetterPage {
            letters: page.letters,
            view,
            next: page.next,
        })
    }

    /// Hands dead letters out again, or drops them. Returns how many.
    ///
    /// # Errors
    /// When the caller sees no such subscription, or it is not known to be durable.
    pub async fn resolve(
        &self,
        caller: &Principal,
        name: &Name,
        letters: Letters,
        resolution: Resolution,
    ) -> Result<u64, Error> {
        let entry = self.visible(caller, name).await?;
        let resolved = match resolution {
            Resolution::Replay => entry.running.replay(letters).await,
            Resolution::Drop => entry.running.drop_letters(letters).await,
        };
        resolved.map_err(|error| Error::of_step(name, error))
    }
}

impl WorkerStream {
    /// What comes next; nothing once the stream has ended as asked.
    pub async fn next(&mut self) -> Option<Result<StreamFrame, Error>> {
        let Some(frame) = self.worker.next().await else {
            self.ended = Some("as_asked");
            return None;
        };
        let frame = match frame {
            Ok(frame) => self.complete(frame).await,
            Err(error) => Err(Error::of_step(&self.entry.name, error)),
        };
        if let Err(error) = &frame {
            self.ended = Some(error.name());
        }
        Some(frame)
    }

    /// What of the events to send.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The subscription.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.entry.name
    }

    async fn complete(&mut self, frame: WorkerFrame) -> Result<StreamFrame, Error> {
        Ok(match frame {
            WorkerFrame::Started(status) => {
                let overview = self.subscriptions.overview_at(&self.entry, *status).await?;
                StreamFrame::Started(Box::new(overview), self.narrowed.take())
            }
            WorkerFrame::Delivery(delivery) => {
                self.delivered += 1;
                StreamFrame::Delivery(delivery)
            }
            WorkerFrame::Heartbeat(condition) => {
                let lag = self.subscriptions.lag_after(condition.cursor).await;
                StreamFrame::Heartbeat(condition, lag)
            }
        })
    }

    fn audited(&self) -> audit::Worker<'_> {
        audit::Worker {
            principal: self.receive.principal.name(),
            subscription: self.entry.name.as_str(),
            worker: &self.receive.worker_name,
            peer: &self.receive.peer,
            filter: &self.filter,
        }
    }

    /// Why a stream that has not come to its end is dropped.
    fn dropped_because(&self) -> &'static str {
        let drain = &self.subscriptions.shared.surroundings.drain;
        if self.receive.principal.revocation().is_some() {
            "access_ended"
        } else if drain.is_cancelled() {
            "draining"
        } else {
            "client_left"
        }
    }
}

impl Drop for WorkerStream {
    fn drop(&mut self) {
        let reason = self.ended.unwrap_or_else(|| self.dropped_because());
        let held_for = self.opened.elapsed();
        audit::worker_closed(self.audited(), reason, held_for, self.delivered);
    }
}

fn view(includes_payload: bool, policy: &Policy) -> View {
    View {
        payload: if includes_payload {
            Payload::Included
        } else {
            Payload::Omitted
        },
        redaction: policy.redaction.clone(),
        encoding: Encoding::Proto,
    }
}

fn not_allowed(principal: &Principal, asked: &str) -> Error {
    Error::NotAllowed {
        principal: principal.name().to_owned(),
        asked: asked.to_owned(),
    }
}
