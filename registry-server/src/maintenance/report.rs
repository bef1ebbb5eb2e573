//! What a run of the garbage collection did.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The figures of one run. As JSON it is at most 4096 bytes, what a container's termination message can hold.
///
/// Sizes are in bytes. A dry run's figures are those that a real run would have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// The run's name, by which its quarantine can be restored.
    pub run: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Whether it came to its end, rather than to that of its time budget.
    pub complete: bool,
    /// Repositories that were looked at.
    pub repositories: u64,
    /// Tags that were there at the start.
    pub tags: u64,
    /// Manifests that were there at the start.
    pub manifests: u64,
    /// Blobs that are kept, manifests among them.
    pub blobs: u64,
    /// Size of the blobs that are kept.
    pub bytes: u64,
    /// Tags that retention let go.
    pub tags_deleted: u64,
    /// Manifests that were taken out of their repositories.
    pub manifests_deleted: u64,
    /// Blobs that were moved to the quarantine.
    pub blobs_condemned: u64,
    /// Size of the blobs that were moved to the quarantine.
    pub bytes_condemned: u64,
    /// Blobs that came back from the quarantine because something refers to them again.
    pub blobs_revived: u64,
    /// Blobs whose time in the quarantine was over and that were deleted.
    pub blobs_deleted: u64,
    /// Size of the blobs that were deleted.
    pub bytes_reclaimed: u64,
    /// Blobs that are in the quarantine at the end.
    pub blobs_quarantined: u64,
    /// Size of the blobs that are in the quarantine at the end.
    pub bytes_quarantined: u64,
    /// Upload sessions that were given up.
    pub uploads_deleted: u64,
    /// Links, side files and directories without use that were removed.
    pub leftovers_deleted: u64,
    /// Tags and manifests that would have gone if no workload used them.
    pub protected_by_workloads: u64,
    /// How many things could not be read, and were kept with all that they could lead to.
    pub warnings: u64,
    /// The first of the warnings, in words.
    pub messages: Vec<String>,
}
