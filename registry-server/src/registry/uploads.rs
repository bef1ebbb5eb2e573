//! Upload sessions: how a blob comes in, at once or in chunks.
//!
//! All state of a session is in the storage: the bytes received, when it began, and the state of their SHA-256,
//! so that any process can take the next chunk.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use futures::Stream;
use sha2::{Digest as _, Sha256};

use super::{Error, Registry, Result, optional};
use crate::storage::{self, ByteStream, Durability, Key, UPLOAD_DATA_ENTRY};
use crate::types::hasher::{restore_sha256, save_sha256};
use crate::types::{Algorithm, ContentRange, Digest, Hasher, RepositoryName, UploadId};

/// A part of a blob on its way in.
pub struct Chunk {
    /// Where the client says that the chunk belongs, if it says so.
    pub range: Option<ContentRange>,
    /// Length of the body in bytes, if the client says so.
    pub length: Option<u64>,
    /// The bytes.
    pub body: ByteStream,
}

/// An upload that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadSession {
    /// Its id.
    pub id: UploadId,
    /// How many bytes it has received.
    pub size: u64,
    /// When anything of it was last written.
    pub written: SystemTime,
}

/// What an append left behind.
struct Received {
    /// The upload's size in bytes.
    size: u64,
    /// The running SHA-256 of all of them, unless its earlier part is not known.
    hash: Option<Sha256>,
}

impl Registry {
    /// Begins an upload session.
    pub async fn start_upload(&self, name: &RepositoryName) -> Result<UploadId> {
        let id = UploadId::random();
        // RFC 3339 to the second, in UTC, as CNCF distribution's upload purge reads it.
        let now =
            jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string();
        self.storage.put(Key::UploadStartedAt(name, id), now.as_bytes(), Durability::Process).await?;
        Ok(id)
    }

    /// How many bytes a session has received.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`].
    pub async fn upload_size(&self, name: &RepositoryName, id: UploadId) -> Result<u64> {
        if !self.exists(Key::UploadStartedAt(name, id)).await? {
            return Err(Error::UploadUnknown { id });
        }
        Ok(optional(self.storage.stat(Key::UploadData(name, id)).await)?.map_or(0, |stat| stat.size))
    }

    /// Takes in a chunk and gives the session's new size in bytes.
    ///
    /// # Errors
    /// [`Error::ChunkOutOfOrder`], [`Error::ChunkSize`] and [`Error::UploadBusy`] before anything is taken in;
    /// [`Error::BodyAborted`] after all that came. The session goes on in each case.
    pub async fn append_upload(&self, name: &RepositoryName, id: UploadId, chunk: Chunk) -> Result<u64> {
        Ok(self.receive(name, id, chunk).await?.size)
    }

    /// Takes in the last chunk, which may be empty, and makes the whole a blob of the repository.
    ///
    /// # Errors
    /// Those of [`Registry::append_upload`], and [`Error::DigestMismatch`], after which the session goes on too.
    ///
    /// # Crash safety
    /// When this returns, blob and link survive a power failure. Before, a crash leaves the session or an
    /// unreferenced blob, never a link without its blob.
    pub async fn finish_upload(
        &self,
        name: &RepositoryName,
        id: UploadId,
        chunk: Chunk,
        digest: &Digest,
    ) -> Result<()> {
        let Received { size, hash } = self.receive(name, id, chunk).await?;
        let target = match hash {
            Some(hash) => Hasher::Sha256(hash).finish(),
            None => self.hash(Key::UploadData(name, id), Algorithm::Sha256).await?,
        };
        let actual = match digest.algorithm() {
            Algorithm::Sha256 => target.clone(),
            other @ Algorithm::Sha512 => self.hash(Key::UploadData(name, id), other).await?,
        };
        if actual != *digest {
            return Err(Error::DigestMismatch { expected: digest.clone(), actual });
        }
        let promoted = self.storage.promote(Key::UploadData(name, id), size, Key::BlobData(&target)).await;
        promoted.map_err(|error| session_error(id, error))?;
        self.link_blob(name, digest, &target).await?;
        // The blob is in place; what is left of the session is only litter.
        if let Err(error) = self.storage.delete_tree(Key::Upload(name, id)).await {
            tracing::warn!(%id, error = &error as &dyn std::error::Error, "an ended upload's directory stays behind");
        }
        Ok(())
    }

    /// Ends a session and forgets what it received.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`].
    pub async fn cancel_upload(&self, name: &RepositoryName, id: UploadId) -> Result<()> {
        let deleted = optional(self.storage.delete_tree(Key::Upload(name, id)).await)?;
        deleted.ok_or(Error::UploadUnknown { id })
    }

