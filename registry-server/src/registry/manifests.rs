//! Manifests: what makes blobs an image.
//!
//! The order of steps in [`Registry::put_manifest`] and [`Registry::delete_manifest`] is what makes collecting
//! garbage beside pushes safe. Do not change it.

use std::collections::HashSet;

use bytes::Bytes;

use super::quarantine::LOOKS;
use super::referrers::Relation;
use super::{Error, Registry, Result, optional};
use crate::config::Blobs;
use crate::storage::{Durability, Key};
use crate::types::{
    Algorithm, Descriptor, Digest, Hasher, Manifest, ManifestMediaType, Reference, RepositoryName, Tag,
};

/// How many absent references are looked for before a manifest is refused: enough for a client that sends what it is told
/// to lack, and not the millions that an index can list.
const MOST_MISSING: usize = 100;

/// A manifest as it is served.
#[derive(Clone, Debug)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: ManifestMediaType,
    /// Its bytes, exactly as they were pushed.
    pub bytes: Bytes,
}

/// A manifest that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedManifest {
    /// Its digest.
    pub digest: Digest,
    /// What it is about.
    pub subject: Option<Digest>,
}

impl Registry {
    /// The manifest that a tag names or that has the digest.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`]; [`Error::ManifestDamaged`] when what is stored is no manifest.
    pub async fn get_manifest(&self, name: &RepositoryName, reference: &Reference) -> Result<StoredManifest> {
        let unknown = || Error::ManifestUnknown { reference: reference.clone() };
        let digest = match reference {
            Reference::Tag(tag) => self.resolve_tag(name, tag).await?.ok_or_else(unknown)?,
            Reference::Digest(digest) => digest.clone(),
        };
        if let Some((kept, _)) = self.cached_manifest(name, &digest).await? {
            return Ok(kept.manifest);
        }
        let revision = Key::RevisionLink(name, &digest);
        let linked = self.find_link(revision).await?;
        if linked.is_none() && matches!(reference, Reference::Digest(_)) {
            return Err(unknown());
        }
        let target = linked.as_ref().unwrap_or(&digest);
        let bytes = self.read_blob(target).await?.ok_or_else(unknown)?;
        if linked.is_none() {
            // Someone died between the two steps of a push or of a deletion: the tag counts.
            self.write_link(revision, &digest).await?;
        }
        match Manifest::media_type_of(&bytes) {
            Ok(media_type) => {
                let manifest = StoredManifest { digest, media_type, bytes };
                self.cache.keep(&manifest, linked.as_ref().unwrap_or(&manifest.digest));
                Ok(manifest)
            }
            Err(source) => Err(Error::ManifestDamaged { digest, source }),
        }
    }

    /// The manifest that has the digest, which is kept from being collected for a while: who looks for it may be about
    /// to push an index with it.
    ///
    /// # Errors
    /// Those of [`Registry::get_manifest`].
    pub async fn check_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<StoredManifest> {
        if let Some((kept, stat)) = self.cached_manifest(name, digest).await? {
            self.refresh(Key::BlobData(&kept.stored), &stat).await;
            return Ok(kept.manifest);
        }
        let manifest = self.get_manifest(name, &Reference::Digest(digest.clone())).await?;
        let linked = self.find_link(Key::RevisionLink(name, digest)).await?;
        let data = Key::BlobData(linked.as_ref().unwrap_or(digest));
        if let Some(stat) = optional(self.storage.stat(data).await)? {
            self.refresh(data, &stat).await;
        }
        Ok(manifest)
    }

