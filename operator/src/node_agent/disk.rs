//! Writing to the node: only what is ours, and so that a node can lose its power at any moment.
//!
//! What is written is a [`Piece`]: a directory with a few files, or one file, each in an area that others use as well.
//! A piece is ours if it carries our mark, which names the installation and the Registry; anything else of the same name
//! is left alone.
//!
//! A change is a list of [`Operation`]s that is made before the first is done, so that tests can cut it off anywhere. A
//! new directory is filled under a hidden name and appears by a rename. A file is replaced by a rename; within a
//! directory in the order of its files, so that a file stands after those that it names. A directory disappears by a
//! rename, too. What a killed agent leaves has a hidden name of ours, and the next one removes it.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// File in a directory of ours that marks it; hidden names of ours begin in the same way.
const MARK_FILE: &str = ".windlass";

/// How our mark begins: the first line of [`MARK_FILE`], and of a piece that is one file.
const MARK: &str = "# Written and removed by Windlass as a whole: ";

/// Something that is written and removed as a whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Piece {
    /// The directory that it lies in, below the writable one; empty for that itself.
    pub area: &'static str,
    /// Its name there.
    pub name: String,
    /// The Registry that it is about, such as `team-a/registry`.
    pub registry: String,
    /// What it holds.
    pub content: Content,
}

/// What a piece holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// Files by name, each after those that it names.
    Directory(Vec<(&'static str, String)>),
    /// Text that follows the mark.
    File(String),
}

/// Who an entry of an area belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Owner {
    /// There is no such entry.
    Nobody,
    /// It is ours, for this Registry.
    Ours(String),
    /// It is somebody else's, another installation of Windlass included.
    Foreign,
}

/// One step of a change of the disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Makes a directory unless it is there.
    Directory(PathBuf),
    /// Writes a file from nothing, down to the disk.
    Write(PathBuf, String),
    /// Puts the first in the place of the second.
    Rename(PathBuf, PathBuf),
    /// Brings the names in a directory to the disk.
    Sync(PathBuf),
    /// Removes a file, or a directory with all that it holds.
    Remove(PathBuf),
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {}", path.display())]
pub struct Error {
    /// What was tried.
    pub verb: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// The part of a node's disk that may be written to.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
    areas: &'static [&'static str],
    installation: String,
}

/// Where `path`, as the node names it, is mounted.
#[must_use]
pub fn on_host(host: &Path, path: &str) -> PathBuf {
    host.join(path.trim_start_matches('/'))
}

