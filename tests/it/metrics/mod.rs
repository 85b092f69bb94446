//! `/metrics`: what there is, in a form that others read, with values that are true.

mod calls;
mod formats;
mod list;
mod subscribers;
mod values;
