//! When tags and manifests were pulled last, for retention rules.
//!
//! The time of an empty file beside the tree says it, to the hour. The files are only a cache: without them, a tag
//! counts as one that was never pulled.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Registry, Result, optional};
use crate::storage::{Durability, Key};
use crate::types::{Reference, RepositoryName};

/// How often, at most, the time of a pull is written.
const PRECISION: Duration = Duration::from_secs(3600);

/// How many pulled references may wait to be written down.
const MOST_PENDING: usize = 16 * 1024;

/// What was pulled since somebody last took it: each reference once, so that its size is bounded whatever clients do.
#[derive(Debug, Default)]
pub struct PendingPulls {
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    references: HashMap<RepositoryName, HashSet<Reference>>,
    count: usize,
}

impl PendingPulls {
    /// Notes a pull, and says whether there was room for it. It takes a look at a table, no more.
    #[must_use]
    pub fn note(&self, name: &RepositoryName, reference: &Reference) -> bool {
        // No panic can leave the table half changed in a way that matters.
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.references.get(name).is_some_and(|references| references.contains(reference)) {
            return true;
        }
        let has_room = pending.count < MOST_PENDING;
        if has_room {
            pending.count += 1;
            pending.references.entry(name.clone()).or_default().insert(reference.clone());
        }
        has_room
    }

    /// Takes out all that was noted, in no order.
    pub fn take(&self) -> impl Iterator<Item = (RepositoryName, Reference)> + use<> {
        let taken = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        let names = taken.references.into_iter();
        names.flat_map(|(name, references)| {
            references.into_iter().map(move |reference| (name.clone(), reference))
        })
    }
}

impl Registry {
    /// Writes down that a tag or manifest was pulled now, unless another pull was written down within the hour.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn record_pull(&self, name: &RepositoryName, reference: &Reference) -> Result<()> {
        let key = Key::Pulled(name, reference);
        let written = optional(self.storage.stat(key).await)?;
        let is_fresh = |modified: SystemTime| modified.elapsed().is_ok_and(|age| age < PRECISION);
        if written.is_some_and(|stat| is_fresh(stat.modified)) {
            return Ok(());
        }
        Ok(self.storage.put(key, b"", Durability::Process).await?)
    }

    /// When a tag, or a manifest by its digest, was pulled last, if that is known.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn pulled_at(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<SystemTime>> {
        let stat = optional(self.storage.stat(Key::Pulled(name, reference)).await)?;
        Ok(stat.map(|stat| stat.modified))
    }

    /// When each of a repository's tags and manifests was pulled last, as far as that is known.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn pulls(&self, name: &RepositoryName) -> Result<HashMap<Reference, SystemTime>> {
        let mut pulls = HashMap::new();
        for key in [Key::PulledTags(name), Key::PulledManifests(name)] {
            for found in optional(self.storage.walk(key).await)?.unwrap_or_default() {
                // A digest lies in a directory for its algorithm; a tag has no slash.
                if let (Ok(reference), Ok(file)) = (found.name.replacen('/', ":", 1).parse(), found.stat) {
                    pulls.insert(reference, file.modified);
                }
            }
        }
        Ok(pulls)
    }

    /// Forgets when a tag or manifest was pulled, because it is gone: another of its name starts anew.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn forget_pulls(&self, name: &RepositoryName, reference: &Reference) -> Result<()> {
        optional(self.storage.delete(Key::Pulled(name, reference), Durability::Process).await)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::Memory;
    use crate::types::{Algorithm, Hasher};

    fn references() -> [Reference; 3] {
        let digest = |algorithm| Reference::Digest(Hasher::digest(algorithm, b"manifest"));
        ["v1".parse().unwrap(), digest(Algorithm::Sha256), digest(Algorithm::Sha512)]
    }

    #[tokio::test]
    async fn the_time_of_a_pull_is_written_at_most_once_an_hour() {
        let memory = Memory::default();
        let registry = Registry::new(Arc::new(memory.clone()));
        let name: RepositoryName = "a/b".parse().unwrap();
        for reference in references() {
            let pulled_at = || async { registry.pulled_at(&name, &reference).await.unwrap() };
            let path = Key::Pulled(&name, &reference).to_string();
            assert_eq!(pulled_at().await, None);
            registry.record_pull(&name, &reference).await.unwrap();
            memory.age(&path, Duration::from_secs(3000));
            let first = pulled_at().await.unwrap();
            registry.record_pull(&name, &reference).await.unwrap();
            assert_eq!(pulled_at().await, Some(first), "too soon");
            memory.age(&path, Duration::from_secs(601));
            registry.record_pull(&name, &reference).await.unwrap();
            assert!(pulled_at().await.unwrap() > first, "after an hour");
            registry.forget_pulls(&name, &reference).await.unwrap();
            registry.forget_pulls(&name, &reference).await.unwrap();
            assert_eq!(pulled_at().await, None);
        }
    }

    #[tokio::test]
    async fn a_repository_tells_its_own_pulls_and_not_those_below_it() {
        let registry = Registry::new(Arc::new(Memory::default()));
        let [name, below] = ["a", "a/b"].map(|name| name.parse::<RepositoryName>().unwrap());
        assert!(registry.pulls(&name).await.unwrap().is_empty());
        for reference in references() {
            registry.record_pull(&name, &reference).await.unwrap();
        }
        registry.record_pull(&below, &"v2".parse().unwrap()).await.unwrap();
        let pulls: HashSet<_> = registry.pulls(&name).await.unwrap().into_keys().collect();
        assert_eq!(pulls, HashSet::from(references()));
    }

    #[test]
    fn a_reference_waits_once_and_those_beyond_the_limit_do_not() {
        let pulls = PendingPulls::default();
        let name: RepositoryName = "a".parse().unwrap();
        for number in 0..MOST_PENDING {
            let reference = format!("v{number}").parse().unwrap();
            assert!(pulls.note(&name, &reference) && pulls.note(&name, &reference));
        }
        assert!(!pulls.note(&name, &"one-more".parse().unwrap()), "there is no room");
        assert!(pulls.note(&name, &"v0".parse().unwrap()), "what waits already needs none");
        assert_eq!(pulls.take().count(), MOST_PENDING);
        assert_eq!(pulls.take().count(), 0);
        assert!(pulls.note(&name, &"one-more".parse().unwrap()));
    }
}
