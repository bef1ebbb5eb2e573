//! Uploads that nobody goes on with: found by age, and removed.

use std::error::Error;
use std::time::{Duration, SystemTime};

use crate::registry::{self, Registry, Result, UploadSession};
use crate::types::RepositoryName;

/// What was removed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgedUploads {
    /// How many uploads.
    pub uploads: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// How many repositories could not be looked at to the end.
    pub failures: u64,
}

/// Removes, in all repositories, uploads of which nothing was written for longer than `older_than`. Each is logged, and
/// so is a repository that fails, which does not keep the others from being looked at.
///
/// # Errors
/// When the repositories cannot be listed.
pub async fn purge_uploads(
    registry: &Registry,
    older_than: Duration,
    dry_run: bool,
) -> Result<PurgedUploads> {
    let mut purged = PurgedUploads::default();
    for name in registry.repositories().await? {
        match purge_repository_uploads(registry, &name, older_than, dry_run).await {
            Ok(sessions) => {
                purged.uploads += sessions.len() as u64;
                purged.bytes += sessions.iter().map(|session| session.size).sum::<u64>();
                log(&name, &sessions, dry_run);
            }
            Err(error) => {
                purged.failures += 1;
                let error: &dyn Error = &error;
                tracing::warn!(repository = %name, error, "uploads could not be removed");
            }
        }
    }
    Ok(purged)
}

