//! The quarantine in a person's hands: what is in it, bringing it back, and deleting it before its time.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::collect::{Collection, Event};
use super::retention::Rules;
use super::{Error, Options, Result, Summary};
use crate::registry::{Instance, Registry};
use crate::storage::Condemned;
use crate::types::RunId;

/// What one run has condemned and is still in the quarantine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condemnations {
    /// The run.
    pub run: String,
    /// Tags, with their repositories.
    pub tags: Vec<String>,
    /// Manifests, with their repositories.
    pub manifests: Vec<String>,
    /// Number of links to blobs.
    pub layers: u64,
    /// Number of blobs.
    pub blobs: u64,
    /// Size of the blobs in bytes.
    pub bytes: u64,
}

/// What is in the quarantine, newest run first.
///
/// # Errors
/// Those of the storage.
pub async fn quarantined(registry: &Registry) -> Result<Vec<Condemnations>> {
    let mut all = Vec::new();
    for run in registry.quarantine_runs().await? {
        let mut one = Condemnations { run: run.to_string(), ..Condemnations::default() };
        for instance in registry.condemned_by(&run).await? {
            match &instance.condemned {
                Condemned::Tag(name, tag, digest) => one.tags.push(format!("{name}:{tag}@{digest}")),
                Condemned::Revision(name, digest) => one.manifests.push(format!("{name}@{digest}")),
                Condemned::Layer(..) => one.layers += 1,
                Condemned::Blob(_) => {
                    one.blobs += 1;
                    one.bytes += instance.size;
                }
            }
        }
        one.tags.sort_unstable();
        one.manifests.sort_unstable();
        all.push(one);
    }
    Ok(all)
}

/// Brings back what is named: a run, a digest, `repository:tag` or a repository; everything if nothing is named. Says
/// how many things came back.
///
/// What comes back is as young as if it had been pushed just now. A tag is not brought back when there is one of that
/// name again. Content comes before what leads to it, so that a death in the middle does no harm.
///
/// # Errors
/// [`Error::NotQuarantined`] when a name fits nothing; those of the storage.
pub async fn restore(registry: &Registry, names: &[String]) -> Result<u64> {
    let mut instances = Vec::new();
    for run in registry.quarantine_runs().await? {
        instances.extend(registry.condemned_by(&run).await?);
    }
    if let Some(name) = names.iter().find(|name| !instances.iter().any(|instance| fits(instance, name))) {
        return Err(Error::NotQuarantined(name.clone()));
    }
    instances.retain(|instance| names.is_empty() || names.iter().any(|name| fits(instance, name)));
    instances.sort_by_key(|instance| rank(&instance.condemned));
    let mut restored = 0;
    for Instance { run, condemned, .. } in &instances {
        let done = match condemned {
            Condemned::Tag(name, tag, digest) => registry.restore_tag(run, name, tag, digest).await?,
            other => registry.restore(run, other.key()).await?,
        };
        restored += u64::from(done);
    }
    for run in registry.quarantine_runs().await? {
        registry.prune_quarantine(&run).await?;
    }
    Ok(restored)
}

/// Deletes all that is in the quarantine and that nothing leads to, whatever its age, and condemns nothing new.
///
/// # Errors
/// As [`Collection::run`].
pub async fn purge(
    registry: &Registry,
    observe: &mut (dyn FnMut(Event<'_>) + Send),
) -> (Summary, Result<()>) {
    let options = Options {
        dry_run: false,
        delete_untagged: false,
        grace_period: Duration::ZERO,
        rules: Rules::default(),
        uploads_older_than: None,
        time_budget: None,
        io_limit: None,
    };
    let mut collection = Collection::new(registry, options).only_quarantine();
    let result = collection.run(observe).await;
    (collection.summary(), result)
}

/// Whether a name stands for something, or for what it belongs to.
fn fits(instance: &Instance, name: &str) -> bool {
    let run: &RunId = &instance.run;
    let is = |text: &dyn fmt::Display| text.to_string() == name;
    is(run)
        || match &instance.condemned {
            Condemned::Blob(digest) => is(digest),
            Condemned::Layer(repository, digest) | Condemned::Revision(repository, digest) => {
                is(digest) || is(repository) || is(&format_args!("{repository}@{digest}"))
            }
            Condemned::Tag(repository, tag, digest) => {
                is(digest) || is(repository) || is(&format_args!("{repository}:{tag}"))
            }
        }
}

/// Content before links, links before tags.
fn rank(condemned: &Condemned) -> u8 {
    match condemned {
        Condemned::Blob(_) => 0,
        Condemned::Layer(..) => 1,
        Condemned::Revision(..) => 2,
        Condemned::Tag(..) => 3,
    }
}
