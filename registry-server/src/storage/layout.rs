//! Every path of the storage tree, in one enum. No other file spells a path.
//!
//! The tree is CNCF distribution's (`registry/storage/paths.go` there), under `docker/registry/v2/`:
//!
//! | key | path |
//! | --- | --- |
//! | `BlobData(d)` | `blobs/<alg>/<first two hex>/<hex>/data` |
//! | `Repositories` | `repositories` |
//! | `Repository(n)` | `repositories/<name>` |
//! | `Manifests(n)` | `repositories/<name>/_manifests` |
//! | `LayerLink(n, d)` | `repositories/<name>/_layers/<alg>/<hex>/link` |
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
//! outside of that tree, under [`SIDE_DIRECTORY`], and can be deleted whenever no server runs.

use std::fmt;

use crate::types::{Digest, RepositoryName, Tag, UploadId};

/// Where our own files lie, beside `docker/`.
pub(super) const SIDE_DIRECTORY: &str = "windlass";

/// The directory that makes a directory below `repositories` a repository.
pub const MANIFESTS_ENTRY: &str = "_manifests";

const ROOT: &str = "docker/registry/v2";

/// The name of one thing in the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// A blob's bytes; manifests are blobs too.
    BlobData(&'a Digest),
    /// Directory of all repositories.
    Repositories,
    /// Directory of a repository, and of those whose names go on from its name.
    Repository(&'a RepositoryName),
    /// Directory of a repository's manifests: a repository without it is not listed.
    Manifests(&'a RepositoryName),
    /// Says that a blob belongs to a repository; its content names the blob.
    LayerLink(&'a RepositoryName, &'a Digest),
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
}

impl fmt::Display for Key<'_> {
    /// The path, relative to the storage's root.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlobData(digest) => {
                let hex = digest.hex();
                write!(f, "{ROOT}/blobs/{}/{}/{hex}/data", digest.algorithm(), &hex[..2])
            }
            Self::Repositories => write!(f, "{ROOT}/repositories"),
            Self::Repository(name) => write!(f, "{ROOT}/repositories/{name}"),
            Self::Manifests(name) => write!(f, "{}/{MANIFESTS_ENTRY}", Key::Repository(name)),
            Self::LayerLink(name, digest) => {
                write!(f, "{}/_layers/{}/link", Key::Repository(name), part(digest))
            }
            Self::RevisionLink(name, digest) => {
                write!(f, "{}/revisions/{}/link", Key::Manifests(name), part(digest))
            }
            Self::Tags(name) => write!(f, "{}/tags", Key::Manifests(name)),
            Self::Tag(name, tag) => write!(f, "{}/{tag}", Key::Tags(name)),
            Self::TagCurrent(name, tag) => write!(f, "{}/current/link", Key::Tag(name, tag)),
            Self::TagIndex(name, tag) => write!(f, "{}/index", Key::Tag(name, tag)),
            Self::TagIndexLink(name, tag, digest) => {
                write!(f, "{}/{}/link", Key::TagIndex(name, tag), part(digest))
            }
            Self::Upload(name, id) => write!(f, "{}/_uploads/{id}", Key::Repository(name)),
            Self::UploadData(name, id) => write!(f, "{}/data", Key::Upload(name, *id)),
            Self::UploadStartedAt(name, id) => write!(f, "{}/startedat", Key::Upload(name, *id)),
            Self::UploadHashStates(name, id) => write!(f, "{}/hashstates/sha256", Key::Upload(name, *id)),
            Self::UploadHashState(name, id, offset) => {
                write!(f, "{}/{offset}", Key::UploadHashStates(name, *id))
            }
        }
    }
}

/// A digest as two path parts.
fn part(digest: &Digest) -> String {
    format!("{}/{}", digest.algorithm(), digest.hex())
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
}