/// Removes a repository's uploads of which nothing was written for longer than `older_than`, and gives them. None of
/// them is being written. A client that comes back for one in this very moment learns that it is gone.
///
/// # Errors
/// Those of the storage. What was removed until then is removed.
pub async fn purge_repository_uploads(
    registry: &Registry,
    name: &RepositoryName,
    older_than: Duration,
    dry_run: bool,
) -> Result<Vec<UploadSession>> {
    let now = SystemTime::now();
    let mut purged = Vec::new();
    for session in registry.upload_sessions(name).await? {
        let is_old = now.duration_since(session.written).is_ok_and(|age| age > older_than);
        if !is_old || registry.has_moved_on(name, &session).await? {
            continue;
        }
        match if dry_run { Ok(()) } else { registry.cancel_upload(name, session.id).await } {
            Ok(()) => purged.push(session),
            // Another server has removed it just now.
            Err(registry::Error::UploadUnknown { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(purged)
}

fn log(name: &RepositoryName, sessions: &[UploadSession], dry_run: bool) {
    for UploadSession { id, size, written } in sessions {
        let idle = written.elapsed().unwrap_or_default().as_secs();
        let message = if dry_run { "an upload would be removed" } else { "an upload was removed" };
        tracing::info!(repository = %name, upload = %id, bytes = size, idle_seconds = idle, "{message}");
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use bytes::Bytes;
    use futures::channel::mpsc;

    use super::*;
    use crate::registry::Chunk;
    use crate::storage::{ByteStream, Durability, Filesystem, Key, Storage};
    use crate::types::UploadId;

    const DAY: Duration = Duration::from_secs(86_400);

    struct Tree {
        directory: tempfile::TempDir,
        storage: Arc<Filesystem>,
        registry: Registry,
    }

    impl Tree {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let storage = Arc::new(Filesystem::open(directory.path()).unwrap());
            Self { registry: Registry::new(Arc::<Filesystem>::clone(&storage)), storage, directory }
        }

        async fn upload(&self, name: &RepositoryName, body: ByteStream) -> UploadId {
            let id = self.registry.start_upload(name).await.unwrap();
            self.registry.append_upload(name, id, Chunk { range: None, length: None, body }).await.unwrap();
            id
        }

        fn path(&self, key: Key<'_>) -> PathBuf {
            self.directory.path().join(key.to_string())
        }

        /// Lets all files below a directory be written so long ago.
        fn age(&self, key: Key<'_>, age: Duration) {
            fn visit(directory: &Path, time: SystemTime) {
                for entry in fs::read_dir(directory).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        visit(&path, time);
                    } else {
                        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
                    }
                }
            }
            visit(&self.path(key), SystemTime::now() - age);
        }

        async fn purge(&self, dry_run: bool) -> PurgedUploads {
            purge_uploads(&self.registry, 7 * DAY, dry_run).await.unwrap()
        }
    }

    fn five_bytes() -> ByteStream {
        Box::pin(futures::stream::iter([Ok(Bytes::from_static(b"hello"))]))
    }

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn old_uploads_go_and_those_of_which_anything_is_new_stay() {
        let (tree, a, b) = (Tree::new(), name("a"), name("a/b"));
        let foreign = tree.path(Key::Uploads(&a)).join("not-ours");
        fs::create_dir_all(&foreign).unwrap();
        fs::write(foreign.join("data"), b"x").unwrap();
        let old = tree.upload(&a, five_bytes()).await;
        tree.registry.start_upload(&b).await.unwrap();
        let start = Key::UploadStartedAt(&b, tree.upload(&b, five_bytes()).await);
        tree.storage.delete(start, Durability::Process).await.unwrap();
        for name in [&a, &b] {
            tree.age(Key::Uploads(name), 8 * DAY);
        }
        let young = tree.upload(&a, five_bytes()).await;
        tree.age(Key::Upload(&a, young), 6 * DAY);
        let new_hash = tree.upload(&a, five_bytes()).await;
        tree.age(Key::Upload(&a, new_hash), 8 * DAY);
        tree.storage.put(Key::UploadHashState(&a, new_hash, 5), b"", Durability::Process).await.unwrap();

        let expected = PurgedUploads { uploads: 3, bytes: 10, failures: 0 };
        assert_eq!(tree.purge(true).await, expected);
        assert_eq!(tree.purge(false).await, expected, "a dry run tells what a run does, and changes nothing");
        assert_eq!(tree.purge(false).await, PurgedUploads::default());
        let left: Vec<_> = [old, young, new_hash].map(|id| tree.path(Key::Upload(&a, id)).exists()).into();
        assert_eq!(left, [false, true, true]);
        assert!(foreign.exists(), "what is no upload is left alone");
    }

    #[tokio::test]
    async fn an_upload_that_is_being_written_stays_however_slow_it_is() {
        let (tree, a) = (Tree::new(), name("a"));
        let id = tree.upload(&a, five_bytes()).await;
        let (sender, receiver) = mpsc::unbounded::<std::io::Result<Bytes>>();
        let registry = tree.registry.clone();
        let writer = tokio::spawn(async move {
            let chunk = Chunk { range: None, length: None, body: Box::pin(receiver) };
            registry.append_upload(&name("a"), id, chunk).await
        });
        while !tree.registry.has_moved_on(&a, &session(&tree, &a).await).await.unwrap() {
            tokio::task::yield_now().await;
        }
        tree.age(Key::Upload(&a, id), 8 * DAY);
        assert_eq!(tree.purge(false).await, PurgedUploads::default());
        drop(sender);
        assert_eq!(writer.await.unwrap().unwrap(), 5);
        tree.age(Key::Upload(&a, id), 8 * DAY);
        assert_eq!(tree.purge(false).await.uploads, 1);
    }

    async fn session(tree: &Tree, name: &RepositoryName) -> UploadSession {
        tree.registry.upload_sessions(name).await.unwrap()[0]
    }

    #[tokio::test]
    async fn an_upload_that_goes_on_between_the_look_and_the_removal_has_moved_on() {
        let (tree, a) = (Tree::new(), name("a"));
        let id = tree.upload(&a, five_bytes()).await;
        let seen = session(&tree, &a).await;
        assert!(!tree.registry.has_moved_on(&a, &seen).await.unwrap());
        let chunk = Chunk { range: None, length: None, body: five_bytes() };
        tree.registry.append_upload(&a, id, chunk).await.unwrap();
        assert!(tree.registry.has_moved_on(&a, &seen).await.unwrap(), "it has grown");
        tree.registry.cancel_upload(&a, id).await.unwrap();
        assert!(tree.registry.has_moved_on(&a, &seen).await.unwrap(), "it has ended");
    }
}
