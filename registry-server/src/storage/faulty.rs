//! A storage that fails when a test says so: to see what a job leaves behind, wherever it is interrupted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use super::{ByteStream, Content, Durability, Entry, Error, Found, Key, Leaf, Result, Stat, Storage};

/// What goes wrong, and at which operation, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The operation fails, and the next ones work again.
    Failure(usize),
    /// The process dies before the operation: neither it nor any later one has an effect.
    Death(usize),
}

/// A storage with one fault.
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<dyn Storage>,
    fault: Fault,
    operations: AtomicUsize,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn Storage>, fault: Fault) -> Self {
        Self { inner, fault, operations: AtomicUsize::new(0) }
    }

    /// How many operations were asked for so far.
    pub(crate) fn operations(&self) -> usize {
        self.operations.load(Ordering::SeqCst)
    }

    fn count(&self, key: Key<'_>) -> Result<()> {
        let number = self.operations.fetch_add(1, Ordering::SeqCst);
        let fails = match self.fault {
            Fault::None => false,
            Fault::Failure(at) => number == at,
            Fault::Death(at) => number >= at,
        };
        let source = || io::Error::other("injected by a test");
        if fails {
            Err(Error::Io { operation: "use", path: key.to_string(), source: source() })
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Storage for Faulty {
    async fn stat(&self, key: Key<'_>) -> Result<Stat> {
        self.count(key)?;
        self.inner.stat(key).await
    }

    async fn open(&self, key: Key<'_>) -> Result<Content> {
        self.count(key)?;
        self.inner.open(key).await
    }

    async fn read(&self, key: Key<'_>) -> Result<Bytes> {
        self.count(key)?;
        self.inner.read(key).await
    }

    async fn put(&self, key: Key<'_>, bytes: &[u8], durability: Durability) -> Result<()> {
        self.count(key)?;
        self.inner.put(key, bytes, durability).await
    }

    async fn append(&self, key: Key<'_>, offset: u64, body: &mut ByteStream) -> Result<u64> {
        self.count(key)?;
        self.inner.append(key, offset, body).await
    }

    async fn promote(&self, from: Key<'_>, size: u64, to: Key<'_>) -> Result<()> {
        self.count(from)?;
        self.inner.promote(from, size, to).await
    }

    async fn rename(&self, from: Key<'_>, to: Key<'_>, durability: Durability) -> Result<()> {
        self.count(from)?;
        self.inner.rename(from, to, durability).await
    }

    async fn rename_if(&self, from: Key<'_>, expected: &[u8], to: Key<'_>) -> Result<bool> {
        self.count(from)?;
        self.inner.rename_if(from, expected, to).await
    }

    async fn touch(&self, key: Key<'_>) -> Result<()> {
        self.count(key)?;
        self.inner.touch(key).await
    }

    async fn list(&self, key: Key<'_>) -> Result<Vec<Entry>> {
        self.count(key)?;
        self.inner.list(key).await
    }

    async fn crowded(&self, key: Key<'_>, below: Leaf<'_>) -> Result<Vec<(String, Vec<String>)>> {
        self.count(key)?;
        self.inner.crowded(key, below).await
    }

    async fn scan(&self, key: Key<'_>, leaf: Leaf<'_>) -> Result<Vec<Found>> {
        self.count(key)?;
        self.inner.scan(key, leaf).await
    }

    async fn read_each(&self, key: Key<'_>, leaf: Leaf<'_>) -> Result<Vec<(String, Result<Bytes>)>> {
        self.count(key)?;
        self.inner.read_each(key, leaf).await
    }

    async fn walk(&self, key: Key<'_>) -> Result<Vec<Found>> {
        self.count(key)?;
        self.inner.walk(key).await
    }

    async fn delete(&self, key: Key<'_>, durability: Durability) -> Result<()> {
        self.count(key)?;
        self.inner.delete(key, durability).await
    }

    async fn delete_if(&self, key: Key<'_>, expected: &[u8]) -> Result<bool> {
        self.count(key)?;
        self.inner.delete_if(key, expected).await
    }

    async fn prune(&self, key: Key<'_>) -> Result<()> {
        self.count(key)?;
        self.inner.prune(key).await
    }

    async fn delete_tree(&self, key: Key<'_>) -> Result<()> {
        self.count(key)?;
        self.inner.delete_tree(key).await
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }
}
