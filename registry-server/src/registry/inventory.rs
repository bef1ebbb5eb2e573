//! What a repository consists of, for the jobs that go over all of it.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::catalog::child_name;
use super::{Registry, Result, optional};
use crate::storage::{self, Durability, Key, Leaf, REPOSITORY_ENTRIES, Stat};
use crate::types::{Algorithm, Digest, RepositoryName, Tag};

/// A tag's link.
#[derive(Debug)]
pub struct TagLink {
    /// The tag.
    pub tag: Tag,
    /// What it names.
    pub target: Target,
}

/// What a tag names.
#[derive(Debug)]
pub enum Target {
    /// A manifest.
    Manifest(Digest),
    /// Nothing: only its history is there.
    Nothing,
    /// The link cannot be read.
    Unreadable,
}

impl TagLink {
    /// The manifest that it names.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        match &self.target {
            Target::Manifest(digest) => Some(digest),
            Target::Nothing | Target::Unreadable => None,
        }
    }
}

/// A repository's link to a manifest.
#[derive(Debug)]
pub struct Revision {
    /// The manifest.
    pub digest: Digest,
    /// When it was last pushed; `None` when the link cannot be looked at.
    pub pushed: Option<SystemTime>,
}

impl Registry {
    /// All repositories in byte order, also those that have no manifest yet or any more.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn repositories(&self) -> Result<Vec<RepositoryName>> {
        let mut repositories = BTreeSet::new();
        let mut pending = vec![None];
        while let Some(parent) = pending.pop() {
            let key = parent.as_ref().map_or(Key::Repositories, Key::Repository);
            let children = optional(self.storage.list(key).await)?.unwrap_or_default();
            pending.extend(children.iter().filter_map(|child| child_name(parent.as_ref(), child)).map(Some));
            let is_repository =
                children.iter().any(|child| REPOSITORY_ENTRIES.contains(&child.name.as_str()));
            repositories.extend(parent.filter(|_| is_repository));
        }
        Ok(repositories.into_iter().collect())
    }

    /// A repository's tags and what is left of tags, in byte order.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn tag_links(&self, name: &RepositoryName) -> Result<Vec<TagLink>> {
        let found = optional(self.storage.read_each(Key::Tags(name), Leaf::CurrentLink).await)?;
        let mut links = Vec::new();
        for (tag, content) in found.unwrap_or_default() {
            let Ok(tag) = tag.parse() else { continue };
            let target = match content {
                Ok(content) => parse_link(&content).map_or(Target::Unreadable, Target::Manifest),
                Err(storage::Error::NotFound { .. }) => Target::Nothing,
                Err(_) => Target::Unreadable,
            };
            links.push(TagLink { tag, target });
        }
        links.sort_unstable_by(|one, other| one.tag.cmp(&other.tag));
        Ok(links)
    }

    /// When a tag was pushed last, if there is such a tag.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn tag_pushed(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<SystemTime>> {
        let stat = optional(self.storage.stat(Key::TagCurrent(name, tag)).await)?;
        Ok(stat.map(|stat| stat.modified))
    }

    /// A repository's links to manifests, each once.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn revisions(&self, name: &RepositoryName) -> Result<Vec<Revision>> {
        let mut revisions = Vec::new();
        for algorithm in Algorithm::ALL {
            let found = optional(self.storage.scan(Key::Revisions(name, algorithm), Leaf::Link).await)?;
            for found in found.unwrap_or_default() {
                let Some(digest) = parse_digest(algorithm, &found.name) else { continue };
                revisions.push(Revision { digest, pushed: found.stat.ok().map(|stat| stat.modified) });
            }
        }
        // A name may be listed twice when it goes and comes back meanwhile.
        revisions.sort_unstable_by(|one, other| one.digest.cmp(&other.digest));
        revisions.dedup_by(|one, other| one.digest == other.digest);
        Ok(revisions)
    }

    /// The digests by which a repository has, or has had, blobs, each once. Whether the link is still there is for
    /// [`Registry::layer_pushed`] to say, for there are many.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn layers(&self, name: &RepositoryName) -> Result<BTreeSet<Digest>> {
        let mut layers = BTreeSet::new();
        for algorithm in Algorithm::ALL {
            let entries = optional(self.storage.list(Key::Layers(name, algorithm)).await)?;
            let digests =
                entries.into_iter().flatten().filter_map(|entry| parse_digest(algorithm, &entry.name));
            layers.extend(digests);
        }
        Ok(layers)
    }

    /// When a repository's blob was last pushed or mounted, if it has the blob.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn layer_pushed(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<SystemTime>> {
        let stat = optional(self.storage.stat(Key::LayerLink(name, digest)).await)?;
        Ok(stat.map(|stat| stat.modified))
    }

    /// The SHA-256 hashes of the blobs that begin with `byte`, each once and in byte order. Whether the bytes are there is
    /// for [`Registry::stored_blob`] to say, for there are many.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn blob_shard(&self, byte: u8) -> Result<Vec<[u8; 32]>> {
        let entries = optional(self.storage.list(Key::BlobShard(byte)).await)?.unwrap_or_default();
        let digests = entries.iter().filter_map(|entry| parse_digest(Algorithm::Sha256, &entry.name));
        let mut hashes: Vec<[u8; 32]> = digests.filter_map(|digest| digest.sha256()).collect();
        // A name may be listed twice when it goes and comes back meanwhile.
        hashes.sort_unstable();
        hashes.dedup();
        Ok(hashes)
    }

    /// The size of a blob, and when it was last pushed or asked for, to the hour; if its bytes are there.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn stored_blob(&self, digest: &Digest) -> Result<Option<Stat>> {
        Ok(optional(self.storage.stat(Key::BlobData(digest)).await)?)
    }

    /// Removes a blob's directory if nothing is in it.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn prune_blob(&self, digest: &Digest) -> Result<()> {
        optional(self.storage.prune(Key::Blob(digest)).await)?;
        Ok(())
    }

    /// The digest by which a repository's blob is stored, if it has the blob.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn stored_digest(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<Digest>> {
        self.read_link(Key::LayerLink(name, digest)).await
    }

    /// The digest by which a repository's manifest is stored, if it has the manifest, be it in the quarantine.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn stored_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<Digest>> {
        let link = self.peek(Key::RevisionLink(name, digest)).await?;
        Ok(link.and_then(|link| parse_link(&link)))
    }

    /// The manifests that tags of a repository name or have named, for the tags that have had more than one.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn long_histories(&self, name: &RepositoryName) -> Result<Vec<(Tag, Vec<Digest>)>> {
        let found = optional(self.storage.crowded(Key::Tags(name), Leaf::History).await)?;
        let histories = found.unwrap_or_default().into_iter().filter_map(|(tag, names)| {
            let digests = names.iter().filter_map(|name| parse_digest(Algorithm::Sha256, name));
            Some((tag.parse().ok()?, digests.collect()))
        });
        Ok(histories.collect())
    }

    /// The manifests that a tag names or has named.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn history(&self, name: &RepositoryName, tag: &Tag) -> Result<Vec<Digest>> {
        let found = optional(self.storage.walk(Key::TagIndex(name, tag)).await)?.unwrap_or_default();
        let digests = found.iter().filter_map(|found| match &found.name.split('/').collect::<Vec<_>>()[..] {
            [algorithm, hex, _] => format!("{algorithm}:{hex}").parse().ok(),
            _ => None,
        });
        Ok(digests.collect())
    }

    /// When it was written down that a tag names a manifest, if it was.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn history_written(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<Option<SystemTime>> {
        let stat = optional(self.storage.stat(Key::TagIndexLink(name, tag, digest)).await)?;
        Ok(stat.map(|stat| stat.modified))
    }

    /// Forgets that a tag ever named a manifest.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn forget_history(&self, name: &RepositoryName, tag: &Tag, digest: &Digest) -> Result<()> {
        optional(self.storage.delete(Key::TagIndexLink(name, tag, digest), Durability::Process).await)?;
        optional(self.storage.prune(Key::TagIndex(name, tag)).await)?;
        Ok(())
    }

    /// Removes the directories of a repository's own that hold no file.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn prune_repository(&self, name: &RepositoryName) -> Result<()> {
        let layers = Algorithm::ALL.map(|algorithm| Key::Layers(name, algorithm));
        for key in [Key::Manifests(name), Key::Uploads(name)].into_iter().chain(layers) {
            optional(self.storage.prune(key).await)?;
        }
        Ok(())
    }

    /// Removes a repository that holds no file, and those below it that hold none.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn prune_empty_repository(&self, name: &RepositoryName) -> Result<()> {
        optional(self.storage.prune(Key::Repository(name)).await)?;
        Ok(())
    }

    /// Writes the link of a manifest that a tag names: someone died between the two steps of a push or a deletion. Only
    /// SHA-256 says by itself where the manifest is stored.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn heal_revision(&self, name: &RepositoryName, digest: &Digest) -> Result<()> {
        let link = Key::RevisionLink(name, digest);
        if self.find_link(link).await?.is_none() && digest.algorithm() == Algorithm::Sha256 {
            self.write_link(link, digest).await?;
        }
        Ok(())
    }
}

fn parse_digest(algorithm: Algorithm, hex: &str) -> Option<Digest> {
    format!("{algorithm}:{hex}").parse().ok()
}

fn parse_link(bytes: &[u8]) -> Option<Digest> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}
