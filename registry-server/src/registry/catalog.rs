//! The list of all repositories.

use std::collections::BTreeSet;

use super::{Page, Registry, Result, optional};
use crate::storage::{Entry, Key, MANIFESTS_ENTRY};
use crate::types::RepositoryName;

impl Registry {
    /// The registry's repositories in byte order: those after `last` that `is_shown` lets through, at most `limit`.
    ///
    /// Only the directories that can hold names of the page are read.
    pub async fn list_repositories(
        &self,
        last: Option<&str>,
        limit: usize,
        is_shown: impl Fn(&RepositoryName) -> bool,
    ) -> Result<Page<RepositoryName>> {
        let last = last.unwrap_or("");
        let mut entries = Vec::new();
        // Taking the smallest name each time gives `a`, `a-b`, `a/b`: byte order, although `a/b` lies below `a`.
        let mut pending = self.directories(Key::Repositories, None).await?;
        while let Some(name) = pending.names.pop_first() {
            if !reaches_after(&name, last) {
                continue;
            }
            let below = self.directories(Key::Repository(&name), Some(&name)).await?;
            pending.names.extend(below.names);
            if !below.parent_is_repository || name.as_str() <= last || !is_shown(&name) {
                continue;
            }
            if entries.len() == limit {
                return Ok(Page { entries, more: true });
            }
            entries.push(name);
        }
        Ok(Page { entries, more: false })
    }

    async fn directories(&self, key: Key<'_>, parent: Option<&RepositoryName>) -> Result<Directories> {
        let children = optional(self.storage.list(key).await)?.unwrap_or_default();
        Ok(Directories {
            parent_is_repository: children.iter().any(|entry| entry.name == MANIFESTS_ENTRY),
            names: children.iter().filter_map(|entry| child_name(parent, entry)).collect(),
        })
    }
}

/// What a directory below `repositories` holds.
struct Directories {
    parent_is_repository: bool,
    names: BTreeSet<RepositoryName>,
}

/// Whether the name itself or one that goes on from it can come after `last`.
fn reaches_after(name: &RepositoryName, last: &str) -> bool {
    let below = format!("{name}/");
    below.as_str() > last || last.starts_with(&below)
}

/// The name that a directory stands for; `None` for the tree's own directories and for foreign files.
pub(super) fn child_name(parent: Option<&RepositoryName>, entry: &Entry) -> Option<RepositoryName> {
    let name = match parent {
        Some(parent) => format!("{parent}/{}", entry.name),
        None => entry.name.clone(),
    };
    if entry.is_directory { name.parse().ok() } else { None }
}
