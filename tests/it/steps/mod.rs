//! The laws of subscriptions, for the task that makes their steps: several gateways over one
//! log in one process, in a time that the test owns.

mod crowd;
mod faulty;
mod random;
mod watcher;
mod world;
