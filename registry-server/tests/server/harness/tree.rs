//! A reader of CNCF distribution's storage tree that shares no code with the server: what files there are, and
//! whether distribution would find the tree in order.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::content::{sha256, sha512};

/// The tree under `docker/registry/v2` of a root directory: each file's path and bytes.
pub(crate) struct Tree {
    files: BTreeMap<String, Vec<u8>>,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> Self {
        let base = root.join("docker/registry/v2");
        let mut files = BTreeMap::new();
        for path in files_under(&base) {
            let name =
                path.strip_prefix(&base).expect("a path below the base").to_string_lossy().into_owned();
            // A file may be renamed between the listing and the read while a server runs.
            if let Ok(bytes) = fs::read(&path) {
                files.insert(name, bytes);
            }
        }
        Self { files }
    }

    /// Paths and contents, without those of unfinished uploads.
    pub(crate) fn finished(&self) -> BTreeMap<&str, &[u8]> {
        let all = self.files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        all.filter(|(path, _)| !path.contains("/_uploads/")).collect()
    }

    /// A sentence for each thing that distribution would stumble over: a blob whose bytes are not those of its
    /// digest, a link that holds anything but a digest, a link to a blob that is not there, a tag whose manifest
    /// is no revision of its repository, a file that distribution does not know. It keeps blobs by SHA-256 alone: a
    /// link of another algorithm leads there.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.finished().iter().filter_map(|(path, bytes)| self.fault(path, bytes)).collect()
    }

    fn fault(&self, path: &str, bytes: &[u8]) -> Option<String> {
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["blobs", algorithm, shard, hex, "data"] => {
                let whole = sha256(bytes) == format!("{algorithm}:{hex}") && hex.starts_with(shard);
                (!whole).then(|| format!("{path}: the {} bytes are not those of the digest", bytes.len()))
            }
            ["repositories", .., "_layers", "sha512", hex, "link"]
            | ["repositories", .., "_manifests", "revisions", "sha512", hex, "link"] => {
                let target = String::from_utf8_lossy(bytes);
                let blob =
                    target.starts_with("sha256:").then(|| self.files.get(&blob_path(&target))).flatten();
                let is_its = blob.is_some_and(|blob| sha512(blob) == format!("sha512:{hex}"));
                (!is_its).then(|| format!("{path}: {target} is no such blob"))
            }
            ["repositories", .., "_manifests", "tags", _, "index", "sha512", hex, "link"] => {
                let holds = String::from_utf8_lossy(bytes);
                (holds != format!("sha512:{hex}")).then(|| format!("{path}: holds {holds:?}"))
            }
            ["repositories", .., "_layers", algorithm, hex, "link"]
            | ["repositories", .., "_manifests", "revisions", algorithm, hex, "link"]
            | ["repositories", .., "_manifests", "tags", _, "index", algorithm, hex, "link"] => {
                let digest = format!("{algorithm}:{hex}");
                if bytes != digest.as_bytes() {
                    return Some(format!("{path}: holds {:?}", String::from_utf8_lossy(bytes)));
                }
                (!self.files.contains_key(&blob_path(&digest))).then(|| format!("{path}: no such blob"))
            }
            ["repositories", .., "_manifests", "tags", tag, "current", "link"] => {
                self.fault_of_tag(path, tag, &String::from_utf8_lossy(bytes))
            }
            _ => Some(format!("{path}: unknown to distribution")),
        }
    }

    fn fault_of_tag(&self, path: &str, tag: &str, digest: &str) -> Option<String> {
        let Some((algorithm, hex)) = digest.split_once(':') else {
            return Some(format!("{path}: holds {digest:?}"));
        };
        let manifests = path.strip_suffix(&format!("tags/{tag}/current/link")).unwrap_or_default();
        let revision = format!("{manifests}revisions/{algorithm}/{hex}/link");
        (!self.files.contains_key(&revision)).then(|| format!("{path}: {digest} is no revision"))
    }
}

/// Where the tree keeps the bytes of a digest.
pub(crate) fn blob_path(digest: &str) -> String {
    let (algorithm, hex) = digest.split_once(':').expect("a digest");
    format!("blobs/{algorithm}/{}/{hex}/data", &hex[..2])
}

/// All files below the directory; none when it is not there.
pub(crate) fn files_under(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let paths = entries.map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files_under(&path) } else { vec![path] }).collect()
}
