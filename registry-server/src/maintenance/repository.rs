//! A run's work in one repository: let tags go, mark, and move what nothing leads to out of the way.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use super::Options;
use super::digest_set::LiveBlob;
use super::graph::{LiveManifest, Why};
use super::report::{Action, Item, Kind, Summary};
use super::survey::{Survey, is_old, survey};
use super::uploads::purge_repository_uploads;
use crate::registry::{Error, Instance, Registry, Result, Target};
use crate::storage::{self, Condemned, Key};
use crate::types::{Algorithm, Digest, Reference, RepositoryName, RunId, Tag};

/// What a visit found and did.
#[derive(Debug, Default)]
pub(super) struct Visit {
    /// The blobs that are live because of this repository.
    pub live: Vec<LiveBlob>,
    /// What was done, in order.
    pub items: Vec<Item>,
    /// What could not be read, in words.
    pub warnings: Vec<String>,
    /// How many tags there were.
    pub tags: u64,
    /// How many manifests there were.
    pub manifests: u64,
    /// How many tags and manifests only workloads keep.
    pub protected: u64,
    /// How many operations on the storage it took, about.
    pub operations: usize,
}

impl Visit {
    /// Adds the visit's figures to those of the run.
    pub(super) fn count(&self, summary: &mut Summary) {
        summary.repositories += 1;
        summary.tags += self.tags;
        summary.manifests += self.manifests;
        summary.protected_by_workloads += self.protected;
        for item in &self.items {
            match (item.action, item.kind) {
                (Action::Condemn, Kind::Tag) => summary.tags_deleted += 1,
                (Action::Condemn, Kind::Manifest) => summary.manifests_deleted += 1,
                (Action::Condemn, Kind::Layer) | (Action::Delete, Kind::History) => {
                    summary.leftovers_deleted += 1;
                }
                (Action::Delete, Kind::Upload) => summary.uploads_deleted += 1,
                _ => {}
            }
        }
        for warning in &self.warnings {
            summary.warn(warning);
        }
    }
}

/// What a visit needs to know of the run.
#[derive(Debug)]
pub(super) struct Context {
    pub registry: Registry,
    pub options: Options,
    pub run: RunId,
    /// The run's idea of the time, one for all decisions.
    pub now: SystemTime,
    /// Whether anything is condemned, or only settled what has been.
    pub condemns: bool,
}

/// Visits a repository; `quarantined` is what was found condemned of it before the run began to mark.
pub(super) async fn visit(
    context: &Context,
    name: &RepositoryName,
    quarantined: &[Instance],
) -> Result<Visit> {
    let survey = survey(&context.registry, name, &context.options, quarantined, context.now).await?;
    let mut hand = Hand { context, name, visit: Visit::default() };
    let live_layers = hand.live_layers(&survey).await?;
    hand.heal_revisions(&survey).await?;
    if context.condemns {
        hand.let_tags_go(&survey).await?;
        hand.condemn_manifests(&survey).await?;
        hand.condemn_layers(&survey, &live_layers).await?;
        hand.forget_histories(&survey).await?;
        hand.forget_pulls(&survey).await?;
        hand.forget_referrers(&survey).await?;
    }
    hand.settle_quarantine(&survey, &live_layers, quarantined).await?;
    hand.give_up_uploads().await?;
    hand.remove_directories(&survey).await?;
    let mut visit = hand.visit;
    visit.live = live_blobs(&context.registry, name, &survey, &live_layers).await?;
    visit.tags = survey.tags.iter().filter(|link| link.digest().is_some()).count() as u64;
    visit.manifests = survey.revisions.len() as u64;
    let used = survey.marked.manifests.values().filter(|live| matches!(live.why, Why::Used(_))).count();
    let kept = survey.verdicts.iter().filter(|(_, verdict)| verdict.is_kept_by_workload()).count();
    visit.protected = (used + kept) as u64;
    visit.operations = 3 * survey.tags.len() + 2 * survey.revisions.len() + 8;
    visit.warnings.extend(survey.marked.unreadable);
    Ok(visit)
}

/// Does to a repository what was decided, or in a dry run only tells.
struct Hand<'a> {
    context: &'a Context,
    name: &'a RepositoryName,
    visit: Visit,
}

