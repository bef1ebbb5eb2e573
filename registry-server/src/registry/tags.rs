//! Tags of a repository.

use super::{Error, Page, Registry, Result, optional};
use crate::storage::{Error as StorageError, Key, Leaf};
use crate::types::{Digest, RepositoryName, Tag};

impl Registry {
    /// A repository's tags in byte order: those after `last`, at most `limit`.
    ///
    /// # Errors
    /// [`Error::NameUnknown`] when nothing was ever pushed to the repository.
    pub async fn list_tags(
        &self,
        name: &RepositoryName,
        last: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Page<Tag>> {
        let is_whole = limit.is_none();
        let found = if is_whole { self.linked_tags(name).await } else { self.tag_directories(name).await };
        let mut tags = match found? {
            Some(tags) => tags,
            // A repository whose manifests were all pushed by digest has no tags, but it is known.
            None if optional(self.storage.list(Key::Manifests(name)).await)?.is_some() => Vec::new(),
            None => return Err(Error::NameUnknown { name: name.clone() }),
        };
        tags.retain(|tag| last.is_none_or(|last| tag.as_str() > last));
        tags.sort_unstable();
        let mut entries = Vec::new();
        let limit = limit.unwrap_or(usize::MAX);
        for tag in tags {
            // A directory without its link is what a push or a deletion leaves when it dies half-way.
            if !is_whole && !self.exists(Key::TagCurrent(name, &tag)).await? {
                continue;
            }
            if entries.len() == limit {
                return Ok(Page { entries, more: true });
            }
            entries.push(tag);
        }
        Ok(Page { entries, more: false })
    }

    /// The tags that name a manifest.
    pub(super) async fn tags_of(&self, name: &RepositoryName, digest: &Digest) -> Result<Vec<Tag>> {
        let mut links = self.tag_links(name).await?;
        links.retain(|link| link.digest() == Some(digest));
        Ok(links.into_iter().map(|link| link.tag).collect())
    }

    /// All tags that have their link, looked for in one go.
    async fn linked_tags(&self, name: &RepositoryName) -> Result<Option<Vec<Tag>>> {
        let found = optional(self.storage.scan(Key::Tags(name), Leaf::CurrentLink).await)?;
        let Some(found) = found else { return Ok(None) };
        let mut tags = Vec::with_capacity(found.len());
        for found in found {
            match (found.name.parse(), found.stat) {
                (Err(_), _) | (_, Err(StorageError::NotFound { .. })) => {}
                (Ok(_), Err(error)) => return Err(error.into()),
                (Ok(tag), Ok(_)) => tags.push(tag),
            }
        }
        Ok(Some(tags))
    }

    async fn tag_directories(&self, name: &RepositoryName) -> Result<Option<Vec<Tag>>> {
        let entries = optional(self.storage.list(Key::Tags(name)).await)?;
        Ok(entries.map(|entries| entries.into_iter().filter_map(|entry| entry.name.parse().ok()).collect()))
    }
}
