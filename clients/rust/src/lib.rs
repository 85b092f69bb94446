//! The client of Clerkcast, the event-distribution gateway for Clerk: its messages, a
//! [`Subscriber`] that reconnects and resumes, and a [`Worker`] of a subscription that the
//! gateway keeps. `clerkcast tail` and `clerkcast work` use this crate.
//!
//! ```no_run
//! # async fn example() -> Result<(), clerkcast_client::Error> {
//! use clerkcast_client::{Subscriber, proto::v1::{SubscribeRequest, subscribe_response::Kind}};
//!
//! let mut subscriber = Subscriber::new("http://127.0.0.1:50051", SubscribeRequest::default())?;
//! while let Some(frame) = subscriber.next().await? {
//!     if let Some(Kind::Event(event)) = frame.kind {
//!         println!("{} {}", event.r#type, event.id); // handle it …
//!     }
//!     // … then store `frame.cursor`: after a restart, pass it as `after_cursor`.
//! }
//! # Ok(()) }
//! ```

#![warn(missing_docs)]

mod error;
mod fault;
mod gateway;
pub mod proto;
mod retry;
mod silence;
mod subscriber;
mod watcher;
mod worker;

pub use error::{Error, reason};
pub use gateway::{Authorized, Credentials, Gateway, with_scheme};
pub use retry::Connection;
pub use subscriber::Subscriber;
pub use worker::{Answer, Delivery, Failure, Notice, Settlement, Worker};
