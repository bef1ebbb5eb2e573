//! What a run of the garbage collection did.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::types::{Digest, RepositoryName, Tag};

/// How many warnings a summary quotes, and how many characters of each.
const QUOTED: (usize, usize) = (10, 200);

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
    /// What has ended it early, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Summary {
    /// Says that `error` has ended the run.
    pub fn fail(&mut self, error: &dyn std::fmt::Display) {
        self.error = Some(error.to_string().chars().take(QUOTED.1).collect());
    }

    /// Counts a warning, and quotes it if it is among the first.
    pub(super) fn warn(&mut self, message: &str) {
        self.warnings += 1;
        if self.messages.len() < QUOTED.0 {
            self.messages.push(message.chars().take(QUOTED.1).collect());
        }
    }
}

/// One thing that a run does, or that a dry run would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// What is done.
    pub action: Action,
    /// To what kind of thing.
    pub kind: Kind,
    /// In which repository; blobs are in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryName>,
    /// The tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// The blob or manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The blob's size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Why.
    pub why: String,
}

/// What a run does with a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// It is moved to the quarantine.
    Condemn,
    /// It comes back from the quarantine.
    Revive,
    /// It is deleted for good.
    Delete,
}

/// What a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A tag.
    Tag,
    /// A repository's link to a manifest.
    Manifest,
    /// A repository's link to a blob.
    Layer,
    /// A blob's bytes.
    Blob,
    /// An entry of a tag's history.
    History,
    /// An upload session.
    Upload,
}

impl fmt::Display for Item {
    /// One line, like `condemn blob sha256:… of 1234 bytes: nothing leads to it`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            Action::Condemn => "condemn",
            Action::Revive => "revive",
            Action::Delete => "delete",
        };
        let kind = match self.kind {
            Kind::Tag => "tag",
            Kind::Manifest => "manifest",
            Kind::Layer => "layer link",
            Kind::Blob => "blob",
            Kind::History => "history entry",
            Kind::Upload => "upload",
        };
        write!(formatter, "{action} {kind} ")?;
        match (&self.repository, &self.tag) {
            (Some(repository), Some(tag)) => write!(formatter, "{repository}:{tag}")?,
            (Some(repository), None) => write!(formatter, "{repository}")?,
            (None, _) => {}
        }
        match (&self.repository, &self.digest) {
            (Some(_), Some(digest)) => write!(formatter, "@{digest}")?,
            (None, Some(digest)) => write!(formatter, "{digest}")?,
            (_, None) => {}
        }
        if let Some(bytes) = self.bytes {
            write!(formatter, " of {bytes} bytes")?;
        }
        write!(formatter, ": {}", self.why)
    }
}
