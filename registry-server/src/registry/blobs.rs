//! Blobs: config objects and layers of a repository.

use super::{Error, Registry, Result, optional};
use crate::storage::{Content, Key};
use crate::types::{Algorithm, Digest, RepositoryName};

/// A blob that can be sent.
#[derive(Clone, Debug)]
pub struct Blob {
    /// The digest by which it was asked for.
    pub digest: Digest,
    /// Its bytes.
    pub content: Content,
}

impl Registry {
    /// The size in bytes of a repository's blob.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] when the repository does not have the blob, whoever else does.
    pub async fn stat_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<u64> {
        let target = self.blob_target(name, digest).await?;
        let stat = optional(self.storage.stat(Key::BlobData(&target)).await)?;
        stat.map(|stat| stat.size).ok_or_else(|| Error::BlobUnknown { digest: digest.clone() })
    }

    /// Opens a repository's blob for sending.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] when the repository does not have the blob, whoever else does.
    pub async fn open_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Blob> {
        let target = self.blob_target(name, digest).await?;
        let content = optional(self.storage.open(Key::BlobData(&target)).await)?;
        let content = content.ok_or_else(|| Error::BlobUnknown { digest: digest.clone() })?;
        Ok(Blob { digest: digest.clone(), content })
    }

    /// Takes a blob out of a repository. Its bytes stay until nothing refers to them and they are collected.
    ///
    /// # Errors
    /// [`Error::BlobUnknown`] when the repository does not have the blob.
    pub async fn delete_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<()> {
        let deleted = optional(self.storage.delete(Key::LayerLink(name, digest)).await)?;
        deleted.ok_or_else(|| Error::BlobUnknown { digest: digest.clone() })
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
            Some(from) => self.read_link(Key::LayerLink(from, digest)).await?,
            // Only the canonical algorithm names a blob without the help of a repository's link.
            None => Some(digest.clone()).filter(|digest| digest.algorithm() == Algorithm::Sha256),
        };
        let Some(target) = target else { return Ok(false) };
        if !self.exists(Key::BlobData(&target)).await? {
            return Ok(false);
        }
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

    /// The digest under which a repository's blob is stored: the link's content counts, not its name, because
    /// blobs pushed by sha512 are stored by sha256 on this tree.
    async fn blob_target(&self, name: &RepositoryName, digest: &Digest) -> Result<Digest> {
        let target = self.read_link(Key::LayerLink(name, digest)).await?;
        target.ok_or_else(|| Error::BlobUnknown { digest: digest.clone() })
    }
}
