//! Jobs beside the server that go over the whole registry: garbage collection, retention, and the undoing of both.
//!
//! They run in a process of their own, next to any number of serving ones, on the same storage. What makes that
//! safe is written down in [`crate::registry`]'s order of steps and in `docs/decisions`.

mod report;
pub mod retention;

pub use report::Summary;
