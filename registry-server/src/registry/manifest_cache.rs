//! Manifests that were served lately. What a digest names never changes, so that only whether the repository still has it
//! must be looked up, which is much cheaper than reading and parsing it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Registry, Result, StoredManifest, optional};
use crate::storage::{Key, Stat};
use crate::types::{Digest, Hasher, RepositoryName};

/// How many bytes of manifests are kept.
const CAPACITY: usize = 4 * 1024 * 1024;

/// The largest manifest that is kept: one should not drive out hundreds.
const LARGEST: usize = 64 * 1024;

/// The manifests, the oldest of which goes first.
#[derive(Default)]
pub(super) struct ManifestCache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    manifests: HashMap<Digest, Entry>,
    order: VecDeque<Digest>,
    size: usize,
}

/// A manifest that is kept.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) manifest: StoredManifest,
    /// The digest by which its bytes are stored.
    pub(super) stored: Digest,
}

impl Registry {
    /// The manifest of a digest and facts about its bytes, if it is kept in memory and the repository has it: its link is
    /// whole, and its bytes are at their place. Otherwise the long way has to be gone, which also brings back what is in
    /// the quarantine.
    pub(super) async fn cached_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(Entry, Stat)>> {
        let Some(entry) = self.cache.get(digest) else { return Ok(None) };
        let is_linked = self.is_link_to(Key::RevisionLink(name, digest), &entry.stored).await?;
        let data = optional(self.storage.stat(Key::BlobData(&entry.stored)).await)?;
        let data = data.filter(|data| is_linked && data.size == entry.manifest.bytes.len() as u64);
        Ok(data.map(|data| (entry, data)))
    }
}

impl ManifestCache {
    /// Keeps a manifest whose bytes are stored by the digest `stored`, unless they are not what its digest says: then
    /// somebody may mend them on disk.
    pub(super) fn keep(&self, manifest: &StoredManifest, stored: &Digest) {
        let StoredManifest { digest, bytes, .. } = manifest;
        if bytes.len() > LARGEST || Hasher::digest(digest.algorithm(), bytes) != *digest {
            return;
        }
        let mut kept = self.lock();
        let entry = Entry { manifest: manifest.clone(), stored: stored.clone() };
        if kept.manifests.insert(digest.clone(), entry).is_some() {
            return;
        }
        kept.order.push_back(digest.clone());
        kept.size += bytes.len();
        while kept.size > CAPACITY
            && let Some(oldest) = kept.order.pop_front()
        {
            let removed = kept.manifests.remove(&oldest);
            kept.size -= removed.map_or(0, |entry| entry.manifest.bytes.len());
        }
    }

    fn get(&self, digest: &Digest) -> Option<Entry> {
        self.lock().manifests.get(digest).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // No panic can leave it half changed in a way that matters.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ManifestCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ManifestCache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::storage::{Durability, Memory, Storage as _};
    use crate::types::{Algorithm, ManifestMediaType, Reference};

    const INDEX: &str =
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

    fn manifest(bytes: impl Into<Bytes>) -> StoredManifest {
        let bytes = bytes.into();
        let digest = Hasher::digest(Algorithm::Sha256, &bytes);
        StoredManifest { digest, media_type: ManifestMediaType::OciIndex, bytes }
    }

    #[test]
    fn the_oldest_go_and_the_large_and_the_damaged_are_not_kept() {
        let cache = ManifestCache::default();
        let size = LARGEST - 8;
        let keep = |number: u64| {
            let manifest = manifest([vec![0; size], number.to_be_bytes().to_vec()].concat());
            cache.keep(&manifest, &manifest.digest);
            manifest.digest
        };
        let all: Vec<Digest> = (0..80).map(keep).collect();
        let is_kept: Vec<bool> = all.iter().map(|digest| cache.get(digest).is_some()).collect();
        let expected: Vec<bool> = (0..80).map(|number| number >= 80 - CAPACITY / LARGEST).collect();
        assert_eq!(is_kept, expected);
        assert!(cache.lock().size <= CAPACITY);
        let damaged = StoredManifest { bytes: "other".into(), ..manifest("one") };
        for refused in [manifest(vec![0; LARGEST + 1]), damaged] {
            cache.keep(&refused, &refused.digest);
            assert!(cache.get(&refused.digest).is_none());
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_served_only_while_the_repository_has_it() {
        let memory = Memory::default();
        let registry = Registry::new(Arc::new(memory.clone()));
        let [name, other]: [RepositoryName; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        let digest = Hasher::digest(Algorithm::Sha256, INDEX.as_bytes());
        let reference = Reference::Digest(digest.clone());
        let push = async || {
            registry.put_manifest(&name, &reference, &[], None, INDEX.into()).await.unwrap();
            registry.get_manifest(&name, &reference).await.unwrap();
            assert!(registry.cached_manifest(&name, &digest).await.unwrap().is_some());
        };
        push().await;
        assert!(registry.get_manifest(&other, &reference).await.is_err(), "another repository");
        let (link, data) = (Key::RevisionLink(&name, &digest), Key::BlobData(&digest));
        for (key, content) in [(link, "sha256:"), (data, "{")] {
            memory.put(key, content.as_bytes(), Durability::Durable).await.unwrap();
            assert!(registry.get_manifest(&name, &reference).await.is_err(), "{key} is damaged");
            push().await;
            memory.delete(key, Durability::Durable).await.unwrap();
            assert!(registry.get_manifest(&name, &reference).await.is_err(), "{key} is gone");
            push().await;
        }
        registry.delete_manifest(&name, &digest).await.unwrap();
        assert!(registry.get_manifest(&name, &reference).await.is_err(), "deleted");
    }
}
