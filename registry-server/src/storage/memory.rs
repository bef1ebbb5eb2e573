//! The memory backend, for tests and trials: everything is gone with the process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;

use super::{ByteStream, Content, Durability, Entry, Error, Found, Key, Leaf, Result, Source, Stat, Storage};

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

    /// All files below a directory, by their paths within it; a directory is what has files.
    fn files_below(&self, key: Key<'_>) -> Result<Vec<(String, (Bytes, SystemTime))>> {
        let prefix = format!("{key}/");
        let files = self.files();
        let below = files.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let below: Vec<_> =
            below.map(|(path, file)| (path[prefix.len()..].to_owned(), file.clone())).collect();
        if below.is_empty() { Err(Error::NotFound { path: key.to_string() }) } else { Ok(below) }
    }

    /// The file `leaf` of each directory in a directory.
    fn leaves(&self, key: Key<'_>, leaf: Leaf<'_>) -> Result<BTreeMap<String, Result<(Bytes, SystemTime)>>> {
        let mut leaves = BTreeMap::new();
        for (path, file) in self.files_below(key)? {
            let Some((name, rest)) = path.split_once('/') else { continue };
            let missing = || Err(Error::NotFound { path: format!("{key}/{name}/{}", leaf.path()) });
            let found = leaves.entry(name.to_owned()).or_insert_with(missing);
            if rest == leaf.path() {
                *found = Ok(file);
            }
        }
        Ok(leaves)
    }

    fn set(&self, key: Key<'_>, bytes: Bytes) {
        self.files().insert(key.to_string(), (bytes, SystemTime::now()));
    }

    /// Takes a path away behind everybody's back, as a collector in another process does.
    #[cfg(test)]
    pub(crate) fn remove(&self, path: &str) {
        self.files().remove(path);
    }

    /// Makes what is stored at a path older.
    #[cfg(test)]
    pub(crate) fn age(&self, path: &str, by: std::time::Duration) {
        if let Some((_, modified)) = self.files().get_mut(path) {
            *modified -= by;
        }
    }

    /// Makes everything older.
    #[cfg(test)]
    pub(crate) fn age_all(&self, by: std::time::Duration) {
        self.files().values_mut().for_each(|(_, modified)| *modified -= by);
    }

    /// The paths of all files.
    #[cfg(test)]
    pub(crate) fn paths(&self) -> BTreeSet<String> {
        self.files().keys().cloned().collect()
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

    async fn rename(&self, from: Key<'_>, to: Key<'_>, _durability: Durability) -> Result<()> {
        let path = from.to_string();
        let mut files = self.files();
        let file = files.remove(&path).ok_or(Error::NotFound { path })?;
        files.insert(to.to_string(), file);
        Ok(())
    }

    async fn rename_if(&self, from: Key<'_>, expected: &[u8], to: Key<'_>) -> Result<bool> {
        let path = from.to_string();
        let mut files = self.files();
        let found = files.get(&path).is_some_and(|(bytes, _)| bytes == expected);
        if let Some(file) = found.then(|| files.remove(&path)).flatten() {
            files.insert(to.to_string(), file);
        }
        Ok(found)
    }

    async fn touch(&self, key: Key<'_>) -> Result<()> {
        let path = key.to_string();
        let mut files = self.files();
        let (_, modified) = files.get_mut(&path).ok_or(Error::NotFound { path })?;
        *modified = SystemTime::now();
        Ok(())
    }

    async fn crowded(&self, key: Key<'_>, below: Leaf<'_>) -> Result<Vec<(String, Vec<String>)>> {
        let mut directories: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let beginning = format!("{}/", below.path());
        for (path, _) in self.files_below(key)? {
            let Some((name, rest)) = path.split_once('/') else { continue };
            let names = directories.entry(name.to_owned()).or_default();
            let first = rest.strip_prefix(&beginning).and_then(|rest| rest.split('/').next());
            names.extend(first.map(ToOwned::to_owned));
        }
        let crowded = directories.into_iter().filter(|(_, names)| names.len() > 1);
        Ok(crowded.map(|(name, names)| (name, names.into_iter().collect())).collect())
    }

    async fn scan(&self, key: Key<'_>, leaf: Leaf<'_>) -> Result<Vec<Found>> {
        let leaves = self.leaves(key, leaf)?.into_iter().filter_map(|(name, file)| {
            let (bytes, modified) = file.ok()?;
            Some(Found { name, stat: Ok(Stat { size: bytes.len() as u64, modified }) })
        });
        Ok(leaves.collect())
    }

    async fn read_each(&self, key: Key<'_>, leaf: Leaf<'_>) -> Result<Vec<(String, Result<Bytes>)>> {
        let leaves = self.leaves(key, leaf)?.into_iter();
        Ok(leaves.map(|(name, file)| (name, file.map(|(bytes, _)| bytes))).collect())
    }

    async fn walk(&self, key: Key<'_>) -> Result<Vec<Found>> {
        let found = self.files_below(key)?.into_iter().map(|(name, (bytes, modified))| Found {
            name,
            stat: Ok(Stat { size: bytes.len() as u64, modified }),
        });
        Ok(found.collect())
    }

    async fn list(&self, key: Key<'_>) -> Result<Vec<Entry>> {
        let entries = self.files_below(key)?.into_iter().map(|(path, _)| match path.split_once('/') {
            Some((name, _)) => Entry { name: name.to_owned(), is_directory: true },
            None => Entry { name: path, is_directory: false },
        });
        Ok(entries.collect::<BTreeSet<_>>().into_iter().collect())
    }

    async fn delete(&self, key: Key<'_>, _durability: Durability) -> Result<()> {
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