impl Disk {
    /// The directory `root` with its `areas`, for the installation of this name.
    #[must_use]
    pub fn new(root: PathBuf, areas: &'static [&'static str], installation: &str) -> Self {
        Self { root, areas, installation: installation.to_owned() }
    }

    /// Where an entry of an area lies.
    #[must_use]
    pub fn path(&self, area: &str, name: &str) -> PathBuf {
        self.root.join(area).join(name)
    }

    /// Who the entry `name` of `area` belongs to. Nothing is read through a symbolic link.
    #[must_use]
    pub fn owner(&self, area: &str, name: &str) -> Owner {
        let path = self.path(area, name);
        let Ok(metadata) = fs::symlink_metadata(&path) else { return Owner::Nobody };
        let marked = if metadata.is_dir() { path.join(MARK_FILE) } else { path };
        if !fs::symlink_metadata(&marked).is_ok_and(|metadata| metadata.is_file()) {
            return Owner::Foreign;
        }
        let text = fs::read(&marked).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let ours = format!("{MARK}installation {}, registry ", self.installation);
        text.lines()
            .next()
            .and_then(|line| line.strip_prefix(&ours))
            .map_or(Owner::Foreign, |registry| Owner::Ours(registry.to_owned()))
    }

    /// All that is ours: area, name and Registry, in order.
    #[must_use]
    pub fn ours(&self) -> Vec<(&'static str, String, String)> {
        let mut found: Vec<_> = self
            .entries()
            .filter_map(|(area, name)| match self.owner(area, &name) {
                Owner::Ours(registry) => Some((area, name, registry)),
                Owner::Nobody | Owner::Foreign => None,
            })
            .filter(|(_, name, _)| !name.starts_with(MARK_FILE))
            .collect();
        found.sort();
        found
    }

    /// Steps that remove what a killed agent left unfinished.
    #[must_use]
    pub fn clear(&self) -> Vec<Operation> {
        let prefix = self.hidden_prefix();
        self.entries()
            .filter(|(_, name)| name.starts_with(&prefix))
            .map(|(area, name)| Operation::Remove(self.path(area, &name)))
            .collect()
    }

    /// Steps that put `piece` in its place, which is nobody's or ours; none if it lies there.
    #[must_use]
    pub fn place(&self, piece: &Piece) -> Vec<Operation> {
        let path = self.path(piece.area, &piece.name);
        let mark = format!("{MARK}installation {}, registry {}\n", self.installation, piece.registry);
        match &piece.content {
            Content::File(text) => {
                let area = self.root.join(piece.area);
                let mut steps = self.replace(&area, &piece.name, &format!("{mark}{text}"));
                if !steps.is_empty() {
                    steps.insert(0, Operation::Directory(area));
                }
                steps
            }
            Content::Directory(files) => {
                let marked: Vec<(&str, &str)> = std::iter::once((MARK_FILE, mark.as_str()))
                    .chain(files.iter().map(|(name, text)| (*name, text.as_str())))
                    .collect();
                if fs::symlink_metadata(&path).is_ok() {
                    self.refill(&path, &marked)
                } else {
                    self.fill(piece, path, &marked)
                }
            }
        }
    }

    /// Steps that remove the entry `name` of `area`, which is ours.
    #[must_use]
    pub fn remove(&self, area: &str, name: &str) -> Vec<Operation> {
        let directory = self.root.join(area);
        let gone = directory.join(self.hidden(name));
        vec![
            Operation::Rename(directory.join(name), gone.clone()),
            Operation::Sync(directory),
            Operation::Remove(gone),
        ]
    }

    /// A directory that is not there yet.
    fn fill(&self, piece: &Piece, path: PathBuf, files: &[(&str, &str)]) -> Vec<Operation> {
        let area = self.root.join(piece.area);
        let draft = area.join(self.hidden(&piece.name));
        let writes = files.iter().map(|(name, text)| Operation::Write(draft.join(name), (*text).to_owned()));
        [Operation::Directory(area.clone()), Operation::Directory(draft.clone())]
            .into_iter()
            .chain(writes)
            .chain([
                Operation::Sync(draft.clone()),
                Operation::Rename(draft.clone(), path),
                Operation::Sync(area),
            ])
            .collect()
    }

    /// A directory of ours: what differs is replaced, then what is not to be there is removed.
    fn refill(&self, path: &Path, files: &[(&str, &str)]) -> Vec<Operation> {
        let mut steps: Vec<Operation> =
            files.iter().flat_map(|(name, text)| self.replace(path, name, text)).collect();
        let obsolete: Vec<Operation> = names(path)
            .into_iter()
            .filter(|name| !files.iter().any(|(wanted, _)| wanted == name))
            .map(|name| Operation::Remove(path.join(name)))
            .collect();
        if !obsolete.is_empty() {
            steps.extend(obsolete);
            steps.push(Operation::Sync(path.to_owned()));
        }
        steps
    }

    fn replace(&self, directory: &Path, name: &str, text: &str) -> Vec<Operation> {
        let path = directory.join(name);
        let is_file = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
        if is_file && fs::read(&path).is_ok_and(|present| present == text.as_bytes()) {
            return Vec::new();
        }
        let draft = directory.join(self.hidden(name));
        vec![
            Operation::Write(draft.clone(), text.to_owned()),
            Operation::Rename(draft, path),
            Operation::Sync(directory.to_owned()),
        ]
    }

    /// The name under which `name` is made and taken away. It is no host's, and its end is none that a runtime reads.
    fn hidden(&self, name: &str) -> String {
        format!("{}{name}~", self.hidden_prefix())
    }

    /// How our hidden names begin, and no other installation's: a namespace has no dot.
    fn hidden_prefix(&self) -> String {
        format!("{MARK_FILE}.{}.", self.installation)
    }

    fn entries(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.areas
            .iter()
            .flat_map(|area| names(&self.root.join(area)).into_iter().map(move |name| (*area, name)))
    }
}

/// Does `steps`, up to the first that fails.
///
/// # Errors
/// Of that one.
pub fn perform(steps: &[Operation]) -> Result<(), Error> {
    steps.iter().try_for_each(Operation::perform)
}

