//! The memory backend, for tests and trials: everything is gone with the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;

use super::{ByteStream, Content, Durability, Entry, Error, Key, Result, Source, Stat, Storage};

/// Storage in this process's memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    files: Arc<Mutex<BTreeMap<String, (Bytes, SystemTime)>>>,
    appending: Arc<Mutex<BTreeSet<String>>>,
}

impl Memory {
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, (Bytes, SystemTime)>> {
        // A panic elsewhere cannot leave the map half changed: every change is one call.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: Key<'_>) -> Result<(Bytes, SystemTime)> {
        let path = key.to_string();
        self.files().get(&path).cloned().ok_or(Error::NotFound { path })
    }

    fn set(&self, key: Key<'_>, bytes: Bytes) {
        self.files().insert(key.to_string(), (bytes, SystemTime::now()));
    }

    /// Takes a path away behind everybody's back, as a collector in another process does.
    #[cfg(test)]
    pub(crate) fn remove(&self, path: &str) {
        self.files().remove(path);
    }

    fn claim(&self, key: Key<'_>) -> Result<Claim<'_>> {
        let path = key.to_string();
        let fresh = self.appending.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        if fresh { Ok(Claim { storage: self, path }) } else { Err(Error::Busy { path }) }
    }
}

/// The right to write to one key, given back when it is dropped.
struct Claim<'a> {
    storage: &'a Memory,
    path: String,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.storage.appending.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

#[async_trait]
impl Storage for Memory {
    async fn stat(&self, key: Key<'_>) -> Result<Stat> {
        let (bytes, modified) = self.get(key)?;
        Ok(Stat { size: bytes.len() as u64, modified })
    }

    async fn open(&self, key: Key<'_>) -> Result<Content> {
        let (bytes, _) = self.get(key)?;
        Ok(Content { size: bytes.len() as u64, source: Source::Memory(bytes) })
    }

    async fn read(&self, key: Key<'_>) -> Result<Bytes> {
        Ok(self.get(key)?.0)
    }

    async fn put(&self, key: Key<'_>, bytes: &[u8], _durability: Durability) -> Result<()> {
        self.set(key, Bytes::copy_from_slice(bytes));
        Ok(())
    }

    async fn append(&self, key: Key<'_>, offset: u64, body: &mut ByteStream) -> Result<u64> {
        let _claim = self.claim(key)?;
        let mut bytes = self.get(key).map_or_else(|_| Vec::new(), |(bytes, _)| bytes.to_vec());
        let actual = bytes.len() as u64;
        if actual != offset {
            return Err(Error::OffsetMismatch { path: key.to_string(), expected: offset, actual });
        }
        let mut received = Ok(());
        while let Some(chunk) = body.next().await {
            match chunk {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(error) => {
                    received = Err(Error::Source(error));
                    break;
                }
            }
        }
        let end = bytes.len() as u64;
        self.set(key, bytes.into());
        received.map(|()| end)
    }

    async fn promote(&self, from: Key<'_>, size: u64, to: Key<'_>) -> Result<()> {
        let _claim = self.claim(from)?;
        let (bytes, _) = self.get(from)?;
        let actual = bytes.len() as u64;
        if actual != size {
            return Err(Error::OffsetMismatch { path: from.to_string(), expected: size, actual });
        }
        self.set(to, bytes);
        self.files().remove(&from.to_string());
        Ok(())
    }

    async fn list(&self, key: Key<'_>) -> Result<Vec<Entry>> {
        let prefix = format!("{key}/");
        let mut entries = BTreeSet::new();
        for path in self
            .files()
            .range(prefix.clone()..)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&prefix))
        {
            let rest = &path[prefix.len()..];
            let (name, is_directory) = rest.split_once('/').map_or((rest, false), |(name, _)| (name, true));
            entries.insert(Entry { name: name.to_owned(), is_directory });
        }
        if entries.is_empty() {
            return Err(Error::NotFound { path: key.to_string() });
        }
        Ok(entries.into_iter().collect())
    }

    async fn delete(&self, key: Key<'_>) -> Result<()> {
        let path = key.to_string();
        self.files().remove(&path).map(|_| ()).ok_or(Error::NotFound { path })
    }

    async fn delete_if(&self, key: Key<'_>, expected: &[u8]) -> Result<bool> {
        let path = key.to_string();
        let mut files = self.files();
        let found = files.get(&path).is_some_and(|(bytes, _)| bytes == expected);
        if found {
            files.remove(&path);
        }
        Ok(found)
    }

    async fn prune(&self, _key: Key<'_>) -> Result<()> {
        Ok(())
    }

    async fn delete_tree(&self, key: Key<'_>) -> Result<()> {
        let prefix = format!("{key}/");
        let mut files = self.files();
        let before = files.len();
        files.retain(|path, _| !path.starts_with(&prefix));
        if files.len() == before { Err(Error::NotFound { path: key.to_string() }) } else { Ok(()) }
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::contract;

    #[tokio::test]
    async fn it_keeps_the_contract() {
        contract::run(&Memory::default()).await;
    }
}