    /// A repository's upload sessions, in no order, also those that clients cannot go on with.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn upload_sessions(&self, name: &RepositoryName) -> Result<Vec<UploadSession>> {
        let mut sessions: HashMap<UploadId, UploadSession> = HashMap::new();
        for found in optional(self.storage.walk(Key::Uploads(name)).await)?.unwrap_or_default() {
            let Some((id, path)) = found.name.split_once('/') else { continue };
            let (Ok(id), Ok(file)) = (id.parse(), found.stat) else { continue };
            let fresh = UploadSession { id, size: 0, written: file.modified };
            let session = sessions.entry(id).or_insert(fresh);
            session.written = session.written.max(file.modified);
            if path == UPLOAD_DATA_ENTRY {
                session.size = file.size;
            }
        }
        Ok(sessions.into_values().collect())
    }

    /// Whether a session has ended, or a request is writing to it or has done so since.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn has_moved_on(&self, name: &RepositoryName, session: &UploadSession) -> Result<bool> {
        let data = Key::UploadData(name, session.id);
        if !self.exists(data).await? {
            return Ok(session.size > 0);
        }
        // Whoever writes holds a claim, and this asks for it too.
        let mut nothing: ByteStream = Box::pin(futures::stream::empty());
        match self.storage.append(data, session.size, &mut nothing).await {
            Ok(_) => Ok(false),
            Err(
                storage::Error::Busy { .. }
                | storage::Error::OffsetMismatch { .. }
                | storage::Error::NotFound { .. },
            ) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    async fn receive(&self, name: &RepositoryName, id: UploadId, chunk: Chunk) -> Result<Received> {
        let offset = self.upload_size(name, id).await?;
        check_range(&chunk, offset)?;
        let hash = Arc::new(Mutex::new(self.load_hash(name, id, offset).await?));
        let mut body: ByteStream = Box::pin(HashingStream { inner: chunk.body, hash: Arc::clone(&hash) });
        let appended = self.storage.append(Key::UploadData(name, id), offset, &mut body).await;
        drop(body);
        let hash = std::mem::take(&mut *hash.lock().unwrap_or_else(PoisonError::into_inner));

        let size = match appended {
            Ok(size) => size,
            // All that came before is kept, so its hash is worth keeping too.
            Err(storage::Error::Source(source)) => {
                self.save_hash(name, id, hash.as_ref()).await;
                return Err(Error::BodyAborted(source));
            }
            Err(error) => return Err(session_error(id, error)),
        };
        self.save_hash(name, id, hash.as_ref()).await;
        Ok(Received { size, hash: hash.map(|(hash, _)| hash) })
    }

    async fn load_hash(&self, name: &RepositoryName, id: UploadId, offset: u64) -> Result<RunningHash> {
        if offset == 0 {
            return Ok(Some((Sha256::new(), 0)));
        }
        let saved = optional(self.storage.read(Key::UploadHashState(name, id, offset)).await)?;
        Ok(saved.and_then(|saved| restore_sha256(&saved, offset)).map(|hash| (hash, offset)))
    }

    /// Keeps the hash for the next chunk. It only saves reading the upload again, so a failure is no error.
    async fn save_hash(&self, name: &RepositoryName, id: UploadId, hash: Option<&(Sha256, u64)>) {
        let Some((hash, size)) = hash else { return };
        let key = Key::UploadHashState(name, id, *size);
        if let Err(error) = self.storage.put(key, &save_sha256(hash), Durability::Process).await {
            tracing::debug!(%id, error = &error as &dyn std::error::Error, "a hash state could not be saved");
        }
    }
}

/// What a storage error means to the client of a session.
fn session_error(id: UploadId, error: storage::Error) -> Error {
    match error {
        storage::Error::Busy { .. } => Error::UploadBusy { id },
        // Another request was quicker: what this one wanted to append comes after that now, or nowhere.
        storage::Error::OffsetMismatch { actual, .. } => Error::ChunkOutOfOrder { offset: actual },
        storage::Error::NotFound { .. } => Error::UploadUnknown { id },
        error => error.into(),
    }
}

fn check_range(chunk: &Chunk, offset: u64) -> Result<()> {
    let Some(range) = chunk.range else { return Ok(()) };
    if range.start != offset {
        return Err(Error::ChunkOutOfOrder { offset });
    }
    match (range.length(), chunk.length) {
        (Some(expected), Some(actual)) if expected != actual => Err(Error::ChunkSize { expected, actual }),
        _ => Ok(()),
    }
}

/// A running hash and how many bytes it has taken in; `None` when the hash of the first bytes is not known.
type RunningHash = Option<(Sha256, u64)>;

/// Hashes what streams by.
struct HashingStream {
    inner: ByteStream,
    /// Shared because the storage takes the stream as a trait object and cannot give it back.
    hash: Arc<Mutex<RunningHash>>,
}

impl Stream for HashingStream {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.inner.as_mut().poll_next(context);
        if let Poll::Ready(Some(Ok(bytes))) = &polled
            && let Some((hash, size)) = self.hash.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
        {
            hash.update(bytes);
            *size += bytes.len() as u64;
        }
        polled
    }
}
