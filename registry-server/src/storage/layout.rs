//! Every path of the storage tree, in one file. No other file spells a path.
//!
//! The tree is CNCF distribution's (`registry/storage/paths.go` there), under `docker/registry/v2/`:
//!
//! | key | path |
//! | --- | --- |
//! | `BlobShard(byte)` | `blobs/sha256/<two hex>` |
//! | `Blob(d)` | `blobs/<alg>/<first two hex>/<hex>` |
//! | `BlobData(d)` | `blobs/<alg>/<first two hex>/<hex>/data` |
//! | `Repositories` | `repositories` |
//! | `Repository(n)` | `repositories/<name>` |
//! | `Layers(n, alg)` | `repositories/<name>/_layers/<alg>` |
//! | `LayerLink(n, d)` | `repositories/<name>/_layers/<alg>/<hex>/link` |
//! | `Manifests(n)` | `repositories/<name>/_manifests` |
//! | `Revisions(n, alg)` | `repositories/<name>/_manifests/revisions/<alg>` |
//! | `RevisionLink(n, d)` | `repositories/<name>/_manifests/revisions/<alg>/<hex>/link` |
//! | `Tags(n)` | `repositories/<name>/_manifests/tags` |
//! | `Tag(n, t)` | `repositories/<name>/_manifests/tags/<tag>` |
//! | `TagCurrent(n, t)` | `repositories/<name>/_manifests/tags/<tag>/current/link` |
//! | `TagIndex(n, t)` | `repositories/<name>/_manifests/tags/<tag>/index` |
//! | `TagIndexLink(n, t, d)` | `repositories/<name>/_manifests/tags/<tag>/index/<alg>/<hex>/link` |
//! | `Upload(n, id)` | `repositories/<name>/_uploads/<id>` |
//! | `UploadData(n, id)` | `repositories/<name>/_uploads/<id>/data` |
//! | `UploadStartedAt(n, id)` | `repositories/<name>/_uploads/<id>/startedat` |
//! | `UploadHashStates(n, id)` | `repositories/<name>/_uploads/<id>/hashstates/sha256` |
//! | `UploadHashState(n, id, offset)` | `repositories/<name>/_uploads/<id>/hashstates/sha256/<offset>` |
//!
//! A link holds `<alg>:<hex>` with no newline, `startedat` a UTC time in RFC 3339. What is only ours lies
//! outside of that tree, under [`SIDE_DIRECTORY`], and can be deleted whenever no server runs (the quarantine then
//! with all that it could bring back):
//!
//! | key | path |
//! | --- | --- |
//! | `Quarantine` | `quarantine` |
//! | `QuarantineRun(r)` | `quarantine/<run>` |
//! | `Quarantined(r, BlobData(d))` | `quarantine/<run>/blobs/<alg>/<hex>` |
//! | `Quarantined(r, key)` | `quarantine/<run>/<path of the key in the tree>` |
//! | `Lease` | `lease` |
//! | `PulledTags(n)` | `pulled/<name>/_tags` |
//! | `PulledManifests(n)` | `pulled/<name>/_digests` |
//! | `Pulled(n, tag or d)` | `pulled/<name>/_tags/<tag>`, `pulled/<name>/_digests/<alg>/<hex>` |
//! | `Referrers(n)` | `referrers/<name>/_subjects` |
//! | `ReferrersOf(n, d)` | `referrers/<name>/_subjects/<alg>/<hex>` |
//! | `Referrer(n, d, e)` | `referrers/<name>/_subjects/<alg>/<hex>/<alg of e>/<hex of e>` |
//! | `ReferrersKnown(n)` | `referrers/<name>/_known` |
//! | `Scratches` | `scratch` |
//! | `ScratchRun(r)` | `scratch/<run>` |
//! | `Scratch(r, n)` | `scratch/<run>/<n>` |

use std::borrow::Cow;
use std::fmt;

use crate::types::{Algorithm, Digest, Reference, RepositoryName, RunId, Tag, UploadId};

/// Where our own files lie, beside `docker/`.
pub(super) const SIDE_DIRECTORY: &str = "windlass";

