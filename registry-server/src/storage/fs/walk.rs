//! Going over directories: many small looks in one call, for the jobs that look at everything.
//!
//! All looks are relative to the directory that is gone over, so that the system resolves its path once.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};

use super::super::{Entry, Found, Result, Stat};

/// More bytes than any link has that can be read as one: a SHA-512 digest has 135.
const LONGEST_LINK: usize = 256;

/// Links of a directory that has one directory in it: its name, its own `.`, and that one's `..`.
const LINKS_OF_ONE: u64 = 3;

/// The entries of a directory.
pub(super) fn entries(directory: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let is_directory = entry.file_type()?.is_dir();
        // Names that are not UTF-8 are none of the tree's.
        if let Ok(name) = entry.file_name().into_string() {
            entries.push(Entry { name, is_directory });
        }
    }
    Ok(entries)
}

/// For each directory in `directory`, the names in its directory `below` if there is more than one.
pub(super) fn crowded(directory: &Path, below: &str) -> io::Result<Vec<(String, Vec<String>)>> {
    let opened = File::open(directory)?;
    let mut found = Vec::new();
    for entry in entries(directory)?.into_iter().filter(|entry| entry.is_directory) {
        let path = format!("{}/{below}", entry.name);
        // Most have one, and most filesystems count the directories in a directory as links.
        match statat(&opened, path.as_str(), AtFlags::empty()) {
            Ok(stat) if links(&stat) == LINKS_OF_ONE => continue,
            Ok(_) => {}
            Err(error) if is_absent(&error.into()) => continue,
            Err(error) => return Err(error.into()),
        }
        let names: Vec<String> =
            entries(&directory.join(path))?.into_iter().map(|entry| entry.name).collect();
        if names.len() > 1 {
            found.push((entry.name, names));
        }
    }
    Ok(found)
}

/// The file `leaf` of each directory in `directory` that has it; `shown` is the directory's path in errors.
pub(super) fn scan(directory: &Path, shown: &str, leaf: &str) -> io::Result<Vec<Found>> {
    let opened = File::open(directory)?;
    let directories = entries(directory)?.into_iter().filter(|entry| entry.is_directory);
    let found = directories.filter_map(|Entry { name, .. }| {
        let path = format!("{name}/{leaf}");
        match look(opened.as_fd(), &path) {
            Err(error) if is_absent(&error) => None,
            looked => {
                let stat =
                    looked.map_err(|error| super::sort(("stat", error), &format_args!("{shown}/{path}")));
                Some(Found { name, stat })
            }
        }
    });
    Ok(found.collect())
}

/// For each directory in `directory`, the content of its file `leaf`; `shown` is the directory's path in errors.
pub(super) fn read_each(
    directory: &Path,
    shown: &str,
    leaf: &str,
) -> io::Result<Vec<(String, Result<Bytes>)>> {
    let opened = File::open(directory)?;
    let directories = entries(directory)?.into_iter().filter(|entry| entry.is_directory);
    let contents = directories.map(|Entry { name, .. }| {
        let path = format!("{name}/{leaf}");
        let content = read(&opened, &path)
            .map_err(|error| super::sort(("read", error), &format_args!("{shown}/{path}")));
        (name, content)
    });
    Ok(contents.collect())
}

/// All files below `directory`, named by their paths within it.
pub(super) fn walk(directory: &Path, shown: &str) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut pending = vec![String::new()];
    while let Some(parent) = pending.pop() {
        let children = match entries(&directory.join(&parent)) {
            // Somebody deleted it just now; but the first one must be there.
            Err(error) if is_absent(&error) && !parent.is_empty() => continue,
            children => children?,
        };
        for Entry { name, is_directory } in children {
            let name = if parent.is_empty() { name } else { format!("{parent}/{name}") };
            if is_directory {
                pending.push(name);
                continue;
            }
            let stat = fs::symlink_metadata(directory.join(&name))
                .map(|metadata| stat_of(&metadata))
                .map_err(|error| super::sort(("stat", error), &format_args!("{shown}/{name}")));
            found.push(Found { name, stat });
        }
    }
    Ok(found)
}

/// The facts that the operating system gives about a file.
pub(super) fn stat_of(metadata: &Metadata) -> Stat {
    Stat { size: metadata.len(), modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH) }
}

fn look(directory: BorrowedFd<'_>, path: &str) -> io::Result<Stat> {
    let stat = statat(directory, path, AtFlags::empty())?;
    Ok(Stat { size: u64::try_from(stat.st_size).unwrap_or_default(), modified: modified(&stat) })
}

#[allow(clippy::useless_conversion, reason = "the types of the fields differ between architectures")]
fn links(stat: &rustix::fs::Stat) -> u64 {
    stat.st_nlink.into()
}

#[allow(clippy::useless_conversion, reason = "the types of the fields differ between architectures")]
fn modified(stat: &rustix::fs::Stat) -> SystemTime {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or_default();
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
}

/// Reads a link, which is short and written whole.
fn read(directory: &File, path: &str) -> io::Result<Bytes> {
    let mut file = File::from(openat(directory, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    let mut buffer = [0; LONGEST_LINK];
    let length = file.read(&mut buffer)?;
    Ok(Bytes::copy_from_slice(&buffer[..length]))
}

/// Reads a file that is written whole and then never changed.
pub(super) fn read_whole(file: &mut File) -> io::Result<Bytes> {
    let mut start = [0; LONGEST_LINK];
    let length = file.read(&mut start)?;
    if length < start.len() {
        // A link: its size need not be asked for.
        return Ok(Bytes::copy_from_slice(&start[..length]));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?);
    bytes.extend_from_slice(&start);
    file.read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
