//! The filesystem backend: a directory that any number of processes may share.
//!
//! Bytes are staged, flushed, renamed into place and their directory flushed, in that order, so that no name
//! ever stands for a part of its content. Short reads run on the calling thread, where a page-cached read costs
//! less than a change of thread; what flushes, walks or copies runs on the blocking pool.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use rustix::fs::FlockOperation;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::layout::SIDE_DIRECTORY;
use super::{ByteStream, Content, Durability, Entry, Error, Found, Key, Leaf, Result, Source, Stat, Storage};

mod claim;
mod walk;

use claim::{Missing, claim, open_exclusively};

/// How long a staged file can stand before a start of the server takes it for the leftover of a crash.
const STAGING_LIFETIME: Duration = Duration::from_secs(3600);

/// How often a file is moved to a directory that others remove while it is empty.
const MOVES: usize = 50;

/// How many bytes of an upload are gathered before they are written in one go.
const WRITE_SIZE: usize = 1024 * 1024;

/// More bytes than most keys have. Each look at the storage begins with a path, and growing it costs more than writing it.
const ROOM_FOR_KEY: usize = 256;

/// Storage in a directory of the local filesystem.
#[derive(Clone, Debug)]
pub struct Filesystem {
    root: Arc<Path>,
    /// Whether whoever calls may be blocked for as long as it takes.
    may_block: bool,
}

