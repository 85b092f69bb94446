//! What can be asked, checked and answered, whatever it is carried by.

pub mod control;
pub mod event_types;
pub mod filter;
pub mod narrowed;
