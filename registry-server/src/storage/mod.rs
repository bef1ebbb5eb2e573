//! Bytes under keys: where everything the registry keeps is written to and read from.
//!
//! This layer knows files, durability and atomicity. It does not know what a manifest is or who may read it.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;

#[cfg(test)]
mod contract;
#[cfg(test)]
pub(crate) mod faulty;
mod fs;
mod layout;
mod memory;
mod observed;

pub use fs::Filesystem;
pub use layout::{Condemned, Key, Leaf, MANIFESTS_ENTRY, REPOSITORY_ENTRIES, UPLOAD_DATA_ENTRY};
pub use memory::Memory;
pub use observed::{Action, Observed};

/// Content on its way in. It is never collected, only passed on chunk by chunk.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// What can go wrong below the registry's rules.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is stored under the key.
    #[error("{path} does not exist")]
    NotFound {
        /// Path of the key, relative to the storage's root.
        path: String,
    },
    /// Appending was asked for at another place than the end.
    #[error("{path} ends at byte {actual}, not at {expected}")]
    OffsetMismatch {
        /// Path of the key, relative to the storage's root.
        path: String,
        /// Where the caller thought that the content ends.
        expected: u64,
        /// Where it ends.
        actual: u64,
    },
    /// Another request is writing to the same key.
    #[error("{path} is being written by another request")]
    Busy {
        /// Path of the key, relative to the storage's root.
        path: String,
    },
    /// The stream that was to be stored broke off; what came before is stored.
    #[error("the content broke off")]
    Source(#[source] io::Error),
    /// The disk or a quota is full.
    #[error("no space is left to {operation} {path}")]
    OutOfSpace {
        /// What was being done.
        operation: &'static str,
        /// Path of the key, relative to the storage's root.
        path: String,
    },
    /// The file system takes no writes.
    #[error("the file system is read-only: failed to {operation} {path}")]
    ReadOnly {
        /// What was being done.
        operation: &'static str,
        /// Path of the key, relative to the storage's root.
        path: String,
    },
    /// Anything else that the operating system reports.
    #[error("failed to {operation} {path}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// Path of the key, relative to the storage's root.
        path: String,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
}

/// The result of a storage operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Facts about stored content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Size in bytes.
    pub size: u64,
    /// When it was last written.
    pub modified: SystemTime,
}

/// Stored content, ready to be sent: an open file where there is one, so that a transport can send it without
/// copying it through this process.
#[derive(Clone, Debug)]
pub struct Content {
    /// Where the bytes are.
    pub source: Source,
    /// How many bytes there are.
    pub size: u64,
}

/// Where stored bytes can be taken from.
#[derive(Clone, Debug)]
pub enum Source {
    /// An open file; it stays readable when the key is deleted meanwhile.
    File(Arc<File>),
    /// Bytes in memory.
    Memory(Bytes),
}

impl Source {
    /// Reads at most `buffer.len()` bytes from `offset` on, blocking the thread; 0 at the end.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read_at(buffer, offset),
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let length = buffer.len().min(bytes.len() - start);
                buffer[..length].copy_from_slice(&bytes[start..start + length]);
                Ok(length)
            }
        }
    }
}

/// How sure a write must be before it is reported as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It survives a power failure: content and directory entry are flushed.
    Durable,
    /// It survives the end of this process; a power failure may take it, or leave it empty.
    Process,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name within the directory.
    pub name: String,
    /// Whether it is a directory itself.
    pub is_directory: bool,
}

/// What was found below one entry of a directory.
#[derive(Debug)]
pub struct Found {
    /// The entry's name, or a path of names.
    pub name: String,
    /// Facts about the file, unless it cannot be looked at.
    pub stat: Result<Stat>,
}

