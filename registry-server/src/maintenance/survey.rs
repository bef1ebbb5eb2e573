//! What is in one repository, what becomes of its tags, and what is live: all that a run decides before it acts.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use super::Options;
use super::graph::{Marked, Roots, Why, closure, mark};
use super::retention::{TagFacts, Verdict};
use crate::config::Untagged;
use crate::registry::{Instance, Registry, Result, Revision, TagLink, Target};
use crate::storage::Condemned;
use crate::types::{Digest, Reference, RepositoryName, RunId, Tag};

/// A repository as a run sees it.
#[derive(Debug)]
pub(super) struct Survey {
    /// Its tags.
    pub tags: Vec<TagLink>,
    /// Its links to manifests.
    pub revisions: Vec<Revision>,
    /// The digests by which it has, or has had, blobs.
    pub layers: BTreeSet<Digest>,
    /// When what was pulled last.
    pub pulls: HashMap<Reference, SystemTime>,
    /// What the rules say of each tag that is judged by itself.
    pub verdicts: Vec<(TagFacts, Verdict)>,
    /// Tags that say something about a manifest: tag, what it names, and what that is about.
    pub accessories: Vec<(Tag, Digest, Digest)>,
    /// Manifests that go with the tags that go, whatever their age.
    pub let_go: HashSet<Digest>,
    /// What is live.
    pub marked: Marked,
}

/// Looks at a repository and decides. `quarantined` is what runs have condemned of it.
pub(super) async fn survey(
    registry: &Registry,
    name: &RepositoryName,
    options: &Options,
    quarantined: &[Instance],
    now: SystemTime,
) -> Result<Survey> {
    let tags = registry.tag_links(name).await?;
    let revisions = registry.revisions(name).await?;
    let layers = registry.layers(name).await?;
    let pulls = registry.pulls(name).await?;
    let mut roots = Roots {
        known: known(&revisions, quarantined),
        unreadable: unreadable_tags(name, &tags),
        pins: pins(name, options),
        ..Roots::default()
    };
    let (mut facts, accessories) = split(&tags, &pulls, &roots.known);
    if options.rules.is_about(name) {
        for facts in &mut facts {
            facts.pushed = registry.tag_pushed(name, &facts.tag).await?.unwrap_or(now);
        }
    }
    for (tag, digest, subject) in &accessories {
        roots.accessories.entry(subject.clone()).or_default().push((tag.clone(), digest.clone()));
    }
    let verdicts = options.rules.judge(name, &facts, now);
    let verdicts: Vec<(TagFacts, Verdict)> = facts.into_iter().zip(verdicts).collect();
    let named = |keeps: bool| {
        let some = verdicts.iter().filter(move |(_, verdict)| verdict.keeps() == keeps);
        some.map(|(facts, _)| (facts.tag.clone(), facts.digest.clone())).collect::<Vec<_>>()
    };
    roots.tags = named(true);

    let mut gone = named(false);
    if options.rules.is_complete() {
        gone.extend(gone_before(&revisions, quarantined));
    }
    let let_go = if gone.is_empty() { HashSet::new() } else { closure(registry, name, &roots, gone).await };
    roots.manifests = kept_for_themselves(registry, name, options, &revisions, &roots, &let_go, now).await?;
    let marked = mark(registry, name, &roots).await;
    Ok(Survey { tags, revisions, layers, pulls, verdicts, accessories, let_go, marked })
}

/// Whether something is older than the grace period. What cannot be looked at is not.
pub(super) fn is_old(time: Option<SystemTime>, grace: Duration, now: SystemTime) -> bool {
    time.is_some_and(|time| now.duration_since(time).is_ok_and(|age| age >= grace))
}

fn known(revisions: &[Revision], quarantined: &[Instance]) -> HashSet<Digest> {
    let condemned = quarantined.iter().filter_map(|instance| match &instance.condemned {
        Condemned::Revision(_, digest) => Some(digest.clone()),
        _ => None,
    });
    revisions.iter().map(|link| link.digest.clone()).chain(condemned).collect()
}

