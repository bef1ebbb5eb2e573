//! Tags of a repository.

use super::{Error, Page, Registry, Result, optional};
use crate::storage::{Key, Leaf};
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

    /// The tags that name a manifest. Only those are read whose history knows it: every server writes that down before it
    /// sets a tag, and to look for it costs less than to read all tags.
    pub(super) async fn tags_of(&self, name: &RepositoryName, digest: &Digest) -> Result<Vec<Tag>> {
        let found = optional(self.storage.scan(Key::Tags(name), Leaf::HistoryLink(digest)).await)?;
        let mut tags = Vec::new();
        for tag in found.unwrap_or_default().into_iter().filter_map(|found| found.name.parse().ok()) {
            if self.resolve_tag(name, &tag).await?.as_ref() == Some(digest) {
                tags.push(tag);
            }
        }
        Ok(tags)
    }

    /// All tags that have their link, looked for in one go.
    async fn linked_tags(&self, name: &RepositoryName) -> Result<Option<Vec<Tag>>> {
        let found = optional(self.storage.scan(Key::Tags(name), Leaf::CurrentLink).await)?;
        let Some(found) = found else { return Ok(None) };
        let mut tags = Vec::with_capacity(found.len());
        for found in found {
            if let Ok(tag) = found.name.parse() {
                found.stat?;
                tags.push(tag);
            }
        }
        Ok(Some(tags))
    }

    async fn tag_directories(&self, name: &RepositoryName) -> Result<Option<Vec<Tag>>> {
        let entries = optional(self.storage.list(Key::Tags(name)).await)?;
        Ok(entries.map(|entries| entries.into_iter().filter_map(|entry| entry.name.parse().ok()).collect()))
    }
}
