//! The list of all repositories.

use super::{Page, Registry, Result, optional};
use crate::storage::{Entry, Key};
use crate::types::RepositoryName;

/// What is still to be looked at; names below one directory come before all that follow it.
enum Step {
    /// A directory that may be a repository itself.
    Name(RepositoryName),
    /// The directories below it.
    Below(RepositoryName),
}

impl Step {
    /// What all names of the step begin with, or are: steps in the order of these texts give names in byte
    /// order, `a`, `a-b`, `a/b`, although `a/b` lies below `a` and `a-b` beside it.
    fn sort_key(&self) -> String {
        match self {
            Self::Name(name) => name.to_string(),
            Self::Below(name) => format!("{name}/"),
        }
    }

    /// Whether no name of the step comes after `last`.
    fn is_before(&self, last: &str) -> bool {
        match self {
            Self::Name(name) => name.as_str() <= last,
            Self::Below(_) => {
                let prefix = self.sort_key();
                prefix.as_str() < last && !last.starts_with(&prefix)
            }
        }
    }
}

impl Registry {
    /// The registry's repositories in byte order: those after `last`, at most `limit`.
    ///
    /// Only the directories that can hold names of the page are read.
    pub async fn list_repositories(&self, last: Option<&str>, limit: usize) -> Result<Page<RepositoryName>> {
        let last = last.unwrap_or("");
        let mut entries = Vec::new();
        let mut steps = self.steps(Key::Repositories, None).await?;
        while let Some(step) = steps.pop() {
            if step.is_before(last) {
                continue;
            }
            match step {
                Step::Below(name) => steps.extend(self.steps(Key::Repository(&name), Some(&name)).await?),
                Step::Name(name) => {
                    if !self.exists(Key::Manifests(&name)).await? {
                        continue;
                    }
                    if entries.len() == limit {
                        return Ok(Page { entries, more: true });
                    }
                    entries.push(name);
                }
            }
        }
        Ok(Page { entries, more: false })
    }

    /// The steps of one directory, the first one last.
    async fn steps(&self, key: Key<'_>, parent: Option<&RepositoryName>) -> Result<Vec<Step>> {
        let children = optional(self.storage.list(key).await)?.unwrap_or_default();
        let names = children.iter().filter_map(|entry| child_name(parent, entry));
        let mut steps: Vec<Step> = names.flat_map(|name| [Step::Name(name.clone()), Step::Below(name)]).collect();
        steps.sort_by_cached_key(|step| std::cmp::Reverse(step.sort_key()));
        Ok(steps)
    }
}

/// The name that a directory stands for; `None` for the tree's own directories and for foreign files.
fn child_name(parent: Option<&RepositoryName>, entry: &Entry) -> Option<RepositoryName> {
    let name = match parent {
        Some(parent) => format!("{parent}/{}", entry.name),
        None => entry.name.clone(),
    };
    if entry.is_directory { name.parse().ok() } else { None }
}
