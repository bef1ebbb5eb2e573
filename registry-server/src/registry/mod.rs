//! The rules of the distribution specification: what a repository holds and in which order it changes.
//!
//! This layer knows digests, links and manifests. It knows neither HTTP nor paths.
//!
//! Two rules hold everywhere: content is stored before the links that make it part of a repository, and no
//! state is kept in memory but what a digest names, so that any process on the same storage can answer the next request.

mod blobs;
mod catalog;
mod inventory;
mod manifest_cache;
mod manifests;
mod pulls;
mod quarantine;
mod referrers;
mod tags;
mod uploads;

use std::sync::Arc;

pub use blobs::Blob;
pub use inventory::{Revision, TagLink, Target};
pub use manifests::{PushedManifest, StoredManifest};
pub use pulls::PendingPulls;
pub use quarantine::Instance;
pub use referrers::Relation;
pub use uploads::{Chunk, UploadSession};

use manifest_cache::ManifestCache;

use crate::config::ManifestValidation;
use crate::storage::{self, Durability, Key, Storage};
use crate::types::manifest::ParseManifestError;
use crate::types::{Digest, Reference, RepositoryName, Tag, UploadId};

/// A registry on one storage. Clones share it.
#[derive(Clone, Debug)]
pub struct Registry {
    storage: Arc<dyn Storage>,
    /// What of a manifest must be there when it is pushed.
    validation: Arc<ManifestValidation>,
    cache: Arc<ManifestCache>,
}

/// Why the registry refuses a request: one variant for each meaning that a client can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository does not exist.
    #[error("repository {name} is not known to the registry")]
    NameUnknown {
        /// The repository.
        name: RepositoryName,
    },
    /// The repository has no such blob.
    #[error("blob {digest} is not known to the repository")]
    BlobUnknown {
        /// The blob.
        digest: Digest,
    },
    /// The repository has no such manifest.
    #[error("manifest {reference} is not known to the repository")]
    ManifestUnknown {
        /// The manifest.
        reference: Reference,
    },
    /// There is no such upload session, or it has ended.
    #[error("upload {id} is not known to the repository")]
    UploadUnknown {
        /// The session.
        id: UploadId,
    },
    /// Another request is writing to the same upload session.
    #[error("upload {id} is being written by another request")]
    UploadBusy {
        /// The session.
        id: UploadId,
    },
    /// A chunk does not begin where the upload ends.
    #[error("the chunk must begin at byte {offset}, where the upload ends")]
    ChunkOutOfOrder {
        /// The upload's size in bytes.
        offset: u64,
    },
    /// A chunk is longer or shorter than its range.
    #[error("the chunk has {actual} bytes but its range has {expected}")]
    ChunkSize {
        /// Length of the `Content-Range`.
        expected: u64,
        /// Length of the body.
        actual: u64,
    },
    /// The client's body broke off.
    #[error("the request's body broke off")]
    BodyAborted(#[source] std::io::Error),
    /// Content has another digest than the client says.
    #[error("the content has digest {actual}, not {expected}")]
    DigestMismatch {
        /// The digest that the client gave.
        expected: Digest,
        /// The content's digest.
        actual: Digest,
    },
    /// The manifest cannot be kept as it is.
    #[error("the manifest is refused")]
    ManifestInvalid(#[from] ParseManifestError),
    /// What is stored is no manifest any more: the disk, or another program, has damaged it.
    #[error("manifest {digest} is damaged in the storage; push it again")]
    ManifestDamaged {
        /// The manifest.
        digest: Digest,
        /// What cannot be read.
        #[source]
        source: ParseManifestError,
    },
    /// The manifest refers to content that the repository does not have.
    #[error("the manifest refers to content that the repository does not have")]
    ManifestBlobUnknown {
        /// What is missing, in the manifest's order.
        missing: Vec<Digest>,
    },
    /// The manifest says of a blob that it has another size than it has.
    #[error("blob {digest} has {actual} bytes, but the manifest says {expected}")]
    BlobSize {
        /// The blob.
        digest: Digest,
        /// The size in bytes that the manifest says.
        expected: u64,
        /// The blob's size in bytes.
        actual: u64,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(storage::Error),
}

/// The result of a registry operation.
pub type Result<T> = std::result::Result<T, Error>;

/// One page of a sorted listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries, in byte order.
    pub entries: Vec<T>,
    /// Whether more entries come after the last one.
    pub more: bool,
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::Source(source) => Self::BodyAborted(source),
            error => Self::Storage(error),
        }
    }
}

/// Turns "there is nothing" into `None`.
fn optional<T>(result: storage::Result<T>) -> storage::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(storage::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Registry {
    /// A registry on the given storage.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, validation: Arc::default(), cache: Arc::default() }
    }

    /// The same registry, which asks this of manifests that are pushed.
    #[must_use]
    pub fn with_validation(self, validation: ManifestValidation) -> Self {
        Self { validation: Arc::new(validation), ..self }
    }

    /// Where it all is kept.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Proves that the storage can be read and written.
    ///
    /// # Errors
    /// [`Error::Storage`] when it cannot.
    pub async fn check(&self) -> Result<()> {
        Ok(self.storage.check().await?)
    }

    /// The digest that a link holds. A link that cannot be read as one, as another server's crash can leave
    /// it, counts as absent, so that pushing again mends it.
    async fn read_link(&self, key: Key<'_>) -> Result<Option<Digest>> {
        let Some(bytes) = optional(self.storage.read(key).await)? else { return Ok(None) };
        let digest = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        if digest.is_none() {
            tracing::warn!(path = %key, "a link does not hold a digest, it is taken for absent");
        }
        Ok(digest)
    }

    async fn write_link(&self, key: Key<'_>, digest: &Digest) -> Result<()> {
        Ok(self.storage.put(key, digest.to_string().as_bytes(), Durability::Durable).await?)
    }

    async fn exists(&self, key: Key<'_>) -> Result<bool> {
        Ok(optional(self.storage.stat(key).await)?.is_some())
    }

    /// Where the digest that a tag names is to be found, if the tag exists.
    async fn resolve_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>> {
        self.read_link(Key::TagCurrent(name, tag)).await
    }
}

#[cfg(test)]
mod tests;
