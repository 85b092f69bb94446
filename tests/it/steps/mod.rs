//! The laws of subscriptions, for the task that makes their steps: several gateways over one
//! log in one process, in a time that the test owns.

mod client;
mod crowd;
pub(crate) mod faulty;
mod letters;
mod places;
mod random;
mod streams;
mod watcher;
pub(crate) mod world;