    /// Stores a manifest, exactly as it came, and lets `tags` name it, and the tag that the reference is if it is one.
    ///
    /// It is known by the digest that the reference is, else by its SHA-256, by which its bytes are stored in any case.
    ///
    /// # Errors
    /// Nothing is written when the manifest cannot be kept ([`Error::ManifestInvalid`]), has another digest
    /// ([`Error::DigestMismatch`]), refers to what is not there ([`Error::ManifestBlobUnknown`]) or says of a blob that
    /// it has another size than it has ([`Error::BlobSize`]).
    ///
    /// # Crash safety
    /// When this returns, the manifest and all that it refers to survive a power failure. A crash before leaves
    /// a blob or a revision that nothing refers to.
    pub async fn put_manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
        tags: &[Tag],
        content_type: Option<&str>,
        bytes: Bytes,
    ) -> Result<PushedManifest> {
        let stored = Hasher::digest(Algorithm::Sha256, &bytes);
        let (digest, tag) = match reference {
            Reference::Digest(expected) if *expected == stored => (stored.clone(), None),
            Reference::Digest(expected) => (matching(expected, &bytes)?, None),
            Reference::Tag(tag) => (stored.clone(), Some(tag)),
        };
        let manifest = Manifest::parse(bytes, content_type)?;
        // Checked before the first byte is written, so that a refused push leaves nothing behind.
        let Absent { needed, optional } = self.find_references(name, &manifest, HashSet::new()).await?;
        refuse(needed)?;
        self.storage.put(Key::BlobData(&stored), manifest.bytes(), Durability::Durable).await?;
        let subject = manifest.subject().cloned();
        if let Some(subject) = subject.clone() {
            self.record_referrer(name, &Relation { subject, referrer: digest.clone() }).await?;
        }
        self.write_link(Key::RevisionLink(name, &digest), &stored).await?;
        for tag in tag.into_iter().chain(tags) {
            self.write_link(Key::TagIndexLink(name, tag, &digest), &digest).await?;
            self.write_link(Key::TagCurrent(name, tag), &digest).await?;
        }
        if cfg!(not(feature = "without-second-check")) {
            self.check_again(name, &manifest, (&digest, &stored), optional).await?;
        }
        Ok(PushedManifest { digest, subject })
    }

    /// Deletes a manifest and all tags that name it.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`].
    pub async fn delete_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<()> {
        let unknown = || Error::ManifestUnknown { reference: Reference::Digest(digest.clone()) };
        let revision = Key::RevisionLink(name, digest);
        let target = self.find_link(revision).await?.ok_or_else(unknown)?;
        // Tags first: a tag must never be seen without its revision because of a deletion.
        for tag in self.tags_of(name, digest).await? {
            // A push may have moved the tag to another manifest meanwhile: that one is not touched.
            if self.storage.delete_if(Key::TagCurrent(name, &tag), digest.to_string().as_bytes()).await? {
                self.forget_tag(name, &tag).await?;
            }
        }
        optional(self.storage.delete(revision, Durability::Durable).await)?;
        self.forget_condemned(revision).await?;
        // A tag that a push has set meanwhile came after the deletion: its manifest is wanted again.
        if !self.tags_of(name, digest).await?.is_empty() {
            self.write_link(revision, &target).await?;
        }
        Ok(())
    }

    /// Deletes a tag. The manifest that it named stays.
    ///
    /// # Errors
    /// [`Error::ManifestUnknown`].
    pub async fn delete_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<()> {
        let unknown = || Error::ManifestUnknown { reference: Reference::Tag(tag.clone()) };
        let deleted = self.storage.delete(Key::TagCurrent(name, tag), Durability::Durable).await;
        optional(deleted)?.ok_or_else(unknown)?;
        self.forget_tag(name, tag).await
    }

    /// Removes the history of a tag that is gone, and when it was pulled. A push that sets the tag anew meanwhile keeps it.
    pub(super) async fn forget_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<()> {
        optional(self.storage.delete_tree(Key::TagIndex(name, tag)).await)?;
        // CNCF distribution lists the directory as a tag even when it is empty.
        optional(self.storage.prune(Key::Tag(name, tag)).await)?;
        self.forget_pulls(name, &Reference::Tag(tag.clone())).await
    }

    /// Looks at all of a manifest again after the tag: a collector that ran since the first look, which found all
    /// but `absent`, may have taken for garbage what no tag led to, and the push must not be acknowledged then. From
    /// here on the tag protects all.
    async fn check_again(
        &self,
        name: &RepositoryName,
        manifest: &Manifest,
        (digest, stored): (&Digest, &Digest),
        absent: HashSet<Digest>,
    ) -> Result<()> {
        let lost = self.find_references(name, manifest, absent).await?;
        refuse(lost.needed.into_iter().chain(lost.optional).collect())?;
        if self.find(Key::BlobData(stored)).await?.is_none() {
            self.storage.put(Key::BlobData(stored), manifest.bytes(), Durability::Durable).await?;
        }
        if self.find(Key::RevisionLink(name, digest)).await?.is_none() {
            self.write_link(Key::RevisionLink(name, digest), stored).await?;
        }
        Ok(())
    }

    /// Brings back all blobs and manifests that a manifest leads to, through children of its children, as far as they
    /// are there: they may be condemned one by one. Gives what is not, but for what was `seen` before.
    async fn find_references(
        &self,
        name: &RepositoryName,
        manifest: &Manifest,
        mut seen: HashSet<Digest>,
    ) -> Result<Absent> {
        let mut absent = Absent::default();
        let mut pending = vec![manifest.clone()];
        let mut is_pushed = true;
        while let Some(manifest) = pending.pop() {
            for blob in manifest.blobs() {
                if absent.is_enough() {
                    return Ok(absent);
                }
                if !seen.insert(blob.digest.clone()) {
                    continue;
                }
                match (self.size_of_referenced(name, blob).await?, self.validation.blobs) {
                    (Some(size), _) if is_pushed => has_size(blob, size)?,
                    (Some(_), _) => {}
                    (None, Blobs::Required) => absent.needed.push(blob.digest.clone()),
                    (None, Blobs::Optional) => _ = absent.optional.insert(blob.digest.clone()),
                }
            }
            for child in manifest.children() {
                if absent.is_enough() {
                    return Ok(absent);
                }
                if !seen.insert(child.digest.clone()) {
                    continue;
                }
                let is_required = is_pushed
                    && self.validation.indexes.requires(&child.platform.architecture, &child.platform.os);
                match self.find_child(name, child).await? {
                    Child::Missing if is_required => absent.needed.push(child.digest.clone()),
                    Child::Missing => _ = absent.optional.insert(child.digest.clone()),
                    Child::Blob => {}
                    Child::Manifest(child) => pending.push(*child),
                }
            }
            is_pushed = false;
        }
        Ok(absent)
    }

    async fn find_child(&self, name: &RepositoryName, child: &Descriptor) -> Result<Child> {
        let bytes = match self.find_link(Key::RevisionLink(name, &child.digest)).await? {
            Some(target) => self.read_blob(&target).await?,
            // The index by which BuildKit keeps a cache lists layers.
            None if self.size_of_referenced(name, child).await?.is_some() => return Ok(Child::Blob),
            None => None,
        };
        let Some(bytes) = bytes else { return Ok(Child::Missing) };
        // What is damaged or of an older kind is there, and where it leads to cannot be known.
        Ok(Manifest::stored(bytes).map_or(Child::Blob, |manifest| Child::Manifest(Box::new(manifest))))
    }

    /// The bytes of a manifest's blob.
    pub(super) async fn read_blob(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let data = Key::BlobData(digest);
        for _ in 0..LOOKS {
            let bytes = optional(self.storage.read(data).await)?;
            if bytes.is_some() || self.find(data).await?.is_none() {
                return Ok(bytes);
            }
        }
        Ok(None)
    }
}

