//! What a repository consists of, for the jobs that go over all of it.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::catalog::child_name;
use super::{Registry, Result, optional};
use crate::storage::{self, Durability, Key, Leaf, REPOSITORY_ENTRIES, Stat as StoredStat};
use crate::types::{Algorithm, Digest, RepositoryName, Tag};

/// A tag's link.
#[derive(Debug)]
pub struct TagLink {
    /// The tag.
    pub tag: Tag,
    /// The manifest that it names and when it was pushed; `None` when the link cannot be read.
    pub target: Option<(Digest, SystemTime)>,
}

/// A repository's link to a manifest or a blob.
#[derive(Debug)]
pub struct Link {
    /// The digest by which the repository knows it.
    pub digest: Digest,
    /// When it was last pushed or mounted; `None` when the link cannot be looked at.
    pub pushed: Option<SystemTime>,
}

/// The blobs of a part of the storage.
#[derive(Debug, Default)]
pub struct Shard {
    /// Those that are there, in byte order.
    pub blobs: Vec<StoredBlob>,
    /// Those of which only a directory is left.
    pub empty: Vec<Digest>,
    /// Those that cannot be looked at.
    pub unreadable: Vec<Digest>,
}

/// A blob as it is stored.
#[derive(Debug)]
pub struct StoredBlob {
    /// Its SHA-256.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last pushed or asked for, to the hour.
    pub used: SystemTime,
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

    /// A repository's tags, in byte order.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn tag_links(&self, name: &RepositoryName) -> Result<Vec<TagLink>> {
        let found = optional(self.storage.scan(Key::Tags(name), Leaf::CurrentLink).await)?;
        let mut links = Vec::new();
        for found in found.unwrap_or_default() {
            let Ok(tag) = found.name.parse() else { continue };
            let target = match found.file {
                Ok(file) => parse_link(&file.content).map(|digest| (digest, file.stat.modified)),
                Err(storage::Error::NotFound { .. }) => continue,
                Err(_) => None,
            };
            links.push(TagLink { tag, target });
        }
        links.sort_unstable_by(|one, other| one.tag.cmp(&other.tag));
        Ok(links)
    }

    /// A repository's links to manifests, each once.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn revisions(&self, name: &RepositoryName) -> Result<Vec<Link>> {
        let mut links = self.links(Algorithm::Sha256, Key::Revisions(name, Algorithm::Sha256)).await?;
        links.extend(self.links(Algorithm::Sha512, Key::Revisions(name, Algorithm::Sha512)).await?);
        Ok(links)
    }

    /// A repository's links to blobs, each once.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn layers(&self, name: &RepositoryName) -> Result<Vec<Link>> {
        let mut links = self.links(Algorithm::Sha256, Key::Layers(name, Algorithm::Sha256)).await?;
        links.extend(self.links(Algorithm::Sha512, Key::Layers(name, Algorithm::Sha512)).await?);
        Ok(links)
    }

    /// The blobs whose SHA-256 begins with `byte`, each once.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn blob_shard(&self, byte: u8) -> Result<Shard> {
        let mut shard = Shard::default();
        for found in optional(self.storage.scan(Key::BlobShard(byte), Leaf::Data).await)?.unwrap_or_default()
        {
            let Some(digest) = parse_digest(Algorithm::Sha256, &found.name) else { continue };
            match found.file {
                Ok(file) => {
                    let StoredStat { size, modified } = file.stat;
                    shard.blobs.push(StoredBlob { digest, size, used: modified });
                }
                Err(storage::Error::NotFound { .. }) => shard.empty.push(digest),
                Err(_) => shard.unreadable.push(digest),
            }
        }
        // A name may be listed twice when it goes and comes back meanwhile.
        shard.blobs.sort_unstable_by(|one, other| one.digest.cmp(&other.digest));
        shard.blobs.dedup_by(|one, other| one.digest == other.digest);
        Ok(shard)
    }

    /// When the bytes of a blob were last pushed or asked for, if they are there.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn blob_used(&self, digest: &Digest) -> Result<Option<SystemTime>> {
        Ok(optional(self.storage.stat(Key::BlobData(digest)).await)?.map(|stat| stat.modified))
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

    /// The digest by which a repository's manifest is stored, if it has the manifest.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn stored_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<Digest>> {
        self.read_link(Key::RevisionLink(name, digest)).await
    }

    /// The manifests that each tag of a repository names or has named.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn tag_histories(&self, name: &RepositoryName) -> Result<Vec<(Tag, Vec<Digest>)>> {
        let found = optional(self.storage.list_each(Key::Tags(name), Leaf::History).await)?;
        let histories = found.unwrap_or_default().into_iter().filter_map(|(tag, names)| {
            let digests = names.iter().filter_map(|name| parse_digest(Algorithm::Sha256, name));
            Some((tag.parse().ok()?, digests.collect()))
        });
        Ok(histories.collect())
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
        let layers = [Algorithm::Sha256, Algorithm::Sha512].map(|algorithm| Key::Layers(name, algorithm));
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

    /// Writes the link of a manifest that a tag names: someone died between the two steps of a push or a deletion.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn heal_revision(&self, name: &RepositoryName, digest: &Digest) -> Result<()> {
        let link = Key::RevisionLink(name, digest);
        if self.find_link(link).await?.is_none() {
            self.write_link(link, digest).await?;
        }
        Ok(())
    }

    /// The links below a directory, by their names: what they hold is read only where it may differ.
    async fn links(&self, algorithm: Algorithm, key: Key<'_>) -> Result<Vec<Link>> {
        let mut links = Vec::new();
        for found in optional(self.storage.scan(key, Leaf::Link).await)?.unwrap_or_default() {
            let Some(digest) = parse_digest(algorithm, &found.name) else { continue };
            match found.file {
                Ok(file) => links.push(Link { digest, pushed: Some(file.stat.modified) }),
                Err(storage::Error::NotFound { .. }) => {}
                Err(_) => links.push(Link { digest, pushed: None }),
            }
        }
        // A name may be listed twice when it goes and comes back meanwhile.
        links.sort_unstable_by(|one, other| one.digest.cmp(&other.digest));
        links.dedup_by(|one, other| one.digest == other.digest);
        Ok(links)
    }
}

fn parse_digest(algorithm: Algorithm, hex: &str) -> Option<Digest> {
    format!("{algorithm}:{hex}").parse().ok()
}

fn parse_link(bytes: &[u8]) -> Option<Digest> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}
