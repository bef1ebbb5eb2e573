//! What is read from a file, and read again when the file changes.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

/// How often the file is looked at, at most.
const INTERVAL: Duration = Duration::from_secs(1);

/// The content of a file that somebody may replace at any time.
#[derive(Debug)]
pub(super) struct Followed<T> {
    path: PathBuf,
    read: fn(&Path) -> io::Result<T>,
    content: ArcSwap<T>,
    /// What the file looked like when it was last read, and when it is looked at again.
    seen: Mutex<(Option<Stamp>, Instant)>,
    interval: Duration,
}

impl<T> Followed<T> {
    /// Reads the file at `path` for the first time.
    ///
    /// # Errors
    /// Those of `read`, and of the operating system.
    pub(super) fn open(path: &Path, read: fn(&Path) -> io::Result<T>) -> io::Result<Self> {
        let stamp = Stamp::of(path)?;
        Ok(Self {
            path: path.to_owned(),
            read,
            content: ArcSwap::from_pointee(read(path)?),
            seen: Mutex::new((Some(stamp), Instant::now() + INTERVAL)),
            interval: INTERVAL,
        })
    }

    /// The same, looked at each time.
    #[cfg(test)]
    pub(super) fn without_interval(self) -> Self {
        let Self { path, read, content, seen, .. } = self;
        let stamp = seen.into_inner().unwrap().0;
        Self { path, read, content, seen: Mutex::new((stamp, Instant::now())), interval: Duration::ZERO }
    }

    /// The content, as of a second ago at most. What cannot be read leaves it as it was.
    pub(super) fn current(&self) -> Arc<T> {
        self.read_again_if_changed();
        self.content.load_full()
    }

    fn read_again_if_changed(&self) {
        let Ok(mut seen) = self.seen.try_lock() else { return };
        let (last, next_look) = &mut *seen;
        if Instant::now() < *next_look {
            return;
        }
        *next_look = Instant::now() + self.interval;
        let stamp = Stamp::of(&self.path).ok();
        if stamp == *last {
            return;
        }
        *last = stamp;
        match (self.read)(&self.path) {
            Ok(content) => {
                tracing::info!(path = %self.path.display(), "a file has changed and was read again");
                self.content.store(Arc::new(content));
            }
            Err(error) => tracing::error!(
                path = %self.path.display(),
                error = &error as &dyn std::error::Error,
                "a file has changed and cannot be read, its last content stays"
            ),
        }
    }
}

/// What changes when a file is written or replaced.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata: Metadata = fs::metadata(path)?;
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Ok(Self { inode: metadata.ino(), size: metadata.size(), modified })
    }
}