/// What a manifest leads to and the repository does not have.
#[derive(Default)]
struct Absent {
    /// What must be there: without it no image can be pulled, and a client that was told that it is there must learn
    /// that it is not.
    needed: Vec<Digest>,
    /// What need not be there, such as what only an older index lists: some copies of an index leave platforms out.
    optional: HashSet<Digest>,
}

impl Absent {
    /// Whether it is known that the manifest is refused, and why.
    fn is_enough(&self) -> bool {
        self.needed.len() >= MOST_MISSING
    }
}

/// Refuses a manifest if anything that it needs is missing.
fn refuse(missing: Vec<Digest>) -> Result<()> {
    if missing.is_empty() { Ok(()) } else { Err(Error::ManifestBlobUnknown { missing }) }
}

/// What an entry of an index is.
enum Child {
    Missing,
    /// Something that leads to nothing else.
    Blob,
    Manifest(Box<Manifest>),
}

/// Refuses a manifest that says of a blob that it has another size than it has.
fn has_size(blob: &Descriptor, actual: u64) -> Result<()> {
    let Descriptor { digest, size: expected, .. } = blob.clone();
    if actual == expected { Ok(()) } else { Err(Error::BlobSize { digest, expected, actual }) }
}

/// The digest that `bytes` must have, and have.
fn matching(expected: &Digest, bytes: &[u8]) -> Result<Digest> {
    let actual = Hasher::digest(expected.algorithm(), bytes);
    if *expected == actual {
        Ok(actual)
    } else {
        Err(Error::DigestMismatch { expected: expected.clone(), actual })
    }
}