impl Operation {
    fn perform(&self) -> Result<(), Error> {
        let (done, verb, path) = match self {
            Self::Directory(path) => (make(path), "make directory", path),
            Self::Write(path, text) => (write(path, text), "write", path),
            Self::Rename(from, to) => (fs::rename(from, to), "put in place", to),
            Self::Sync(path) => (File::open(path).and_then(|directory| directory.sync_all()), "sync", path),
            Self::Remove(path) => (remove(path), "remove", path),
        };
        done.map_err(|source| Error { verb, path: path.clone(), source })
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.area.is_empty() {
            return formatter.write_str(&self.name);
        }
        write!(formatter, "{}/{}", self.area, self.name)
    }
}

/// A link to a directory is none of ours to write through.
fn make(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        Err(_) => DirBuilder::new().mode(0o755).create(path),
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    remove(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The names in a directory; none if it cannot be read.
fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::{Content, Disk, Operation, Owner, Piece, perform};

    fn directory(name: &str, files: &[(&'static str, &str)]) -> Piece {
        let files = files.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        let registry = "team-a/hub".to_owned();
        Piece { area: "", name: name.to_owned(), registry, content: Content::Directory(files) }
    }

    fn file(name: &str, text: &str) -> Piece {
        let content = Content::File(text.to_owned());
        Piece { area: "conf.d", name: name.to_owned(), registry: "team-a/hub".to_owned(), content }
    }

    fn disk(root: &Path) -> Disk {
        Disk::new(root.to_owned(), &["", "conf.d"], "windlass")
    }

    /// Every file below a directory, with what it holds.
    fn tree(root: &Path) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut pending = vec![root.to_owned()];
        while let Some(path) = pending.pop() {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_symlink() {
                found.insert(name, format!("-> {}", fs::read_link(&path).unwrap().display()));
            } else if path.is_dir() {
                pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
        found
    }

    /// All steps from whatever lies there to exactly `pieces`.
    fn steps(disk: &Disk, pieces: &[Piece]) -> Vec<Operation> {
        let is_wanted = |area: &str, name: &str| {
            pieces.iter().any(|piece| (piece.area, piece.name.as_str()) == (area, name))
        };
        let removed = disk.ours().into_iter().filter(|(area, name, _)| !is_wanted(area, name));
        let removals: Vec<Operation> = removed.flat_map(|(area, name, _)| disk.remove(area, &name)).collect();
        let places = pieces.iter().flat_map(|piece| disk.place(piece));
        disk.clear().into_iter().chain(places).chain(removals).collect()
    }

    /// Forms of the node that follow each other in any order.
    fn states() -> Vec<Vec<Piece>> {
        let old = directory("hub:5000", &[("ca.crt", "old"), ("hosts.toml", "old")]);
        let new = directory("hub:5000", &[("ca.crt", "old new"), ("hosts.toml", "new")]);
        let plain = directory("hub:5000", &[("hosts.toml", "plain")]);
        vec![
            vec![],
            vec![old, file("windlass-hub.conf", "old")],
            vec![
                Piece { registry: "team-b/hub".to_owned(), ..new },
                directory("hub", &[("hosts.toml", "alias")]),
            ],
            vec![plain, file("windlass-hub.conf", "new")],
        ]
    }

    #[test]
    fn a_change_that_is_cut_off_anywhere_is_finished_by_the_next_and_touches_nothing_else() {
        let mut cuts = 0;
        for (before, after) in states().iter().flat_map(|a| states().into_iter().map(move |b| (a.clone(), b)))
        {
            for cut in 0.. {
                let root = tempfile::tempdir().unwrap();
                let disk = disk(root.path());
                let foreign = root.path().join("docker.io");
                fs::create_dir(&foreign).unwrap();
                fs::write(foreign.join("hosts.toml"), "theirs").unwrap();
                perform(&steps(&disk, &before)).unwrap();
                let wanted = steps(&disk, &after);
                if cut > wanted.len() {
                    break;
                }
                perform(&wanted[..cut]).unwrap();
                // The step that was cut off may have left half a file.
                if let Some(Operation::Write(path, text)) = wanted.get(cut) {
                    fs::write(path, &text[..text.len() / 2]).unwrap();
                }
                let halfway = tree(root.path());
                assert_eq!(halfway["docker.io/hosts.toml"], "theirs");
                for (name, text) in halfway.iter().filter(|(name, _)| !name.contains(".windlass")) {
                    let whole = ["old", "new", "plain", "alias", "theirs"];
                    let is_whole = whole.iter().any(|whole| text.ends_with(whole));
                    assert!(is_whole, "{name} holds {text:?} after {cut} steps of {wanted:?}");
                }
                perform(&steps(&disk, &after)).unwrap();
                let fresh = tempfile::tempdir().unwrap();
                perform(&steps(&self::disk(fresh.path()), &after)).unwrap();
                let mut expected = tree(fresh.path());
                expected.insert("docker.io/hosts.toml".to_owned(), "theirs".to_owned());
                assert_eq!(tree(root.path()), expected, "after {cut} steps of {wanted:?}");
                assert_eq!(steps(&disk, &after), [], "a second time there is nothing to do");
                cuts += 1;
            }
        }
        assert!(cuts > 60, "{cuts}");
    }

    #[test]
    fn a_runtime_finds_the_authorities_of_what_it_reads_at_every_moment() {
        let old = directory("hub:5000", &[("ca.crt", "old"), ("hosts.toml", "old")]);
        let new = directory("hub:5000", &[("ca.crt", "old new"), ("hosts.toml", "new")]);
        let plain = directory("hub:5000", &[("hosts.toml", "plain")]);
        for (before, after) in [(None, &old), (Some(&old), &new), (Some(&new), &plain), (Some(&plain), &old)]
        {
            let root = tempfile::tempdir().unwrap();
            let disk = disk(root.path());
            if let Some(before) = before {
                perform(&disk.place(before)).unwrap();
            }
            for step in disk.place(after) {
                perform(&[step]).unwrap();
                let read = |name: &str| fs::read_to_string(root.path().join("hub:5000").join(name)).ok();
                let is_usable = match read("hosts.toml").as_deref() {
                    Some("old") => read("ca.crt").is_some_and(|bundle| bundle.contains("old")),
                    Some("new") => read("ca.crt").is_some_and(|bundle| bundle.contains("new")),
                    Some("plain") => true,
                    _ => !root.path().join("hub:5000").exists(),
                };
                assert!(is_usable, "{:?}", tree(root.path()));
            }
        }
    }

    #[test]
    fn only_what_carries_the_mark_of_this_installation_is_ours() {
        let root = tempfile::tempdir().unwrap();
        let disk = disk(root.path());
        let other = Disk::new(root.path().to_owned(), &[""], "windlass-b");
        perform(&disk.place(&directory("ours", &[("hosts.toml", "x")]))).unwrap();
        perform(&other.place(&directory("others", &[("hosts.toml", "x")]))).unwrap();
        fs::create_dir(root.path().join("bare")).unwrap();
        fs::create_dir(root.path().join("linked")).unwrap();
        symlink(root.path().join("ours/.windlass"), root.path().join("linked/.windlass")).unwrap();
        symlink(root.path().join("ours"), root.path().join("link")).unwrap();
        symlink("/nowhere", root.path().join("dangling")).unwrap();
        fs::write(root.path().join("file"), "x").unwrap();
        fs::create_dir(root.path().join(".windlass.windlass-b.x~")).unwrap();
        for (name, expected) in [
            ("ours", Owner::Ours("team-a/hub".to_owned())),
            ("others", Owner::Foreign),
            ("bare", Owner::Foreign),
            ("linked", Owner::Foreign),
            ("link", Owner::Foreign),
            ("dangling", Owner::Foreign),
            ("file", Owner::Foreign),
            ("none", Owner::Nobody),
        ] {
            assert_eq!(disk.owner("", name), expected, "{name}");
        }
        assert_eq!(disk.ours(), [("", "ours".to_owned(), "team-a/hub".to_owned())]);
        assert_eq!(disk.clear(), []);
    }

    #[test]
    fn nothing_is_written_or_removed_through_a_link() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("keep"), "x").unwrap();
        let disk = disk(root.path());
        let piece = directory("hub:5000", &[("hosts.toml", "x")]);
        perform(&disk.place(&piece)).unwrap();
        symlink(outside.path(), root.path().join("hub:5000/further")).unwrap();
        fs::remove_file(root.path().join("hub:5000/hosts.toml")).unwrap();
        symlink(outside.path().join("keep"), root.path().join("hub:5000/hosts.toml")).unwrap();
        perform(&disk.place(&piece)).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("hub:5000/hosts.toml")).unwrap(), "x");
        perform(&disk.remove("", "hub:5000")).unwrap();
        symlink(outside.path(), root.path().join("conf.d")).unwrap();
        let error = perform(&disk.place(&file("windlass-hub.conf", "x"))).unwrap_err();
        assert_eq!((error.verb, error.path), ("make directory", root.path().join("conf.d")));
        assert_eq!(tree(outside.path()), BTreeMap::from([("keep".to_owned(), "x".to_owned())]));
    }
}