fn unreadable_tags(name: &RepositoryName, tags: &[TagLink]) -> BTreeSet<String> {
    let unreadable = tags.iter().filter(|link| matches!(link.target, Target::Unreadable));
    unreadable.map(|link| format!("{name}: tag {} cannot be read", link.tag)).collect()
}

fn pins(name: &RepositoryName, options: &Options) -> Vec<(Digest, String)> {
    let pins = options.rules.pins(name).filter_map(|(reference, by)| match reference {
        Reference::Digest(digest) => Some((digest.clone(), by.to_owned())),
        Reference::Tag(_) => None,
    });
    pins.collect()
}

/// Parts the tags that are judged from those that follow the manifest that they are about, if the repository has it.
fn split(
    tags: &[TagLink],
    pulls: &HashMap<Reference, SystemTime>,
    known: &HashSet<Digest>,
) -> (Vec<TagFacts>, Vec<(Tag, Digest, Digest)>) {
    let (mut facts, mut accessories) = (Vec::new(), Vec::new());
    for link in tags {
        let Some(digest) = link.digest() else { continue };
        match link.tag.accessory_subject().filter(|subject| known.contains(subject)) {
            Some(subject) => accessories.push((link.tag.clone(), digest.clone(), subject)),
            None => facts.push(TagFacts {
                tag: link.tag.clone(),
                digest: digest.clone(),
                pushed: SystemTime::UNIX_EPOCH,
                // By its name or by the digest of what it names.
                pulled: pulls
                    .get(&Reference::Tag(link.tag.clone()))
                    .max(pulls.get(&Reference::Digest(digest.clone())))
                    .copied(),
            }),
        }
    }
    (facts, accessories)
}

/// Tags that an earlier run has let go, for its manifests may still be there if it died. A manifest that was pushed
/// since is wanted again.
fn gone_before(revisions: &[Revision], quarantined: &[Instance]) -> Vec<(Tag, Digest)> {
    let pushed: HashMap<&Digest, Option<SystemTime>> =
        revisions.iter().map(|link| (&link.digest, link.pushed)).collect();
    let is_older = |digest: &Digest, run: &RunId| {
        pushed.get(digest).is_none_or(|pushed| pushed.is_some_and(|pushed| pushed < run.began()))
    };
    let gone = quarantined.iter().filter_map(|instance| match &instance.condemned {
        Condemned::Tag(_, tag, digest) if is_older(digest, &instance.run) => {
            Some((tag.clone(), digest.clone()))
        }
        _ => None,
    });
    gone.collect()
}

/// The manifests that stay although no tag may lead to them.
async fn kept_for_themselves(
    registry: &Registry,
    name: &RepositoryName,
    options: &Options,
    revisions: &[Revision],
    roots: &Roots,
    let_go: &HashSet<Digest>,
    now: SystemTime,
) -> Result<Vec<(Digest, Why)>> {
    let keeps_untagged = match options.rules.untagged(name) {
        Some(untagged) => untagged == Untagged::Keep,
        None => !options.delete_untagged,
    };
    let tagged: HashSet<&Digest> = roots.tags.iter().map(|(_, digest)| digest).collect();
    let mut kept = Vec::new();
    for link in revisions.iter().filter(|link| !let_go.contains(&link.digest)) {
        if keeps_untagged {
            kept.push((link.digest.clone(), Why::Untagged));
        } else if !tagged.contains(&link.digest) {
            let grace = options.grace_period;
            // Who asks for a manifest by its digest refreshes the time of its blob.
            let is_young = !is_old(link.pushed, grace, now)
                || registry
                    .stored_blob(&link.digest)
                    .await?
                    .is_some_and(|blob| !is_old(Some(blob.modified), grace, now));
            if is_young {
                kept.push((link.digest.clone(), Why::Young));
            }
        }
    }
    Ok(kept)
}