/// Bytes under keys.
///
/// Every operation is safe to repeat. All processes that share one storage see each other's writes at once.
/// A short read may block the calling thread for as long as a page-cached read takes; anything that flushes or
/// walks must not.
#[async_trait]
pub trait Storage: fmt::Debug + Send + Sync {
    /// Facts about the content under `key`, which is no directory.
    async fn stat(&self, key: Key<'_>) -> Result<Stat>;

    /// Opens what is stored under `key` for sending.
    async fn open(&self, key: Key<'_>) -> Result<Content>;

    /// Reads what is stored under `key` whole: for links and manifests, not for blobs.
    async fn read(&self, key: Key<'_>) -> Result<Bytes>;

    /// Writes `bytes` under `key`, replacing what was there.
    ///
    /// # Guarantees
    /// Atomic: readers and a crash see the old bytes or the new ones, never a part, given
    /// [`Durability::Durable`].
    async fn put(&self, key: Key<'_>, bytes: &[u8], durability: Durability) -> Result<()>;

    /// Appends `body` to the content under `key`, which must end at `offset`, and gives the new end.
    /// Content that does not exist ends at 0.
    ///
    /// # Guarantees
    /// Two appends to one key never mix: the second is refused with [`Error::Busy`] at once. Bytes that have
    /// been appended never change. The new bytes survive the end of this process; [`Storage::promote`] makes
    /// them durable.
    ///
    /// # Errors
    /// [`Error::OffsetMismatch`]; [`Error::Source`] when `body` fails, with all that came before stored.
    async fn append(&self, key: Key<'_>, offset: u64, body: &mut ByteStream) -> Result<u64>;

    /// Moves the content of `from`, which must have `size` bytes, to `to`, replacing what was there.
    ///
    /// # Guarantees
    /// Atomic and durable: the bytes are flushed before the move and the directory after it. No append to
    /// `from` that is still under way can reach `to`.
    ///
    /// # Errors
    /// [`Error::OffsetMismatch`] when `from` has another size.
    async fn promote(&self, from: Key<'_>, size: u64, to: Key<'_>) -> Result<()>;

    /// Moves what is stored under `from` to `to`, replacing what was there.
    ///
    /// # Guarantees
    /// Atomic: of two that move the same thing, one gets [`Error::NotFound`].
    async fn rename(&self, from: Key<'_>, to: Key<'_>, durability: Durability) -> Result<()>;

    /// Moves what is stored under `from` to `to` if it is exactly `expected`, and says whether it was.
    ///
    /// # Guarantees
    /// What another request puts there meanwhile stays.
    async fn rename_if(&self, from: Key<'_>, expected: &[u8], to: Key<'_>) -> Result<bool>;

    /// Makes what is stored under `key` count as written now.
    async fn touch(&self, key: Key<'_>) -> Result<()>;

    /// The entries of the directory `key` in no order.
    async fn list(&self, key: Key<'_>) -> Result<Vec<Entry>>;

    /// For each directory in the directory `key` whose directory `below` has more than one entry, their names, in no
    /// order.
    async fn crowded(&self, key: Key<'_>, below: Leaf<'_>) -> Result<Vec<(String, Vec<String>)>>;

    /// The file `leaf` of each directory in the directory `key` that has it, in no order.
    async fn scan(&self, key: Key<'_>, leaf: Leaf<'_>) -> Result<Vec<Found>>;

    /// For each directory in the directory `key`, the content of its file `leaf`, in no order.
    async fn read_each(&self, key: Key<'_>, leaf: Leaf<'_>) -> Result<Vec<(String, Result<Bytes>)>>;

    /// All files below the directory `key`, in no order.
    async fn walk(&self, key: Key<'_>) -> Result<Vec<Found>>;

    /// Deletes what is stored under `key`.
    async fn delete(&self, key: Key<'_>, durability: Durability) -> Result<()>;

    /// Deletes what is stored under `key`, durably, if it is exactly `expected`, and says whether it was.
    ///
    /// # Guarantees
    /// What another request puts there meanwhile stays.
    async fn delete_if(&self, key: Key<'_>, expected: &[u8]) -> Result<bool>;

    /// Removes the directory `key` if nothing is stored below it. A backend without directories has nothing to do.
    async fn prune(&self, key: Key<'_>) -> Result<()>;

    /// Deletes the directory `key` and all below it, durably. What another request puts there meanwhile may stay.
    async fn delete_tree(&self, key: Key<'_>) -> Result<()>;

    /// Proves that the storage can be read and written.
    async fn check(&self) -> Result<()>;
}
