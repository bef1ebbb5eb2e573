//! Blobs: config objects and layers of a repository.

use super::quarantine::LOOKS;
use super::{Error, Registry, Result, optional};
use crate::storage::{Content, Durability, Key, Stat};
use crate::types::{Algorithm, Digest, Hasher, RepositoryName};

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
        let target = self.find_link(Key::LayerLink(name, digest)).await?.ok_or_else(unknown)?;
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
        let target = self.find_link(Key::LayerLink(name, digest)).await?.ok_or_else(unknown)?;
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
            Some(from) => self.find_link(Key::LayerLink(from, digest)).await?,
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

    /// Whether a repository has a blob with its bytes, which may have to come back from the quarantine for it.
    ///
    /// The link's content counts, not its name: blobs pushed by sha512 are stored by sha256 on this tree.
    pub(super) async fn has_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<bool> {
        match self.find_link(Key::LayerLink(name, digest)).await? {
            Some(target) => Ok(self.find_blob(&target).await?.is_some()),
            None => Ok(false),
        }
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