/// The directory that makes a directory below `repositories` a repository.
pub const MANIFESTS_ENTRY: &str = "_manifests";

/// The directories of a repository's own: where none of them is, there is no repository.
pub const REPOSITORY_ENTRIES: [&str; 3] = ["_layers", MANIFESTS_ENTRY, "_uploads"];

/// What an upload session has received, within the session's directory.
pub const UPLOAD_DATA_ENTRY: &str = "data";

const ROOT: &str = "docker/registry/v2";

/// The name of one thing in the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// Directory of the blobs whose SHA-256 begins with the byte.
    BlobShard(u8),
    /// Directory of a blob.
    Blob(&'a Digest),
    /// A blob's bytes; manifests are blobs too.
    BlobData(&'a Digest),
    /// Directory of all repositories.
    Repositories,
    /// Directory of a repository, and of those whose names go on from its name.
    Repository(&'a RepositoryName),
    /// Directory of a repository's links to blobs.
    Layers(&'a RepositoryName, Algorithm),
    /// Says that a blob belongs to a repository; its content names the blob.
    LayerLink(&'a RepositoryName, &'a Digest),
    /// Directory of a repository's manifests: a repository without it is not listed.
    Manifests(&'a RepositoryName),
    /// Directory of a repository's links to manifests.
    Revisions(&'a RepositoryName, Algorithm),
    /// Says that a manifest belongs to a repository; its content names the blob.
    RevisionLink(&'a RepositoryName, &'a Digest),
    /// Directory of a repository's tags.
    Tags(&'a RepositoryName),
    /// Directory of a tag.
    Tag(&'a RepositoryName, &'a Tag),
    /// The manifest that a tag names now.
    TagCurrent(&'a RepositoryName, &'a Tag),
    /// Directory of a tag's history.
    TagIndex(&'a RepositoryName, &'a Tag),
    /// History: a manifest that a tag names or has named.
    TagIndexLink(&'a RepositoryName, &'a Tag, &'a Digest),
    /// Directory of a repository's upload sessions.
    Uploads(&'a RepositoryName),
    /// Directory of an upload session.
    Upload(&'a RepositoryName, UploadId),
    /// What an upload session has received.
    UploadData(&'a RepositoryName, UploadId),
    /// When an upload session began.
    UploadStartedAt(&'a RepositoryName, UploadId),
    /// Directory of an upload session's saved SHA-256 states.
    UploadHashStates(&'a RepositoryName, UploadId),
    /// The SHA-256 state after so many bytes.
    UploadHashState(&'a RepositoryName, UploadId, u64),
    /// Directory of what garbage collections have condemned.
    Quarantine,
    /// Directory of what one run has condemned.
    QuarantineRun(&'a RunId),
    /// Directory of the blobs that one run has condemned.
    QuarantinedBlobs(&'a RunId, Algorithm),
    /// Where a run has moved what has the other key.
    Quarantined(&'a RunId, &'a Key<'a>),
    /// Says which garbage collection is running.
    Lease,
    /// Directory of the times at which tags were pulled.
    PulledTags(&'a RepositoryName),
    /// Directory of the times at which manifests were pulled by digest.
    PulledManifests(&'a RepositoryName),
    /// Empty; its time is that of the last pull.
    Pulled(&'a RepositoryName, &'a Reference),
    /// Directory of what says which of a repository's manifests are about which others.
    Referrers(&'a RepositoryName),
    /// Directory of what says which of a repository's manifests are about one manifest.
    ReferrersOf(&'a RepositoryName, &'a Digest),
    /// Empty; says that the second manifest is about the first.
    Referrer(&'a RepositoryName, &'a Digest, &'a Digest),
    /// The digests of those of a repository's manifests of which it is known what they are about.
    ReferrersKnown(&'a RepositoryName),
    /// Directory of what runs keep on disk rather than in memory.
    Scratches,
    /// Directory of what one run keeps on disk rather than in memory.
    ScratchRun(&'a RunId),
    /// A piece of what a run keeps on disk.
    Scratch(&'a RunId, u32),
}

/// What is looked at in each entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf<'a> {
    /// `link` of a layer or revision.
    Link,
    /// `current/link` of a tag.
    CurrentLink,
    /// Directory of the manifests that a tag names or has named.
    History,
    /// `index/<alg>/<hex>/link` of a tag: that it names the manifest or has named it.
    HistoryLink(&'a Digest),
}

impl Leaf<'_> {
    /// The path below the entry.
    pub(super) fn path(self) -> Cow<'static, str> {
        match self {
            Self::Link => "link".into(),
            Self::CurrentLink => "current/link".into(),
            Self::History => "index/sha256".into(),
            Self::HistoryLink(digest) => format!("index/{}/link", Parts(digest)).into(),
        }
    }
}

/// What one path in a run's quarantine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condemned {
    /// A blob's bytes.
    Blob(Digest),
    /// A repository's link to a blob.
    Layer(RepositoryName, Digest),
    /// A repository's link to a manifest.
    Revision(RepositoryName, Digest),
    /// A tag, and the manifest that it named when it was condemned.
    Tag(RepositoryName, Tag, Digest),
}

impl Condemned {
    /// Reads a path below a run's quarantine; `None` for what no run puts there.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let digest = |algorithm: &str, hex: &str| format!("{algorithm}:{hex}").parse().ok();
        let parts: Vec<&str> = path.split('/').collect();
        let [first, below @ ..] = &parts[..] else { return None };
        match (*first, below) {
            ("blobs", [algorithm, hex]) => Some(Self::Blob(digest(algorithm, hex)?)),
            ("repositories", [name @ .., "_layers", algorithm, hex, "link"]) => {
                Some(Self::Layer(name.join("/").parse().ok()?, digest(algorithm, hex)?))
            }
            ("repositories", [name @ .., MANIFESTS_ENTRY, "revisions", algorithm, hex, "link"]) => {
                Some(Self::Revision(name.join("/").parse().ok()?, digest(algorithm, hex)?))
            }
            ("repositories", [name @ .., MANIFESTS_ENTRY, "tags", tag, "index", algorithm, hex, "link"]) => {
                Some(Self::Tag(name.join("/").parse().ok()?, tag.parse().ok()?, digest(algorithm, hex)?))
            }
            _ => None,
        }
    }

    /// The key at whose place it was. For a tag, that of its history.
    #[must_use]
    pub fn key(&self) -> Key<'_> {
        match self {
            Self::Blob(digest) => Key::BlobData(digest),
            Self::Layer(name, digest) => Key::LayerLink(name, digest),
            Self::Revision(name, digest) => Key::RevisionLink(name, digest),
            Self::Tag(name, tag, digest) => Key::TagIndexLink(name, tag, digest),
        }
    }
}

impl fmt::Display for Key<'_> {
    /// The path, relative to the storage's root.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quarantine => write!(f, "{SIDE_DIRECTORY}/quarantine"),
            Self::QuarantineRun(run) => write!(f, "{}/{run}", Key::Quarantine),
            Self::QuarantinedBlobs(run, algorithm) => {
                write!(f, "{}/blobs/{}", Key::QuarantineRun(run), algorithm.name())
            }
            // Flat, so that condemning and deleting a blob needs no directory of its own.
            Self::Quarantined(run, Self::BlobData(digest)) => {
                write!(f, "{}/{}", Key::QuarantinedBlobs(run, digest.algorithm()), digest.hex())
            }
            Self::Quarantined(run, key) => {
                write!(f, "{}/", Key::QuarantineRun(run))?;
                key.write_in_tree(f)
            }
            Self::Lease => write!(f, "{SIDE_DIRECTORY}/lease"),
            Self::PulledTags(name) => write!(f, "{SIDE_DIRECTORY}/pulled/{name}/_tags"),
            Self::PulledManifests(name) => write!(f, "{SIDE_DIRECTORY}/pulled/{name}/_digests"),
            Self::Pulled(name, Reference::Tag(tag)) => write!(f, "{}/{tag}", Key::PulledTags(name)),
            Self::Pulled(name, Reference::Digest(digest)) => {
                write!(f, "{}/{}", Key::PulledManifests(name), Parts(digest))
            }
            Self::Referrers(name) => write!(f, "{SIDE_DIRECTORY}/referrers/{name}/_subjects"),
            Self::ReferrersOf(name, subject) => write!(f, "{}/{}", Key::Referrers(name), Parts(subject)),
            Self::Referrer(name, subject, digest) => {
                write!(f, "{}/{}", Key::ReferrersOf(name, subject), Parts(digest))
            }
            Self::ReferrersKnown(name) => write!(f, "{SIDE_DIRECTORY}/referrers/{name}/_known"),
            Self::Scratches => write!(f, "{SIDE_DIRECTORY}/scratch"),
            Self::ScratchRun(run) => write!(f, "{}/{run}", Key::Scratches),
            Self::Scratch(run, piece) => write!(f, "{}/{piece}", Key::ScratchRun(run)),
            key => {
                write!(f, "{ROOT}/")?;
                key.write_in_tree(f)
            }
        }
    }
}

impl Key<'_> {
    /// The path below the root of distribution's tree.
    fn write_in_tree(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlobShard(byte) => write!(f, "blobs/{}/{byte:02x}", Algorithm::Sha256.name()),
            Self::Blob(digest) => {
                let hex = digest.hex();
                write!(f, "blobs/{}/{}/{hex}", digest.algorithm(), &hex[..2])
            }
            Self::BlobData(digest) => {
                let hex = digest.hex();
                write!(f, "blobs/{}/{}/{hex}/data", digest.algorithm(), &hex[..2])
            }
            Self::Repositories => f.write_str("repositories"),
            Self::Repository(name) => write!(f, "repositories/{name}"),
            Self::Layers(name, algorithm) => write!(f, "repositories/{name}/_layers/{}", algorithm.name()),
            Self::LayerLink(name, digest) => write!(f, "repositories/{name}/_layers/{}/link", Parts(digest)),
            Self::Manifests(name) => write!(f, "repositories/{name}/{MANIFESTS_ENTRY}"),
            Self::Revisions(name, algorithm) => {
                write!(f, "repositories/{name}/{MANIFESTS_ENTRY}/revisions/{}", algorithm.name())
            }
            Self::RevisionLink(name, digest) => {
                write!(f, "repositories/{name}/{MANIFESTS_ENTRY}/revisions/{}/link", Parts(digest))
            }
            Self::Tags(name) => write!(f, "repositories/{name}/{MANIFESTS_ENTRY}/tags"),
            Self::Tag(name, tag) => write!(f, "repositories/{name}/{MANIFESTS_ENTRY}/tags/{tag}"),
            Self::TagCurrent(name, tag) => {
                write!(f, "repositories/{name}/{MANIFESTS_ENTRY}/tags/{tag}/current/link")
            }
            Self::TagIndex(name, tag) => write!(f, "repositories/{name}/{MANIFESTS_ENTRY}/tags/{tag}/index"),
            Self::TagIndexLink(name, tag, digest) => {
                write!(f, "repositories/{name}/{MANIFESTS_ENTRY}/tags/{tag}/index/{}/link", Parts(digest))
            }
            Self::Uploads(name) => write!(f, "repositories/{name}/_uploads"),
            Self::Upload(name, id) => write!(f, "repositories/{name}/_uploads/{id}"),
            Self::UploadData(name, id) => write!(f, "repositories/{name}/_uploads/{id}/{UPLOAD_DATA_ENTRY}"),
            Self::UploadStartedAt(name, id) => write!(f, "repositories/{name}/_uploads/{id}/startedat"),
            Self::UploadHashStates(name, id) => {
                write!(f, "repositories/{name}/_uploads/{id}/hashstates/sha256")
            }
            Self::UploadHashState(name, id, offset) => {
                write!(f, "repositories/{name}/_uploads/{id}/hashstates/sha256/{offset}")
            }
            side => fmt::Display::fmt(side, f),
        }
    }
}

/// A digest as two path parts.
struct Parts<'a>(&'a Digest);

impl fmt::Display for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.algorithm(), self.0.hex())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn paths_are_those_of_cncf_distribution() {
        let hex = format!("ab{}", "0".repeat(62));
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        let name: RepositoryName = "team/app".parse().unwrap();
        let tag: Tag = "v1".parse().unwrap();
        let id: UploadId = "67e55044-10b1-426f-9247-bb680e5fe0c8".parse().unwrap();
        let repository = "repositories/team/app";
        let rows = [
            (Key::BlobData(&digest), format!("blobs/sha256/ab/{hex}/data")),
            (Key::Repositories, "repositories".into()),
            (Key::Repository(&name), repository.into()),
            (Key::Manifests(&name), format!("{repository}/_manifests")),
            (Key::LayerLink(&name, &digest), format!("{repository}/_layers/sha256/{hex}/link")),
            (
                Key::RevisionLink(&name, &digest),
                format!("{repository}/_manifests/revisions/sha256/{hex}/link"),
            ),
            (Key::Tags(&name), format!("{repository}/_manifests/tags")),
            (Key::Tag(&name, &tag), format!("{repository}/_manifests/tags/v1")),
            (Key::TagCurrent(&name, &tag), format!("{repository}/_manifests/tags/v1/current/link")),
            (Key::TagIndex(&name, &tag), format!("{repository}/_manifests/tags/v1/index")),
            (
                Key::TagIndexLink(&name, &tag, &digest),
                format!("{repository}/_manifests/tags/v1/index/sha256/{hex}/link"),
            ),
            (Key::Upload(&name, id), format!("{repository}/_uploads/{id}")),
            (Key::UploadData(&name, id), format!("{repository}/_uploads/{id}/data")),
            (Key::UploadStartedAt(&name, id), format!("{repository}/_uploads/{id}/startedat")),
            (Key::UploadHashStates(&name, id), format!("{repository}/_uploads/{id}/hashstates/sha256")),
            (Key::UploadHashState(&name, id, 42), format!("{repository}/_uploads/{id}/hashstates/sha256/42")),
        ];
        let distinct: HashSet<String> = rows.iter().map(|(key, _)| key.to_string()).collect();
        assert_eq!(distinct.len(), rows.len(), "no two keys share a path");
        for (key, path) in rows {
            assert_eq!(key.to_string(), format!("docker/registry/v2/{path}"));
        }
    }

    #[test]
    fn times_of_pulls_lie_beside_the_tree() {
        let hex = "ab".repeat(32);
        let [tag, digest] = ["v1".to_owned(), format!("sha256:{hex}")].map(|text| text.parse().unwrap());
        let name: RepositoryName = "team/app".parse().unwrap();
        let rows = [
            (Key::PulledTags(&name), "_tags".to_owned()),
            (Key::PulledManifests(&name), "_digests".to_owned()),
            (Key::Pulled(&name, &tag), "_tags/v1".to_owned()),
            (Key::Pulled(&name, &digest), format!("_digests/sha256/{hex}")),
        ];
        for (key, path) in rows {
            assert_eq!(key.to_string(), format!("{SIDE_DIRECTORY}/pulled/team/app/{path}"));
        }
    }

    #[test]
    fn what_manifests_are_about_lies_beside_the_tree() {
        let [one, two] = ["ab", "cd"].map(|byte| byte.repeat(32));
        let [subject, referrer] = [&one, &two].map(|hex| format!("sha256:{hex}").parse().unwrap());
        let name: RepositoryName = "team/app".parse().unwrap();
        let rows = [
            (Key::Referrers(&name), "_subjects".to_owned()),
            (Key::ReferrersOf(&name, &subject), format!("_subjects/sha256/{one}")),
            (Key::Referrer(&name, &subject, &referrer), format!("_subjects/sha256/{one}/sha256/{two}")),
            (Key::ReferrersKnown(&name), "_known".to_owned()),
        ];
        for (key, path) in rows {
            assert_eq!(key.to_string(), format!("{SIDE_DIRECTORY}/referrers/team/app/{path}"));
        }
    }
}