/// An error of the operating system with what was being done, before it is sorted into [`Error`].
type Failure = (&'static str, io::Error);

impl Filesystem {
    /// Opens the storage in `root`, which is made when it does not exist.
    ///
    /// # Errors
    /// When the directory cannot be made or written to.
    pub fn open(root: &Path) -> Result<Self> {
        let storage = Self { root: root.into(), may_block: false };
        let staging = storage.staging();
        create_directories(&staging).map_err(|source| sort(("create", source), &staging.display()))?;
        storage.remove_old_staged_files();
        Ok(storage)
    }

    /// The same storage for a job, which has its threads for itself: nothing is handed over to others.
    #[must_use]
    pub fn for_job(self) -> Self {
        Self { may_block: true, ..self }
    }

    fn path(&self, key: Key<'_>) -> PathBuf {
        let mut path = OsString::with_capacity(self.root.as_os_str().len() + ROOM_FOR_KEY);
        path.push(&*self.root);
        // There is nothing that could fail: it is memory that is written to.
        let _ = write!(path, "/{key}");
        path.into()
    }

    fn staging(&self) -> PathBuf {
        self.root.join(SIDE_DIRECTORY).join("staging")
    }

    /// Removes what a killed process left half staged. Nothing refers to it, so a failure is harmless.
    fn remove_old_staged_files(&self) {
        let Ok(entries) = fs::read_dir(self.staging()) else { return };
        for entry in entries.flatten() {
            let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
            if matches!(age, Ok(Ok(age)) if age > STAGING_LIFETIME) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Runs a short operation on this thread.
    fn inline<T>(
        &self,
        key: Key<'_>,
        work: impl FnOnce(&Path) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        work(&self.path(key)).map_err(|failure| sort(failure, &key))
    }

    /// Runs an operation that may take long on the blocking pool.
    async fn blocking<T: Send + 'static>(
        &self,
        key: Key<'_>,
        work: impl FnOnce(&Self, &Path) -> std::result::Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        if self.may_block {
            return work(self, &self.path(key)).map_err(|failure| sort(failure, &key));
        }
        let (storage, path) = (self.clone(), self.path(key));
        match tokio::task::spawn_blocking(move || work(&storage, &path)).await {
            Ok(result) => result.map_err(|failure| sort(failure, &key)),
            Err(error) => Err(sort(("finish", io::Error::other(error)), &key)),
        }
    }

    /// Writes a file beside the tree and renames it into place.
    fn stage_and_rename(
        &self,
        target: &Path,
        bytes: &[u8],
        durability: Durability,
    ) -> std::result::Result<(), Failure> {
        let staged = self.staging().join(Uuid::new_v4().to_string());
        let written = (|| {
            let mut file = File::create_new(&staged).map_err(|error| ("create", error))?;
            file.write_all(bytes).map_err(|error| ("write", error))?;
            if durability == Durability::Durable {
                file.sync_data().map_err(|error| ("flush", error))?;
            }
            let _claim = match durability {
                Durability::Durable => claim(target, FlockOperation::NonBlockingLockShared)?,
                Durability::Process => None,
            };
            move_into_place(&staged, target, durability)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&staged);
        }
        written
    }
}

#[async_trait]
impl Storage for Filesystem {
    async fn stat(&self, key: Key<'_>) -> Result<Stat> {
        self.inline(key, |path| {
            fs::metadata(path).map(|metadata| walk::stat_of(&metadata)).map_err(|error| ("stat", error))
        })
    }

    async fn open(&self, key: Key<'_>) -> Result<Content> {
        self.inline(key, |path| {
            let file = File::open(path).map_err(|error| ("open", error))?;
            let size = file.metadata().map_err(|error| ("stat", error))?.len();
            Ok(Content { source: Source::File(Arc::new(file)), size })
        })
    }

    async fn read(&self, key: Key<'_>) -> Result<Bytes> {
        self.inline(key, |path| {
            let mut file = File::open(path).map_err(|error| ("open", error))?;
            walk::read_whole(&mut file).map_err(|error| ("read", error))
        })
    }

    async fn put(&self, key: Key<'_>, bytes: &[u8], durability: Durability) -> Result<()> {
        match durability {
            Durability::Process => self.inline(key, |path| self.stage_and_rename(path, bytes, durability)),
            Durability::Durable => {
                let bytes = bytes.to_vec();
                self.blocking(key, move |storage, path| storage.stage_and_rename(path, &bytes, durability))
                    .await
            }
        }
    }

    async fn append(&self, key: Key<'_>, offset: u64, body: &mut ByteStream) -> Result<u64> {
        let file = self.inline(key, |path| open_exclusively(path, Missing::Create))?;
        let file = Arc::new(file.ok_or_else(|| Error::Busy { path: key.to_string() })?);
        let actual = file.metadata().map_err(|error| sort(("stat", error), &key))?.len();
        if actual != offset {
            return Err(Error::OffsetMismatch { path: key.to_string(), expected: offset, actual });
        }
        let mut writer = ChunkWriter { file, end: offset, gathered: BytesMut::new(), writing: None };
        let received = loop {
            match body.next().await {
                None => break Ok(()),
                Some(Err(error)) => break Err(Error::Source(error)),
                Some(Ok(chunk)) => {
                    writer.write(&chunk).await.map_err(|error| sort(("write", error), &key))?;
                }
            }
        };
        writer.flush().await.map_err(|error| sort(("write", error), &key))?;
        received.map(|()| writer.end)
    }

    async fn promote(&self, from: Key<'_>, size: u64, to: Key<'_>) -> Result<()> {
        let target = self.path(to);
        let found = self
            .blocking(from, move |_, source| {
                let Some(file) = open_exclusively(source, Missing::Fail)? else { return Ok(None) };
                let actual = file.metadata().map_err(|error| ("stat", error))?.len();
                if actual == size {
                    // The session may have stood idle for days, but as a blob the bytes are new.
                    file.set_modified(SystemTime::now()).map_err(|error| ("touch", error))?;
                    file.sync_data().map_err(|error| ("flush", error))?;
                    move_into_place(source, &target, Durability::Durable)?;
                }
                Ok(Some(actual))
            })
            .await?;
        match found {
            None => Err(Error::Busy { path: from.to_string() }),
            Some(actual) if actual == size => Ok(()),
            Some(actual) => Err(Error::OffsetMismatch { path: from.to_string(), expected: size, actual }),
        }
    }

    async fn rename(&self, from: Key<'_>, to: Key<'_>, durability: Durability) -> Result<()> {
        let target = self.path(to);
        self.blocking(from, move |_, source| {
            // Most of what is looked for in the quarantine is not there: no directory may be made for it.
            fs::symlink_metadata(source).map_err(|error| ("stat", error))?;
            move_into_place(source, &target, durability)?;
            if durability == Durability::Durable { flush_parent(source) } else { Ok(()) }
        })
        .await
    }

    async fn rename_if(&self, from: Key<'_>, expected: &[u8], to: Key<'_>) -> Result<bool> {
        let (expected, target) = (expected.to_vec(), self.path(to));
        self.blocking(from, move |_, source| take_if(source, &expected, &target)).await
    }

    async fn touch(&self, key: Key<'_>) -> Result<()> {
        self.inline(key, |path| {
            let file = File::options().write(true).open(path).map_err(|error| ("open", error))?;
            file.set_modified(SystemTime::now()).map_err(|error| ("touch", error))
        })
    }

    async fn list(&self, key: Key<'_>) -> Result<Vec<Entry>> {
        self.blocking(key, |_, path| walk::entries(path).map_err(|error| ("list", error))).await
    }

    async fn crowded(&self, key: Key<'_>, below: Leaf<'_>) -> Result<Vec<(String, Vec<String>)>> {
        let below = below.path();
        self.blocking(key, move |_, path| walk::crowded(path, &below).map_err(|error| ("list", error))).await
    }

    async fn scan(&self, key: Key<'_>, leaf: Leaf<'_>) -> Result<Vec<Found>> {
        let (shown, leaf) = (key.to_string(), leaf.path());
        self.blocking(key, move |_, path| walk::scan(path, &shown, &leaf).map_err(|error| ("list", error)))
            .await
    }

    async fn read_each(&self, key: Key<'_>, leaf: Leaf<'_>) -> Result<Vec<(String, Result<Bytes>)>> {
        let (shown, leaf) = (key.to_string(), leaf.path());
        self.blocking(key, move |_, path| {
            walk::read_each(path, &shown, &leaf).map_err(|error| ("list", error))
        })
        .await
    }

    async fn walk(&self, key: Key<'_>) -> Result<Vec<Found>> {
        let shown = key.to_string();
        self.blocking(key, move |_, path| walk::walk(path, &shown).map_err(|error| ("list", error))).await
    }

    async fn delete(&self, key: Key<'_>, durability: Durability) -> Result<()> {
        self.blocking(key, move |_, path| {
            fs::remove_file(path).map_err(|error| ("delete", error))?;
            if durability == Durability::Durable { flush_parent(path) } else { Ok(()) }
        })
        .await
    }

    async fn delete_if(&self, key: Key<'_>, expected: &[u8]) -> Result<bool> {
        let expected = expected.to_vec();
        self.blocking(key, move |storage, path| {
            let taken = storage.staging().join(Uuid::new_v4().to_string());
            let deleted = take_if(path, &expected, &taken)?;
            if deleted {
                fs::remove_file(&taken).map_err(|error| ("delete", error))?;
            }
            Ok(deleted)
        })
        .await
    }

    async fn prune(&self, key: Key<'_>) -> Result<()> {
        self.blocking(key, |_, path| remove_empty_directories(path).map_err(|error| ("prune", error))).await
    }

    async fn delete_tree(&self, key: Key<'_>) -> Result<()> {
        self.blocking(key, |_, path| {
            match fs::remove_dir_all(path) {
                // Another request has put something there meanwhile: that came after, and stays.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                removed => removed.map_err(|error| ("delete", error))?,
            }
            flush_parent(path)
        })
        .await
    }

    async fn check(&self) -> Result<()> {
        let storage = self.clone();
        let probe = self.root.join(SIDE_DIRECTORY).join(format!("probe-{}", Uuid::new_v4()));
        let shown = probe.display().to_string();
        let checked = tokio::task::spawn_blocking(move || {
            let result = storage.stage_and_rename(&probe, b"probe", Durability::Process).and_then(|()| {
                let read = fs::read(&probe).map_err(|error| ("read", error))?;
                if read == b"probe" { Ok(()) } else { Err(("read back", io::Error::other("other bytes"))) }
            });
            let removed = fs::remove_file(&probe).map_err(|error| ("delete", error));
            result.and(removed)
        });
        match checked.await {
            Ok(result) => result.map_err(|failure| sort(failure, &shown)),
            Err(error) => Err(sort(("probe", io::Error::other(error)), &shown)),
        }
    }
}

/// Gathers small chunks so that the file is written in few and large calls, off the async threads: while one is written,
/// the next is received and hashed.
struct ChunkWriter {
    file: Arc<File>,
    end: u64,
    gathered: BytesMut,
    /// The write that goes on; it gives its buffer back.
    writing: Option<JoinHandle<io::Result<BytesMut>>>,
}

impl ChunkWriter {
    async fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.gathered.extend_from_slice(chunk);
        if self.gathered.len() >= WRITE_SIZE { self.begin_write().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.gathered.is_empty() {
            self.begin_write().await?;
        }
        self.end_write().await.map(drop)
    }

    async fn begin_write(&mut self) -> io::Result<()> {
        let empty = self.end_write().await?;
        let (file, bytes, offset) =
            (Arc::clone(&self.file), std::mem::replace(&mut self.gathered, empty), self.end);
        self.end += bytes.len() as u64;
        let write = move || file.write_all_at(&bytes, offset).map(|()| bytes);
        self.writing = Some(tokio::task::spawn_blocking(write));
        Ok(())
    }

    /// Waits for the write that goes on and gives its buffer, so that an upload allocates twice.
    async fn end_write(&mut self) -> io::Result<BytesMut> {
        let Some(writing) = self.writing.take() else { return Ok(BytesMut::new()) };
        let mut buffer = writing.await.map_err(io::Error::other)??;
        buffer.clear();
        Ok(buffer)
    }
}

fn move_into_place(source: &Path, target: &Path, durability: Durability) -> std::result::Result<(), Failure> {
    let mut attempts = MOVES;
    loop {
        attempts -= 1;
        match move_once(source, target, durability) {
            // Somebody removed the directory just now because it was empty, as a garbage collection does.
            Err((_, error)) if error.kind() == io::ErrorKind::NotFound && attempts > 0 && source.exists() => {
            }
            Err(failure) => return Err(failure),
            Ok(()) => break,
        }
    }
    if durability == Durability::Durable { flush_parent(target) } else { Ok(()) }
}

fn move_once(source: &Path, target: &Path, durability: Durability) -> std::result::Result<(), Failure> {
    if let Some(parent) = target.parent() {
        match durability {
            Durability::Durable => create_directories(parent),
            Durability::Process => fs::create_dir_all(parent),
        }
        .map_err(|error| ("create the directory of", error))?;
    }
    fs::rename(source, target).map_err(|error| ("rename", error))
}

/// Moves a file away if it is exactly `expected`, and says whether it was.
fn take_if(path: &Path, expected: &[u8], taken: &Path) -> std::result::Result<bool, Failure> {
    let Some(mut claimed) = claim(path, FlockOperation::NonBlockingLockExclusive)? else { return Ok(false) };
    let mut bytes = Vec::new();
    claimed.read_to_end(&mut bytes).map_err(|error| ("read", error))?;
    if bytes != expected {
        return Ok(false);
    }
    match move_into_place(path, taken, Durability::Process) {
        Err((_, error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        moved => moved.and_then(|()| flush_parent(path)).map(|()| true),
    }
}

/// Makes a directory and those above it, each entry flushed before anything is put below it.
fn create_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    create_directories(parent)?;
    match fs::create_dir(directory) {
        // Another request made it: its entry must be on disk before we rely on it, whoever gets there first.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => created?,
    }
    File::open(parent)?.sync_all()
}

/// Removes a directory and those below it as far as they hold no file. It never removes one that has just got a file:
/// the system refuses to.
fn remove_empty_directories(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty_directories(&entry.path())?;
        }
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed,
    }
}

/// Flushes the directory that a file has come to or gone from. If somebody has removed it since, because it was empty,
/// there is nothing to flush.
fn flush_parent(path: &Path) -> std::result::Result<(), Failure> {
    let Some(parent) = path.parent() else { return Ok(()) };
    match File::open(parent).and_then(|directory| directory.sync_all()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        flushed => flushed.map_err(|error| ("flush the directory of", error)),
    }
}

/// Sorts an error of the operating system by what it means to the caller.
fn sort((operation, source): Failure, path: &dyn std::fmt::Display) -> Error {
    let path = path.to_string();
    match source.kind() {
        // A file where a directory should be means that the key does not exist, too.
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NotFound { path },
        io::ErrorKind::WouldBlock => Error::Busy { path },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::OutOfSpace { operation, path },
        io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly { operation, path },
        _ => Error::Io { operation, path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::contract;
    use crate::types::{RepositoryName, UploadId};

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Filesystem::open(directory.path()).unwrap();
        contract::run(&storage).await;
    }

    #[tokio::test]
    async fn nothing_staged_is_left_and_the_tree_has_only_its_own_files() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Filesystem::open(directory.path()).unwrap();
        contract::run(&storage).await;
        storage.check().await.unwrap();
        assert_eq!(fs::read_dir(storage.staging()).unwrap().count(), 0);
        let mut names: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["docker", SIDE_DIRECTORY]);
    }

    #[tokio::test]
    async fn an_append_that_raced_a_promotion_cannot_reach_the_blob() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Filesystem::open(directory.path()).unwrap();
        let name: RepositoryName = "a".parse().unwrap();
        let id = UploadId::random();
        storage.put(Key::UploadStartedAt(&name, id), b"now", Durability::Process).await.unwrap();
        let data = Key::UploadData(&name, id);
        storage.append(data, 0, &mut contract::body(&["abc"])).await.unwrap();

        let held = open_exclusively(&storage.path(data), Missing::Fail).unwrap().unwrap();
        let digest = crate::types::Hasher::digest(crate::types::Algorithm::Sha256, b"abc");
        let busy = storage.append(data, 3, &mut contract::body(&["d"])).await;
        assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
        let busy = storage.promote(data, 3, Key::BlobData(&digest)).await;
        assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
        drop(held);
        storage.promote(data, 3, Key::BlobData(&digest)).await.unwrap();
    }

    #[test]
    fn old_leftovers_of_a_crash_are_removed_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let staging = Filesystem::open(directory.path()).unwrap().staging();
        let (old, fresh) = (staging.join("old"), staging.join("fresh"));
        for path in [&old, &fresh] {
            fs::write(path, b"half").unwrap();
        }
        let long_ago = SystemTime::now() - 2 * STAGING_LIFETIME;
        File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
        Filesystem::open(directory.path()).unwrap();
        assert!(!old.exists() && fresh.exists());
    }

    #[tokio::test]
    async fn a_deletion_and_a_push_of_one_tag_never_lose_what_was_pushed_last() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Filesystem::open(directory.path()).unwrap();
        let (name, tag): (RepositoryName, crate::types::Tag) = ("a".parse().unwrap(), "v1".parse().unwrap());
        let key = Key::TagCurrent(&name, &tag);
        for round in 0..200 {
            storage.put(key, b"old", Durability::Durable).await.unwrap();
            let push = storage.put(key, b"new", Durability::Durable);
            let (pushed, deleted) = if round % 2 == 0 {
                tokio::join!(push, storage.delete_if(key, b"old"))
            } else {
                let (deleted, pushed) = tokio::join!(storage.delete_if(key, b"old"), push);
                (pushed, deleted)
            };
            pushed.unwrap();
            deleted.unwrap();
            assert_eq!(storage.read(key).await.unwrap(), "new", "round {round}");
        }
    }

    #[tokio::test]
    async fn a_stopped_holder_of_a_claim_keeps_others_from_guessing() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Filesystem::open(directory.path()).unwrap();
        let (name, tag): (RepositoryName, crate::types::Tag) = ("a".parse().unwrap(), "v1".parse().unwrap());
        let key = Key::TagCurrent(&name, &tag);
        storage.put(key, b"old", Durability::Durable).await.unwrap();
        let rows = [
            (FlockOperation::NonBlockingLockExclusive, false),
            (FlockOperation::NonBlockingLockShared, true),
        ];
        for (held, may_put) in rows {
            let _held = claim(&storage.path(key), held).unwrap().unwrap();
            let taken = storage.delete_if(key, b"old").await;
            assert!(matches!(taken, Err(Error::Busy { .. })), "{taken:?}");
            assert_eq!(storage.put(key, b"old", Durability::Durable).await.is_ok(), may_put);
        }
        assert!(storage.delete_if(key, b"old").await.unwrap());
    }

    #[test]
    fn errors_are_sorted_by_meaning() {
        let full = sort(("write", io::Error::from_raw_os_error(28)), &"x");
        assert!(matches!(full, Error::OutOfSpace { operation: "write", .. }));
        let missing = sort(("open", io::Error::from_raw_os_error(20)), &"x");
        assert!(matches!(missing, Error::NotFound { .. }));
        let denied = sort(("open", io::Error::from_raw_os_error(13)), &"x");
        assert_eq!(denied.to_string(), "failed to open x");
    }
}
