//! Claims on files: how requests, also those of other processes, keep out of each other's way for a moment.
//!
//! A claim is the system's lock on an open file. It ends when the file is closed, so also when the process dies.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::Failure;

/// How long one that looks at a file and then replaces it is waited for.
const LONGEST_CLAIM: Duration = Duration::from_secs(1);

/// What to do about a file that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    Fail,
}

/// Opens a file that nobody else has open this way, in this process or another; `None` when somebody has.
///
/// The claim ends when the file is closed, so also when the process dies.
pub(super) fn open_exclusively(path: &Path, missing: Missing) -> std::result::Result<Option<File>, Failure> {
    let create = missing == Missing::Create;
    let file = OpenOptions::new()
        .write(true)
        .create(create)
        .truncate(false)
        .open(path)
        .map_err(|error| ("open", error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(("lock", error.into())),
    }
    // Whoever held the claim before may have renamed the file away: then the name is no longer ours to write.
    Ok(is_named(&file, path)?.then_some(file))
}

/// Claims the file that a name stands for: shared to put another in its place, exclusively to look at it and take it
/// away, so that nobody takes away what was put there after the look. `None` when there is no such file.
///
/// Whoever holds a claim needs microseconds. One that is not given back in time is held by a stopped process, and then
/// nothing that is sure can be done: the caller must try again later.
pub(super) fn claim(path: &Path, claim: FlockOperation) -> std::result::Result<Option<File>, Failure> {
    let deadline = Instant::now() + LONGEST_CLAIM;
    loop {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| ("open", error))?,
        };
        match flock(&file, claim) {
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(("claim", error.into())),
            Ok(()) if is_named(&file, path)? => return Ok(Some(file)),
            // It was replaced while we waited.
            Ok(()) => {}
        }
    }
}

/// Whether the name stands for the open file.
fn is_named(file: &File, path: &Path) -> std::result::Result<bool, Failure> {
    let opened = file.metadata().map_err(|error| ("stat", error))?;
    match fs::metadata(path) {
        Ok(named) => Ok(opened.ino() == named.ino() && opened.dev() == named.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(("stat", error)),
    }
}
