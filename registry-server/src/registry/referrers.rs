//! Referrers: which manifests are about which others.
//!
//! An empty file beside the tree says that one manifest is about another. As a digest names bytes, that is true for good,
//! so the files follow no deletion: what counts is whether the repository has the referrer now. One more file lists the
//! manifests of which this is known. What the repository has beyond those was pushed by another program, or is older than
//! this index, and is read once. All of it is only a cache: when it is gone, it is made again.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;

use super::{Page, Registry, Result, optional};
use crate::storage::{Durability, Key};
use crate::types::{Algorithm, Digest, Referrer, RepositoryName};

/// The most bytes of manifests that one page tells of: clients take an index of 4 MiB at most, and a descriptor is not
/// longer than its manifest by much.
const MOST_BYTES: u64 = 2 * 1024 * 1024;

/// That a manifest is about another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Relation {
    /// What it is about.
    pub subject: Digest,
    /// The manifest.
    pub referrer: Digest,
}

impl Registry {
    /// The manifests of a repository that are about `subject`, which need not be there, in byte order: those after `last`,
    /// at most `limit`, and only those of an artifact type if one is asked for.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn list_referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Page<Referrer>> {
        let found = self.look_into_unknown(name).await?;
        let found = found.into_iter().filter(|relation| relation.subject == *subject);
        let mut digests: BTreeSet<Digest> = found.map(|relation| relation.referrer).collect();
        digests.extend(self.recorded(Key::ReferrersOf(name, subject)).await?);
        digests.retain(|digest| last.is_none_or(|last| digest.to_string().as_str() > last));
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for digest in digests {
            let Some(referrer) = self.referrer(name, &digest, subject).await? else { continue };
            if artifact_type.is_some_and(|wanted| referrer.artifact_type.as_deref() != Some(wanted)) {
                continue;
            }
            bytes += referrer.size;
            if entries.len() >= limit || (bytes > MOST_BYTES && !entries.is_empty()) {
                return Ok(Page { entries, more: true });
            }
            entries.push(referrer);
        }
        Ok(Page { entries, more: false })
    }

    /// Writes down what a manifest is about. Whoever pushes it does so before its link, so that it is known of every
    /// manifest that is there.
    pub(super) async fn record_referrer(&self, name: &RepositoryName, relation: &Relation) -> Result<()> {
        let key = Key::Referrer(name, &relation.subject, &relation.referrer);
        if !self.exists(key).await? {
            self.storage.put(key, b"", Durability::Durable).await?;
        }
        Ok(())
    }

    /// All that is written down about a repository's manifests, be they still there or not.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn recorded_referrers(&self, name: &RepositoryName) -> Result<Vec<Relation>> {
        let found = optional(self.storage.walk(Key::Referrers(name)).await)?.unwrap_or_default();
        let relations = found.iter().filter_map(|found| {
            let mut parts = found.name.split('/');
            let mut digest = || format!("{}:{}", parts.next()?, parts.next()?).parse().ok();
            Some(Relation { subject: digest()?, referrer: digest()? })
        });
        Ok(relations.collect())
    }

    /// Forgets what manifests are about that are gone.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn forget_referrers(&self, name: &RepositoryName, gone: &[Relation]) -> Result<()> {
        // First, for it may list them; and last, for somebody may have pushed and listed one of them meanwhile.
        self.forget_known(name).await?;
        for Relation { subject, referrer } in gone {
            let key = Key::Referrer(name, subject, referrer);
            optional(self.storage.delete(key, Durability::Process).await)?;
        }
        self.forget_known(name).await?;
        optional(self.storage.prune(Key::Referrers(name)).await)?;
        Ok(())
    }

    async fn forget_known(&self, name: &RepositoryName) -> Result<()> {
        optional(self.storage.delete(Key::ReferrersKnown(name), Durability::Process).await)?;
        Ok(())
    }

    /// Reads the manifests that the repository has and that nobody has looked into yet. Gives what they are about, for
    /// a storage that cannot be written to does not keep it.
    async fn look_into_unknown(&self, name: &RepositoryName) -> Result<Vec<Relation>> {
        let present = self.revision_names(name).await?;
        let known = optional(self.storage.read(Key::ReferrersKnown(name)).await)?.unwrap_or_default();
        let known: HashSet<&str> = std::str::from_utf8(&known).unwrap_or_default().lines().collect();
        let (mut looked_into, unknown): (Vec<_>, Vec<_>) =
            present.into_iter().partition(|digest| known.contains(digest.as_str()));
        let (mut found, mut kept, known) = (Vec::new(), true, looked_into.len());
        for text in &unknown {
            let Ok(digest) = text.parse() else { continue };
            let Some(bytes) = self.peek_manifest(name, &digest).await? else { continue };
            if let Some((subject, _)) = Referrer::of(&digest, &bytes) {
                let relation = Relation { subject, referrer: digest };
                kept = kept && self.record_referrer(name, &relation).await.is_ok();
                found.push(relation);
            }
            looked_into.push(text.clone());
        }
        if kept && looked_into.len() > known {
            let list = looked_into.join("\n");
            let written = self.storage.put(Key::ReferrersKnown(name), list.as_bytes(), Durability::Process);
            if let Err(error) = written.await {
                tracing::debug!(repository = %name, %error, "the list of known manifests is not kept");
            }
        }
        Ok(found)
    }

    /// The digests of a repository's manifests as text: there may be many, and most need not be understood.
    async fn revision_names(&self, name: &RepositoryName) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for algorithm in Algorithm::ALL {
            let entries = optional(self.storage.list(Key::Revisions(name, algorithm)).await)?;
            names.extend(entries.into_iter().flatten().map(|entry| format!("{algorithm}:{}", entry.name)));
        }
        Ok(names)
    }

    async fn recorded(&self, key: Key<'_>) -> Result<Vec<Digest>> {
        let found = optional(self.storage.walk(key).await)?.unwrap_or_default();
        Ok(found.iter().filter_map(|found| found.name.replacen('/', ":", 1).parse().ok()).collect())
    }

    async fn referrer(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        subject: &Digest,
    ) -> Result<Option<Referrer>> {
        let Some(target) = self.find_link(Key::RevisionLink(name, digest)).await? else { return Ok(None) };
        let Some(bytes) = self.read_blob(&target).await? else { return Ok(None) };
        let referrer = Referrer::of(digest, &bytes).filter(|(about, _)| about == subject);
        Ok(referrer.map(|(_, referrer)| referrer))
    }

    async fn peek_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<Bytes>> {
        match self.stored_manifest(name, digest).await? {
            Some(stored) => self.peek_blob(&stored).await,
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::storage::Memory;
    use crate::types::{Hasher, Reference};

    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    struct Place {
        memory: Memory,
        registry: Registry,
        name: RepositoryName,
    }

    impl Place {
        fn new() -> Self {
            let memory = Memory::default();
            let registry = Registry::new(Arc::new(memory.clone()));
            Self { memory, registry, name: "a/b".parse().unwrap() }
        }

        /// Pushes an index that is about `subject`, by its digest.
        async fn push(&self, subject: &Digest, number: u32) -> Digest {
            let bytes = referrer(subject, number);
            let digest = Hasher::digest(Algorithm::Sha256, &bytes);
            let reference = Reference::Digest(digest.clone());
            let pushed = self.registry.put_manifest(&self.name, &reference, &[], Some(INDEX), bytes).await;
            assert_eq!(pushed.unwrap().subject.as_ref(), Some(subject));
            digest
        }

        /// Writes what another program writes that knows of no referrers.
        async fn push_as_others_do(&self, subject: &Digest, number: u32) -> Digest {
            let bytes = referrer(subject, number);
            let digest = Hasher::digest(Algorithm::Sha256, &bytes);
            let link = digest.to_string();
            let storage = self.registry.storage();
            storage.put(Key::BlobData(&digest), &bytes, Durability::Durable).await.unwrap();
            let key = Key::RevisionLink(&self.name, &digest);
            storage.put(key, link.as_bytes(), Durability::Durable).await.unwrap();
            digest
        }

        async fn list(&self, subject: &Digest) -> BTreeSet<Digest> {
            let page = self.registry.list_referrers(&self.name, subject, None, None, 100).await.unwrap();
            page.entries.into_iter().map(|referrer| referrer.digest).collect()
        }
    }

    fn referrer(subject: &Digest, number: u32) -> Bytes {
        let kind = if number.is_multiple_of(2) { "x/even" } else { "x/odd" };
        let value = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "artifactType": kind,
            "annotations": {"number": number.to_string()},
            "subject": {"mediaType": INDEX, "digest": subject, "size": 1}});
        value.to_string().into()
    }

    fn subject(text: &str) -> Digest {
        Hasher::digest(Algorithm::Sha256, text.as_bytes())
    }

    #[tokio::test]
    async fn referrers_are_found_whoever_pushed_them_and_when() {
        let place = Place::new();
        let (one, other) = (subject("one"), subject("other"));
        assert!(place.list(&one).await.is_empty());
        let mut expected = BTreeSet::from([place.push_as_others_do(&one, 1).await]);
        assert_eq!(place.list(&one).await, expected, "before there was an index");
        expected.insert(place.push(&one, 2).await);
        assert_eq!(place.list(&one).await, expected);
        expected.insert(place.push_as_others_do(&one, 3).await);
        assert_eq!(place.list(&one).await, expected, "since the index was made");
        let apart = place.push(&other, 4).await;
        assert_eq!((place.list(&one).await, place.list(&other).await), (expected, BTreeSet::from([apart])));
    }

    #[tokio::test]
    async fn the_index_is_only_a_cache() {
        let place = Place::new();
        let one = subject("one");
        let expected = BTreeSet::from([place.push(&one, 1).await, place.push_as_others_do(&one, 2).await]);
        let first = expected.first().unwrap();
        let known = Key::ReferrersKnown(&place.name).to_string();
        let file = Key::Referrer(&place.name, &one, first).to_string();
        for lost in [&[known.as_str()][..], &[&known, &file]] {
            assert_eq!(place.list(&one).await, expected);
            for path in lost {
                place.memory.remove(path);
            }
            assert_eq!(place.list(&one).await, expected, "without {lost:?}");
        }
        let list = format!("nonsense\n{first}");
        place
            .registry
            .storage()
            .put(Key::ReferrersKnown(&place.name), list.as_bytes(), Durability::Process)
            .await
            .unwrap();
        assert_eq!(place.list(&one).await, expected, "the list is cut off");
    }

    #[tokio::test]
    async fn a_referrer_that_is_deleted_is_not_listed_until_it_comes_back() {
        let place = Place::new();
        let one = subject("one");
        let digest = place.push(&one, 1).await;
        place.list(&one).await;
        place.registry.delete_manifest(&place.name, &digest).await.unwrap();
        assert!(place.list(&one).await.is_empty());
        place.push_as_others_do(&one, 1).await;
        assert_eq!(place.list(&one).await.len(), 1);
        let recorded = place.registry.recorded_referrers(&place.name).await.unwrap();
        assert_eq!(recorded, [Relation { subject: one.clone(), referrer: digest.clone() }]);
        place.registry.forget_referrers(&place.name, &recorded).await.unwrap();
        assert!(place.registry.recorded_referrers(&place.name).await.unwrap().is_empty());
        assert_eq!(place.list(&one).await, BTreeSet::from([digest]), "it was forgotten too early");
    }

    #[tokio::test]
    async fn pages_follow_each_other_in_order_and_by_type() {
        let place = Place::new();
        let one = subject("one");
        for number in 0..10 {
            place.push(&one, number).await;
        }
        for (artifact_type, limit, expected) in [(None, 3, 10), (Some("x/odd"), 2, 5), (Some("x/none"), 2, 0)]
        {
            let (mut found, mut last) = (Vec::new(), None::<String>);
            loop {
                let page =
                    place.registry.list_referrers(&place.name, &one, artifact_type, last.as_deref(), limit);
                let page = page.await.unwrap();
                assert!(page.entries.len() <= limit);
                last = page.entries.last().map(|referrer| referrer.digest.to_string());
                found.extend(page.entries.into_iter().map(|referrer| referrer.digest));
                if !page.more {
                    break;
                }
            }
            assert!(found.is_sorted());
            assert_eq!(found.len(), expected, "{artifact_type:?}");
        }
    }

    #[tokio::test]
    async fn a_manifest_is_looked_into_once() {
        let place = Place::new();
        let one = subject("one");
        let digest = place.push_as_others_do(&subject("other"), 1).await;
        place.list(&one).await;
        let data = Key::BlobData(&digest).to_string();
        place.memory.remove(&data);
        assert!(place.registry.look_into_unknown(&place.name).await.unwrap().is_empty());
        let known = place.registry.storage().read(Key::ReferrersKnown(&place.name)).await.unwrap();
        assert_eq!(known, digest.to_string());
    }
}
