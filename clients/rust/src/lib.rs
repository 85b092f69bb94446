//! The client of Clerkcast, the event-distribution gateway for Clerk: its messages, and a
//! [`Subscriber`] that reconnects and resumes. `clerkcast tail` uses this crate.
//!
//! ```no_run
//! # async fn example() -> Result<(), clerkcast_client::Error> {
//! use clerkcast_client::Subscriber;
//! use clerkcast_client::proto::v1::{SubscribeRequest, subscribe_response::Kind};
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

mod fault;
pub mod proto;
mod subscriber;

pub use subscriber::{Connection, Error, Subscriber, with_scheme};
