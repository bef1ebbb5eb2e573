//! Jobs beside the server that go over the whole registry: garbage collection, retention, and the undoing of both.
//!
//! They run in a process of their own, next to any number of serving ones, on the same storage. What makes that
//! safe is the order of steps in `collect.rs`, together with that of a push in [`crate::registry`].

mod collect;
mod digest_set;
mod explain;
mod graph;
mod lease;
mod pace;
mod report;
mod repository;
pub mod retention;
mod survey;
mod undo;
mod uploads;

use std::error::Error as StdError;
use std::num::NonZeroU32;
use std::time::Duration;

use jiff::Timestamp;

pub use collect::{Collection, Event};
pub use explain::{Subject, explain};
pub use report::{Action, Item, Kind, Summary};
pub use undo::{Condemnations, purge, quarantined, restore};
pub use uploads::{PurgedUploads, purge_repository_uploads, purge_uploads};

use crate::registry;
use crate::storage;
use retention::Rules;

/// How a run collects.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether nothing is changed, only told.
    pub dry_run: bool,
    /// Whether manifests go that neither a tag nor a kept manifest leads to.
    pub delete_untagged: bool,
    /// For how long garbage is left alone before it is condemned, and again before it is deleted.
    pub grace_period: Duration,
    /// What must be kept and what may go.
    pub rules: Rules,
    /// After how long without a byte an upload session is given up; `None` for never.
    pub uploads_older_than: Option<Duration>,
    /// How long the run may take.
    pub time_budget: Option<Duration>,
    /// How many operations a second the run may ask of the storage.
    pub io_limit: Option<NonZeroU32>,
}

/// Why a job cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another run is under way.
    #[error("run {run} by {holder} is under way; if it is dead, its lease ends at {expires}")]
    Busy {
        /// The other run.
        run: String,
        /// Where it runs.
        holder: String,
        /// Until when it is believed to go on.
        expires: Timestamp,
    },
    /// The other run has begun because this one stood still for too long.
    #[error("another run has taken over because this one stood still for too long")]
    LeaseLost,
    /// The run was asked to end.
    #[error("the run was asked to end before all was looked at; the next one goes on")]
    Stopped,
    /// What the quarantine is asked for is not in it.
    #[error("{0} is not in the quarantine")]
    NotQuarantined(String),
    /// What is to be explained is in no repository.
    #[error("{0} is neither in a repository nor in the quarantine")]
    Unknown(String),
    /// The storage failed.
    #[error("the storage failed")]
    Storage(#[from] storage::Error),
    /// The registry failed.
    #[error("the registry failed")]
    Registry(#[from] registry::Error),
}

/// The result of a job.
pub type Result<T> = std::result::Result<T, Error>;

/// An error with all that caused it, in one line.
fn causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
