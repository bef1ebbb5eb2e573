//! The quarantine: where a garbage collection puts what it takes for garbage, and from where any use brings it back.
//!
//! Blobs, a repository's links to blobs and its links to manifests are *condemned*: moved to a place of the run's
//! own. A later run that finds them unreachable still, a grace period later, deletes them. Until then every reader
//! and every push that misses one of them *revives* it. Tags are condemned too, but only a person brings them back.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{Registry, Result, optional};
use crate::storage::{Condemned, Durability, Key, Stat};
use crate::types::{Digest, RepositoryName, RunId, Tag};

/// How often, at most, the time of a blob is set anew because it is used.
const REFRESH_INTERVAL: Duration = Duration::from_secs(3600);

/// How often something is looked for that may be moving between its place and the quarantine.
pub(super) const LOOKS: usize = 5;

/// One thing that a run has condemned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The run.
    pub run: RunId,
    /// What it is.
    pub condemned: Condemned,
    /// Its size in bytes.
    pub size: u64,
}

impl Registry {
    /// The runs that have something in the quarantine, newest first.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn quarantine_runs(&self) -> Result<Vec<RunId>> {
        let entries = optional(self.storage.list(Key::Quarantine).await)?.unwrap_or_default();
        let mut runs: Vec<RunId> = entries.iter().filter_map(|entry| entry.name.parse().ok()).collect();
        runs.sort_unstable();
        runs.reverse();
        Ok(runs)
    }

    /// What a run has condemned and nobody has revived or deleted since.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn condemned_by(&self, run: &RunId) -> Result<Vec<Instance>> {
        let found = optional(self.storage.walk(Key::QuarantineRun(run)).await)?.unwrap_or_default();
        let instances = found.into_iter().filter_map(|found| {
            let condemned = Condemned::parse(&found.name)?;
            Some(Instance { run: *run, condemned, size: found.stat.ok()?.size })
        });
        Ok(instances.collect())
    }

    /// Moves what is stored under `key` to the quarantine, and says whether it was still there.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn condemn(&self, run: &RunId, key: Key<'_>) -> Result<bool> {
        let moved = self.storage.rename(key, Key::Quarantined(run, &key), Durability::Process).await;
        Ok(optional(moved)?.is_some())
    }

    /// Moves a tag to the quarantine, with its history, if it still names `digest`, and says whether it did.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn condemn_tag(
        &self,
        run: &RunId,
        name: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<bool> {
        let place = Key::TagIndexLink(name, tag, digest);
        let place = Key::Quarantined(run, &place);
        let expected = digest.to_string();
        let moved = self.storage.rename_if(Key::TagCurrent(name, tag), expected.as_bytes(), place).await?;
        if moved {
            self.forget_tag(name, tag).await?;
        }
        Ok(moved)
    }

    /// Brings back what one run has condemned, and says whether it was still there.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn revive_from(&self, run: &RunId, key: Key<'_>) -> Result<bool> {
        let moved = self.storage.rename(Key::Quarantined(run, &key), key, Durability::Durable).await;
        Ok(optional(moved)?.is_some())
    }

    /// Brings back what one run has condemned as if it had been pushed just now, and says whether it was still there.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn restore(&self, run: &RunId, key: Key<'_>) -> Result<bool> {
        let revived = self.revive_from(run, key).await?;
        if revived {
            optional(self.storage.touch(key).await)?;
        }
        Ok(revived)
    }

    /// Deletes an instance for good, and says whether it was still there.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn reclaim(&self, instance: &Instance) -> Result<bool> {
        let key = instance.condemned.key();
        let deleted = self.storage.delete(Key::Quarantined(&instance.run, &key), Durability::Process).await;
        Ok(optional(deleted)?.is_some())
    }

    /// Puts a condemned tag back if there is no such tag now, and says whether it did.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn restore_tag(
        &self,
        run: &RunId,
        name: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<bool> {
        if self.resolve_tag(name, tag).await?.is_some() {
            return Ok(false);
        }
        let history = Key::TagIndexLink(name, tag, digest);
        self.write_link(history, digest).await?;
        let place = Key::Quarantined(run, &history);
        let moved = self.storage.rename(place, Key::TagCurrent(name, tag), Durability::Durable).await;
        Ok(optional(moved)?.is_some())
    }

    /// The bytes of a blob, be it at its place or in the quarantine, which it does not leave for that.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn peek_blob(&self, digest: &Digest) -> Result<Option<Bytes>> {
        self.peek(Key::BlobData(digest)).await
    }

    /// What is stored under `key`, be it at its place or in the quarantine, which it does not leave for that.
    pub(super) async fn peek(&self, key: Key<'_>) -> Result<Option<Bytes>> {
        for _ in 0..LOOKS {
            if let Some(bytes) = optional(self.storage.read(key).await)? {
                return Ok(Some(bytes));
            }
            for run in self.quarantine_runs().await? {
                if let Some(bytes) = optional(self.storage.read(Key::Quarantined(&run, &key)).await)? {
                    return Ok(Some(bytes));
                }
            }
        }
        Ok(None)
    }

    /// Removes the directories of a run in which nothing is left.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn prune_quarantine(&self, run: &RunId) -> Result<()> {
        optional(self.storage.prune(Key::QuarantineRun(run)).await)?;
        Ok(())
    }

    /// Removes what a run, or all that have ever been, kept on disk for themselves. One that still goes on has it open.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn remove_scratch(&self, run: Option<&RunId>) -> Result<()> {
        let key = run.map_or(Key::Scratches, Key::ScratchRun);
        optional(self.storage.delete_tree(key).await)?;
        Ok(())
    }

    /// Facts about what is stored under `key`, which is brought back from the quarantine if it is there.
    pub(super) async fn find(&self, key: Key<'_>) -> Result<Option<Stat>> {
        for _ in 0..LOOKS {
            if let Some(stat) = optional(self.storage.stat(key).await)? {
                return Ok(Some(stat));
            }
            let runs = self.quarantine_runs().await?;
            for run in &runs {
                // To look costs much less than to try, and next to nothing is there.
                if self.exists(Key::Quarantined(run, &key)).await? && self.revive_from(run, key).await? {
                    break;
                }
            }
            if runs.is_empty() {
                break;
            }
            // While the runs were looked at one by one, others may have brought it back, and a run that began to mark
            // before it was in use may have condemned it again, behind our back.
        }
        Ok(optional(self.storage.stat(key).await)?)
    }

    /// The digest that a link holds, which is brought back from the quarantine if it is there.
    pub(super) async fn find_link(&self, key: Key<'_>) -> Result<Option<Digest>> {
        for _ in 0..LOOKS {
            match self.read_link(key).await? {
                None if self.find(key).await?.is_some() => {}
                link => return Ok(link),
            }
        }
        self.read_link(key).await
    }

    /// Whether a link that can only lead to `target` is there and whole, which its size tells without reading it.
    pub(super) async fn is_link_to(&self, key: Key<'_>, target: &Digest) -> Result<bool> {
        let stat = optional(self.storage.stat(key).await)?;
        Ok(stat.is_some_and(|stat| stat.size == target.to_string().len() as u64))
    }

    /// Deletes what runs have condemned of a key, so that it does not come back, and says whether there was any.
    pub(super) async fn forget_condemned(&self, key: Key<'_>) -> Result<bool> {
        let mut forgotten = false;
        for run in self.quarantine_runs().await? {
            let deleted = self.storage.delete(Key::Quarantined(&run, &key), Durability::Durable).await;
            forgotten |= optional(deleted)?.is_some();
        }
        Ok(forgotten)
    }

    /// Sets the time of what is used anew, so that it is not taken for old garbage. It only spares clients a
    /// second push, so a failure is no error.
    pub(super) async fn refresh(&self, key: Key<'_>, stat: &Stat) {
        let age = SystemTime::now().duration_since(stat.modified).unwrap_or_default();
        if age < REFRESH_INTERVAL {
            return;
        }
        if let Err(error) = self.storage.touch(key).await {
            tracing::debug!(path = %key, error = &error as &dyn std::error::Error, "a time could not be set");
        }
    }
}