impl Hand<'_> {
    fn is_real(&self) -> bool {
        !self.context.options.dry_run
    }

    fn is_old(&self, time: Option<SystemTime>) -> bool {
        is_old(time, self.context.options.grace_period, self.context.now)
    }

    fn note(&mut self, action: Action, kind: Kind, tag: Option<&Tag>, digest: &Digest, why: String) {
        self.visit.items.push(Item {
            action,
            kind,
            repository: Some(self.name.clone()),
            tag: tag.cloned(),
            digest: Some(digest.clone()),
            bytes: None,
            why,
        });
    }

    async fn let_tags_go(&mut self, survey: &Survey) -> Result<()> {
        for (facts, verdict) in survey.verdicts.iter().filter(|(_, verdict)| !verdict.keeps()) {
            self.condemn_tag(&facts.tag, &facts.digest, verdict.to_string()).await?;
        }
        for (tag, digest, subject) in &survey.accessories {
            if !survey.marked.is_live(subject) && !survey.marked.is_whole() {
                self.condemn_tag(tag, digest, format!("{subject}, which it is about, is not kept")).await?;
            }
        }
        Ok(())
    }

    async fn condemn_tag(&mut self, tag: &Tag, digest: &Digest, why: String) -> Result<()> {
        let Context { registry, run, .. } = self.context;
        let done =
            if self.is_real() { registry.condemn_tag(run, self.name, tag, digest).await } else { Ok(true) };
        match done {
            Ok(true) => self.note(Action::Condemn, Kind::Tag, Some(tag), digest, why),
            Ok(false) => {}
            Err(Error::Storage(storage::Error::Busy { .. })) => {
                self.visit.warnings.push(format!("{}:{tag} is being pushed and stays", self.name));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Gives a tag the link of its manifest back, which someone who died between two steps has left out.
    async fn heal_revisions(&mut self, survey: &Survey) -> Result<()> {
        let linked: HashSet<&Digest> = survey.revisions.iter().map(|link| &link.digest).collect();
        let judged = survey.verdicts.iter().map(|(facts, _)| &facts.digest);
        let accessories = survey.accessories.iter().map(|(_, digest, _)| digest);
        for digest in judged.chain(accessories) {
            if self.is_real() && survey.marked.is_live(digest) && !linked.contains(digest) {
                self.context.registry.heal_revision(self.name, digest).await?;
            }
        }
        Ok(())
    }

    async fn condemn_manifests(&mut self, survey: &Survey) -> Result<()> {
        let mut condemned = HashSet::new();
        for link in survey.revisions.iter().filter(|link| !survey.marked.is_live(&link.digest)) {
            let goes_with_tag = survey.let_go.contains(&link.digest);
            if !goes_with_tag && !self.is_old(link.pushed) {
                continue;
            }
            let key = Key::RevisionLink(self.name, &link.digest);
            if self.is_real() && !self.context.registry.condemn(&self.context.run, key).await? {
                continue;
            }
            let why = if goes_with_tag { "its last tag goes" } else { "nothing leads to it" };
            self.note(Action::Condemn, Kind::Manifest, None, &link.digest, why.to_owned());
            condemned.insert(&link.digest);
        }
        if !self.is_real() || condemned.is_empty() {
            return Ok(());
        }
        // A push may have set a tag since the tags were read: it came after, and its manifest is wanted.
        for link in self.context.registry.tag_links(self.name).await? {
            if let Some(digest) = link.digest().filter(|digest| condemned.contains(digest)) {
                self.context.registry.heal_revision(self.name, digest).await?;
            }
        }
        Ok(())
    }

    /// The blobs that live manifests refer to, by all digests by which the repository knows them.
    async fn live_layers(&self, survey: &Survey) -> Result<HashSet<Digest>> {
        let mut live: HashSet<Digest> = survey.marked.blobs.keys().cloned().collect();
        if survey.marked.is_whole() {
            live.extend(survey.layers.iter().cloned());
        }
        for alias in live.clone().iter().filter(|digest| digest.algorithm() != Algorithm::Sha256) {
            live.extend(self.context.registry.stored_digest(self.name, alias).await?);
        }
        Ok(live)
    }

    async fn condemn_layers(&mut self, survey: &Survey, live: &HashSet<Digest>) -> Result<()> {
        for digest in survey.layers.iter().filter(|digest| !live.contains(*digest)) {
            if !self.is_old(self.context.registry.layer_pushed(self.name, digest).await?) {
                continue;
            }
            // Who asks for a blob refreshes the time of its bytes.
            let blob = self.context.registry.stored_blob(digest).await?;
            if blob.is_some_and(|blob| !self.is_old(Some(blob.modified))) {
                continue;
            }
            let key = Key::LayerLink(self.name, digest);
            if !self.is_real() || self.context.registry.condemn(&self.context.run, key).await? {
                let why = "no manifest of the repository refers to it".to_owned();
                self.note(Action::Condemn, Kind::Layer, None, digest, why);
            }
        }
        Ok(())
    }

    /// Of what was condemned before: brings back what is live, deletes what is not when its time is over.
    async fn settle_quarantine(
        &mut self,
        survey: &Survey,
        live_layers: &HashSet<Digest>,
        quarantined: &[Instance],
    ) -> Result<()> {
        for instance in quarantined {
            let (kind, tag, digest, is_live) = match &instance.condemned {
                Condemned::Revision(_, digest) => {
                    (Kind::Manifest, None, digest, survey.marked.is_live(digest))
                }
                Condemned::Layer(_, digest) => (Kind::Layer, None, digest, live_layers.contains(digest)),
                Condemned::Tag(_, tag, digest) => (Kind::Tag, Some(tag), digest, false),
                Condemned::Blob(_) => continue,
            };
            let registry = &self.context.registry;
            let (action, why, done) = if is_live {
                let key = instance.condemned.key();
                let done = !self.is_real() || registry.revive_from(&instance.run, key).await?;
                (Action::Revive, "it is in use again", done)
            } else if self.is_old(Some(instance.run.began())) {
                let done = !self.is_real() || registry.reclaim(instance).await?;
                (Action::Delete, "its time in the quarantine is over", done)
            } else {
                continue;
            };
            if done {
                self.note(action, kind, tag, digest, why.to_owned());
            }
        }
        Ok(())
    }

    /// Removes what tags have named from their histories, when it is gone. A tag's own entry stays; the history of a
    /// tag that goes has gone with it.
    async fn forget_histories(&mut self, survey: &Survey) -> Result<()> {
        let going = self.visit.items.iter().filter(|item| item.kind == Kind::Tag);
        let going: HashSet<Tag> = going.filter_map(|item| item.tag.clone()).collect();
        let current: HashMap<&Tag, &Digest> =
            survey.tags.iter().filter_map(|link| Some((&link.tag, link.digest()?))).collect();
        let mut histories = self.context.registry.long_histories(self.name).await?;
        for link in survey.tags.iter().filter(|link| matches!(link.target, Target::Nothing)) {
            histories.push((link.tag.clone(), self.context.registry.history(self.name, &link.tag).await?));
        }
        for (tag, digests) in histories {
            if going.contains(&tag) || survey.marked.is_whole() {
                continue;
            }
            for digest in digests {
                if current.get(&tag) == Some(&&digest) || survey.marked.is_live(&digest) {
                    continue;
                }
                // A push writes the history before the tag, so a young entry may be that of the next moment.
                if !self.is_old(self.context.registry.history_written(self.name, &tag, &digest).await?) {
                    continue;
                }
                if self.is_real() {
                    self.context.registry.forget_history(self.name, &tag, &digest).await?;
                }
                self.note(Action::Delete, Kind::History, Some(&tag), &digest, "it is gone".to_owned());
            }
        }
        Ok(())
    }

    /// Forgets when tags and manifests were pulled that are not there any more.
    async fn forget_pulls(&self, survey: &Survey) -> Result<()> {
        let condemned = self.visit.items.iter().filter(|item| item.kind == Kind::Tag);
        let condemned: HashSet<&Tag> = condemned.filter_map(|item| item.tag.as_ref()).collect();
        let named = survey.tags.iter().filter(|link| !matches!(link.target, Target::Nothing));
        let tags: HashSet<&Tag> = named.map(|link| &link.tag).collect();
        for reference in survey.pulls.keys() {
            let is_there = match reference {
                Reference::Tag(tag) => tags.contains(tag) && !condemned.contains(tag),
                Reference::Digest(digest) => survey.marked.is_live(digest) || survey.marked.is_whole(),
            };
            if self.is_real() && !is_there {
                self.context.registry.forget_pulls(self.name, reference).await?;
            }
        }
        Ok(())
    }

    /// Forgets what manifests are about that are not there any more.
    async fn forget_referrers(&self, survey: &Survey) -> Result<()> {
        if !self.is_real() || survey.marked.is_whole() {
            return Ok(());
        }
        let mut gone = self.context.registry.recorded_referrers(self.name).await?;
        gone.retain(|relation| !survey.marked.is_live(&relation.referrer));
        if !gone.is_empty() || survey.marked.manifests.is_empty() {
            self.context.registry.forget_referrers(self.name, &gone).await?;
        }
        Ok(())
    }

    async fn give_up_uploads(&mut self) -> Result<()> {
        let Context { registry, options, .. } = self.context;
        let Some(age) = options.uploads_older_than else { return Ok(()) };
        for session in purge_repository_uploads(registry, self.name, age, options.dry_run).await? {
            self.visit.items.push(Item {
                action: Action::Delete,
                kind: Kind::Upload,
                repository: Some(self.name.clone()),
                tag: None,
                digest: None,
                bytes: Some(session.size),
                why: format!("session {} has received nothing for too long", session.id),
            });
        }
        Ok(())
    }

    async fn remove_directories(&mut self, survey: &Survey) -> Result<()> {
        if !self.is_real() || self.visit.items.is_empty() {
            return Ok(());
        }
        self.context.registry.prune_repository(self.name).await?;
        if survey.marked.manifests.is_empty() && !survey.marked.is_whole() {
            self.context.registry.prune_empty_repository(self.name).await?;
        }
        Ok(())
    }
}

/// The blobs by which all that is live is stored.
async fn live_blobs(
    registry: &Registry,
    name: &RepositoryName,
    survey: &Survey,
    live_layers: &HashSet<Digest>,
) -> Result<Vec<LiveBlob>> {
    let size = |digest: &Digest| survey.marked.blobs.get(digest).map_or(0, |layer| layer.size);
    let layers = live_layers.iter();
    let mut live: Vec<LiveBlob> =
        layers.filter_map(|digest| Some(LiveBlob::new(&digest.sha256()?, size(digest)))).collect();
    for (digest, LiveManifest { size, .. }) in &survey.marked.manifests {
        let hash = match digest.sha256() {
            Some(hash) => Some(hash),
            None => registry.stored_manifest(name, digest).await?.and_then(|digest| digest.sha256()),
        };
        live.extend(hash.map(|hash| LiveBlob::new(&hash, *size)));
    }
    Ok(live)
}
