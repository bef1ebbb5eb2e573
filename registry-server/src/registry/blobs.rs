//! Blobs: config objects and layers of a repository.

use super::quarantine::LOOKS;
use super::{Error, Registry, Result, optional};
use crate::storage::{self, Content, Durability, Key, Stat};
use crate::types::{Algorithm, Descriptor, Digest, Hasher, RepositoryName, RunId};

/// How many bytes are read at a time to hash what is stored already.
const HASH_READ_SIZE: usize = 1024 * 1024;

/// A blob that can be sent.
#[derive(Clone, Debug)]
pub struct Blob {
    /// The digest by which it was asked for.
    pub digest: Digest,
    /// Its bytes.
    pub content: Content,
}

impl Registry {
    /// The size in bytes of a repository's blob, which is kept from being collected for a while: who asks may be
    /// about to push an image with it.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] when the repository does not have the blob, whoever else does.
    pub async fn stat_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<u64> {
        let unknown = || Error::BlobUnknown { digest: digest.clone() };
        let target = self.find_layer(name, digest).await?.ok_or_else(unknown)?;
        let stat = self.find_blob(&target).await?.ok_or_else(unknown)?;
        self.refresh(Key::BlobData(&target), &stat).await;
        Ok(stat.size)
    }

    /// Opens a repository's blob for sending.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] when the repository does not have the blob, whoever else does.
    pub async fn open_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Blob> {
        let unknown = || Error::BlobUnknown { digest: digest.clone() };
        let target = self.find_layer(name, digest).await?.ok_or_else(unknown)?;
        let data = Key::BlobData(&target);
        for _ in 0..LOOKS {
            if let Some(content) = optional(self.storage.open(data).await)? {
                if is_left_empty(&target, content.size) {
                    break;
                }
                return Ok(Blob { digest: digest.clone(), content });
            }
            if self.find(data).await?.is_none() {
                break;
            }
        }
        Err(unknown())
    }

    /// Takes a blob out of a repository. Its bytes stay until nothing refers to them and they are collected.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] when the repository does not have the blob.
    pub async fn delete_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<()> {
        let link = Key::LayerLink(name, digest);
        let deleted = optional(self.storage.delete(link, Durability::Durable).await)?.is_some();
        let forgotten = self.forget_condemned(link).await?;
        if deleted || forgotten { Ok(()) } else { Err(Error::BlobUnknown { digest: digest.clone() }) }
    }

    /// Makes a blob that the registry has already part of a repository, and says whether it could.
    ///
    /// With `from`, that repository must have the blob. Without, any blob of the registry will do.
    pub async fn mount_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<bool> {
        let target = match from {
            Some(from) => self.find_layer(from, digest).await?,
            // Only the canonical algorithm names a blob without the help of a repository's link.
            None => Some(digest.clone()).filter(|digest| digest.algorithm() == Algorithm::Sha256),
        };
        let Some(target) = target else { return Ok(false) };
        let Some(stat) = self.find_blob(&target).await? else { return Ok(false) };
        self.refresh(Key::BlobData(&target), &stat).await;
        self.link_blob(name, digest, &target).await?;
        Ok(true)
    }

    /// Makes the stored blob `target` part of a repository, under the digest that the client uses too.
    pub(super) async fn link_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        target: &Digest,
    ) -> Result<()> {
        self.write_link(Key::LayerLink(name, target), target).await?;
        if digest != target {
            self.write_link(Key::LayerLink(name, digest), target).await?;
        }
        Ok(())
    }

    /// The size in bytes of a repository's blob that a manifest refers to, which may have to come back from the
    /// quarantine for it; nothing if it is not there with its bytes.
    ///
    /// The link's content counts, not its name: blobs pushed by sha512 are stored by sha256 on this tree. What has
    /// another size than the manifest says is hashed, for either may be wrong. A damaged blob is discarded: a client that
    /// is told that it is there does not push it again.
    pub(super) async fn size_of_referenced(
        &self,
        name: &RepositoryName,
        blob: &Descriptor,
    ) -> Result<Option<u64>> {
        let Some(target) = self.find_layer(name, &blob.digest).await? else { return Ok(None) };
        let Some(stat) = self.find_blob(&target).await? else { return Ok(None) };
        if stat.size == blob.size {
            return Ok(Some(stat.size));
        }
        match optional(self.hash(Key::BlobData(&target), target.algorithm()).await)? {
            // It may have been pushed again since the first look.
            Some(actual) if actual == target => Ok(self.find_blob(&target).await?.map(|stat| stat.size)),
            Some(_) => {
                tracing::warn!(digest = %target, promised = blob.size, actual = stat.size, "a damaged blob is discarded");
                self.discard(Key::BlobData(&target), &stat).await?;
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// Deletes damaged content, of which `damaged` was known before it was hashed. What a push has put in its place
    /// meanwhile stays: it is looked at where anybody who misses it finds it.
    pub(super) async fn discard(&self, key: Key<'_>, damaged: &Stat) -> Result<()> {
        let run = RunId::now();
        self.condemn(&run, key).await?;
        let place = Key::Quarantined(&run, &key);
        if optional(self.storage.stat(place).await)?.as_ref() == Some(damaged) {
            optional(self.storage.delete(place, Durability::Durable).await)?;
        } else {
            self.revive_from(&run, key).await?;
        }
        self.prune_quarantine(&run).await
    }

    /// The digest of what is stored under `key`, whatever its name says.
    pub(super) async fn hash(&self, key: Key<'_>, algorithm: Algorithm) -> storage::Result<Digest> {
        let content = self.storage.open(key).await?;
        let hashing = tokio::task::spawn_blocking(move || {
            let mut hasher = Hasher::new(algorithm);
            let mut buffer = vec![0; HASH_READ_SIZE];
            let mut offset = 0;
            loop {
                let length = content.source.read_at(&mut buffer, offset)?;
                if length == 0 {
                    return Ok(hasher.finish());
                }
                hasher.update(&buffer[..length]);
                offset += length as u64;
            }
        });
        hashing
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|source| storage::Error::Io { operation: "read", path: key.to_string(), source })
    }

    /// The digest by which a repository's blob is stored, if the repository has the blob.
    async fn find_layer(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<Digest>> {
        let link = Key::LayerLink(name, digest);
        // What a link by the canonical algorithm holds is its own name, so that a look is enough to see that it is whole.
        if digest.algorithm() == Algorithm::Sha256 && self.is_link_to(link, digest).await? {
            return Ok(Some(digest.clone()));
        }
        self.find_link(link).await
    }

    /// Facts about a blob's bytes, which are brought back from the quarantine if they are there.
    async fn find_blob(&self, digest: &Digest) -> Result<Option<Stat>> {
        let stat = self.find(Key::BlobData(digest)).await?;
        Ok(stat.filter(|stat| !is_left_empty(digest, stat.size)))
    }
}

/// Whether an empty file stands in place of a blob, as a power failure leaves it where another server has not flushed.
/// It counts as absent: a client that is told that the blob is there does not push it again.
fn is_left_empty(digest: &Digest, size: u64) -> bool {
    let is_left = size == 0 && *digest != Hasher::digest(digest.algorithm(), b"");
    if is_left {
        tracing::warn!(%digest, "an empty file stands in place of a blob, it is taken for absent");
    }
    is_left
}
