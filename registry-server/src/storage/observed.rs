//! Tells an observer how long each storage operation took.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;

use super::{ByteStream, Content, Durability, Entry, Found, Key, Leaf, Result, Stat, Storage};

/// The kind of a storage operation, by CNCF distribution's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Facts about content.
    Stat,
    /// Opening content for sending.
    Reader,
    /// Reading content whole.
    GetContent,
    /// Writing content whole.
    PutContent,
    /// Appending to an upload.
    Writer,
    /// Moving an upload into place.
    Move,
    /// Listing a directory.
    List,
    /// Deleting.
    Delete,
}

impl Action {
    /// The name as it stands in the metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stat => "Stat",
            Self::Reader => "Reader",
            Self::GetContent => "GetContent",
            Self::PutContent => "PutContent",
            Self::Writer => "Writer",
            Self::Move => "Move",
            Self::List => "List",
            Self::Delete => "Delete",
        }
    }
}

type Observer = Arc<dyn Fn(Action, Duration) + Send + Sync>;

/// A storage whose operations are timed.
pub struct Observed {
    inner: Arc<dyn Storage>,
    observer: Observer,
}

impl Observed {
    /// Times every operation of `inner`.
    pub fn new(inner: Arc<dyn Storage>, observer: impl Fn(Action, Duration) + Send + Sync + 'static) -> Self {
        Self { inner, observer: Arc::new(observer) }
    }

    async fn time<T>(&self, action: Action, operation: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let result = operation.await;
        (self.observer)(action, start.elapsed());
        result
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(formatter)
    }
}

// A new operation must not slip past the observer.
#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Storage for Observed {
    async fn stat(&self, key: Key<'_>) -> Result<Stat> {
        self.time(Action::Stat, self.inner.stat(key)).await
    }

    async fn open(&self, key: Key<'_>) -> Result<Content> {
        self.time(Action::Reader, self.inner.open(key)).await
    }

    async fn read(&self, key: Key<'_>) -> Result<Bytes> {
        self.time(Action::GetContent, self.inner.read(key)).await
    }

    async fn put(&self, key: Key<'_>, bytes: &[u8], durability: Durability) -> Result<()> {
        self.time(Action::PutContent, self.inner.put(key, bytes, durability)).await
    }

    async fn append(&self, key: Key<'_>, offset: u64, body: &mut ByteStream) -> Result<u64> {
        self.time(Action::Writer, self.inner.append(key, offset, body)).await
    }

    async fn promote(&self, from: Key<'_>, size: u64, to: Key<'_>) -> Result<()> {
        self.time(Action::Move, self.inner.promote(from, size, to)).await
    }

    async fn rename(&self, from: Key<'_>, to: Key<'_>, durability: Durability) -> Result<()> {
        self.time(Action::Move, self.inner.rename(from, to, durability)).await
    }

    async fn rename_if(&self, from: Key<'_>, expected: &[u8], to: Key<'_>) -> Result<bool> {
        self.time(Action::Move, self.inner.rename_if(from, expected, to)).await
    }

    async fn touch(&self, key: Key<'_>) -> Result<()> {
        self.time(Action::PutContent, self.inner.touch(key)).await
    }

    async fn list(&self, key: Key<'_>) -> Result<Vec<Entry>> {
        self.time(Action::List, self.inner.list(key)).await
    }

    async fn crowded(&self, key: Key<'_>, below: Leaf<'_>) -> Result<Vec<(String, Vec<String>)>> {
        self.time(Action::List, self.inner.crowded(key, below)).await
    }

    async fn scan(&self, key: Key<'_>, leaf: Leaf<'_>) -> Result<Vec<Found>> {
        self.time(Action::List, self.inner.scan(key, leaf)).await
    }

    async fn read_each(&self, key: Key<'_>, leaf: Leaf<'_>) -> Result<Vec<(String, Result<Bytes>)>> {
        self.time(Action::List, self.inner.read_each(key, leaf)).await
    }

    async fn walk(&self, key: Key<'_>) -> Result<Vec<Found>> {
        self.time(Action::List, self.inner.walk(key)).await
    }

    async fn delete(&self, key: Key<'_>, durability: Durability) -> Result<()> {
        self.time(Action::Delete, self.inner.delete(key, durability)).await
    }

    async fn delete_if(&self, key: Key<'_>, expected: &[u8]) -> Result<bool> {
        self.time(Action::Delete, self.inner.delete_if(key, expected)).await
    }

    async fn prune(&self, key: Key<'_>) -> Result<()> {
        self.time(Action::Delete, self.inner.prune(key)).await
    }

    async fn delete_tree(&self, key: Key<'_>) -> Result<()> {
        self.time(Action::Delete, self.inner.delete_tree(key)).await
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::storage::{Memory, contract};

    #[tokio::test]
    async fn it_keeps_the_contract_and_reports_every_kind_of_action() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let storage = Observed::new(Arc::new(Memory::default()), move |action, _| {
            sink.lock().unwrap().push(action.as_str());
        });
        contract::run(&storage).await;
        let seen = seen.lock().unwrap();
        for action in ["Stat", "Reader", "GetContent", "PutContent", "Writer", "Move", "List", "Delete"] {
            assert!(seen.contains(&action), "{action}");
        }
    }
}
