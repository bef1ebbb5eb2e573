//! Going over directories: many small looks in one call, for the jobs that look at everything.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;

use super::super::{Entry, Found, FoundFile, Leaf, Result, Stat};

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

/// For each directory in `directory`, the names in its directory `below`.
pub(super) fn list_each(directory: &Path, below: Leaf) -> io::Result<Vec<(String, Vec<String>)>> {
    let mut found = Vec::new();
    for entry in entries(directory)?.into_iter().filter(|entry| entry.is_directory) {
        let names = match entries(&directory.join(&entry.name).join(below.path())) {
            Ok(names) => names.into_iter().map(|entry| entry.name).collect(),
            Err(error) if is_absent(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        found.push((entry.name, names));
    }
    Ok(found)
}

/// For each directory in `directory`, its file `leaf`; `shown` is the directory's path in errors.
pub(super) fn scan(directory: &Path, shown: &str, leaf: Leaf) -> io::Result<Vec<Found>> {
    let directories = entries(directory)?.into_iter().filter(|entry| entry.is_directory);
    let found = directories.map(|Entry { name, .. }| {
        let path = directory.join(&name).join(leaf.path());
        let file = look(&path, leaf).map_err(|error| {
            super::sort(("look at", error), &format_args!("{shown}/{name}/{}", leaf.path()))
        });
        Found { name, file }
    });
    Ok(found.collect())
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
            let file: Result<FoundFile> = fs::symlink_metadata(directory.join(&name))
                .map(|metadata| FoundFile { stat: stat_of(&metadata), content: Bytes::new() })
                .map_err(|error| super::sort(("stat", error), &format_args!("{shown}/{name}")));
            found.push(Found { name, file });
        }
    }
    Ok(found)
}

/// The facts that the operating system gives about a file.
pub(super) fn stat_of(metadata: &Metadata) -> Stat {
    Stat { size: metadata.len(), modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH) }
}

fn look(path: &Path, leaf: Leaf) -> io::Result<FoundFile> {
    let stat = stat_of(&fs::metadata(path)?);
    let content = if leaf == Leaf::CurrentLink { fs::read(path)?.into() } else { Bytes::new() };
    Ok(FoundFile { stat, content })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
