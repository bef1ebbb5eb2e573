//! Why something is kept or will go, and when, without doing anything.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::graph::{LiveLayer, LiveManifest, Why};
use super::survey::{Survey, is_old, survey};
use super::{Error, Options, Result};
use crate::registry::{Instance, Registry};
use crate::storage::Condemned;
use crate::types::{Digest, Reference, RepositoryName, Tag};

/// What can be asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `repository:tag` or `repository@digest`.
    In(RepositoryName, Reference),
    /// A digest, in whatever repository.
    Anywhere(Digest),
}

impl std::str::FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if let Ok(digest) = text.parse() {
            return Ok(Self::Anywhere(digest));
        }
        let parts = text.split_once('@').or_else(|| text.rsplit_once(':')).unwrap_or((text, "latest"));
        let name = parts.0.parse::<RepositoryName>().map_err(|error| error.to_string())?;
        Ok(Self::In(name, parts.1.parse::<Reference>().map_err(|error| error.to_string())?))
    }
}

/// Says in lines why the subject is kept or will go in a run with these options.
///
/// # Errors
/// [`Error::Unknown`] when there is no such thing; those of the storage.
pub async fn explain(registry: &Registry, options: &Options, subject: &Subject) -> Result<Vec<String>> {
    let mut instances = Vec::new();
    for run in registry.quarantine_runs().await? {
        instances.extend(registry.condemned_by(&run).await?);
    }
    let names = match subject {
        Subject::In(name, _) => vec![name.clone()],
        Subject::Anywhere(_) => registry.repositories().await?,
    };
    let now = SystemTime::now();
    let mut lines = Vec::new();
    for name in &names {
        let own = instances.iter().filter(|instance| belongs_to(instance, name)).cloned();
        let own: Vec<Instance> = own.collect();
        let survey = survey(registry, name, options, &own, now).await?;
        let told = Telling { name, survey: &survey, options, now };
        lines.extend(match subject {
            Subject::In(_, Reference::Tag(tag)) => told.tag(tag),
            Subject::In(_, Reference::Digest(digest)) | Subject::Anywhere(digest) => {
                told.digest(digest, registry.layer_pushed(name, digest).await?)
            }
        });
        for warning in &survey.marked.unreadable {
            lines.push(format!("warning: {warning}; everything in {name} is kept"));
        }
    }
    lines.extend(instances.iter().filter(|instance| is_about(instance, subject)).map(|instance| {
        let due = Timestamp::try_from(instance.run.began() + options.grace_period).unwrap_or(Timestamp::MAX);
        let run = instance.run;
        format!(
            "in the quarantine of run {run}: it comes back when it is used, and goes for good after {due:.0}"
        )
    }));
    if let Subject::Anywhere(digest) = subject
        && let Some(blob) = registry.stored_blob(digest).await?
        && !lines.iter().any(|line| line.contains("is kept"))
    {
        lines.push(format!(
            "blob {digest}: nothing leads to it, {}",
            fate(blob.modified, options.grace_period, now)
        ));
    }
    if lines.is_empty() { Err(Error::Unknown(subject.to_string())) } else { Ok(lines) }
}

struct Telling<'a> {
    name: &'a RepositoryName,
    survey: &'a Survey,
    options: &'a Options,
    now: SystemTime,
}

impl Telling<'_> {
    fn tag(&self, tag: &Tag) -> Vec<String> {
        let mut lines = Vec::new();
        for (facts, verdict) in self.survey.verdicts.iter().filter(|(facts, _)| facts.tag == *tag) {
            let stays = if verdict.keeps() { "is kept" } else { "goes" };
            lines.push(format!("tag {}:{tag} ({}) {stays}: {verdict}", self.name, facts.digest));
        }
        for (_, digest, subject) in self.survey.accessories.iter().filter(|(own, ..)| own == tag) {
            let stays = if self.survey.marked.is_live(subject) { "is kept with" } else { "goes with" };
            lines.push(format!("tag {}:{tag} ({digest}) {stays} {subject}, which it is about", self.name));
            lines.extend(self.manifest(subject));
        }
        lines
    }

    /// `pushed`: when the repository got the digest as a blob, if it did.
    fn digest(&self, digest: &Digest, pushed: Option<SystemTime>) -> Vec<String> {
        let mut lines = self.manifest(digest);
        if let Some(LiveLayer { manifest, .. }) = self.survey.marked.blobs.get(digest) {
            lines.push(format!("blob {digest} is kept in {}: manifest {manifest} refers to it", self.name));
            lines.extend(self.manifest(manifest));
        } else if let Some(pushed) = pushed {
            let fate = fate(pushed, self.options.grace_period, self.now);
            lines.push(format!("no manifest of {} refers to blob {digest}: {fate}", self.name));
        }
        lines
    }

    /// The chain from a manifest to what keeps it.
    fn manifest(&self, digest: &Digest) -> Vec<String> {
        let mut lines = Vec::new();
        let mut next = Some(digest);
        while let Some(digest) = next.take() {
            let Some(LiveManifest { why, .. }) = self.survey.marked.manifests.get(digest) else { break };
            lines.push(format!("manifest {digest} is kept in {}: {why}", self.name));
            match why {
                Why::ChildOf(above) | Why::RefersTo(above) | Why::AccessoryOf(_, above) => next = Some(above),
                Why::Tag(tag) => lines.extend(self.tag(tag)),
                Why::Used(_) | Why::Untagged | Why::Young | Why::Unreadable => {}
            }
        }
        let link = self.survey.revisions.iter().find(|link| link.digest == *digest);
        if let Some(link) = link.filter(|_| lines.is_empty()) {
            let fate = match link.pushed {
                _ if self.survey.let_go.contains(digest) => "it goes with its last tag".to_owned(),
                Some(pushed) => fate(pushed, self.options.grace_period, self.now),
                None => "its link cannot be looked at".to_owned(),
            };
            lines.push(format!("manifest {digest} of {}: nothing leads to it, {fate}", self.name));
        }
        lines
    }
}

/// What happens to garbage that was last used at a time.
fn fate(used: SystemTime, grace: Duration, now: SystemTime) -> String {
    if is_old(Some(used), grace, now) {
        return "the next run moves it to the quarantine".to_owned();
    }
    let due = Timestamp::try_from(used + grace).unwrap_or(Timestamp::MAX);
    format!("it is too young to go before {due:.0}")
}

fn belongs_to(instance: &Instance, repository: &RepositoryName) -> bool {
    match &instance.condemned {
        Condemned::Blob(_) => false,
        Condemned::Layer(name, _) | Condemned::Revision(name, _) | Condemned::Tag(name, ..) => {
            name == repository
        }
    }
}

fn is_about(instance: &Instance, subject: &Subject) -> bool {
    match (&instance.condemned, subject) {
        (Condemned::Tag(name, tag, _), Subject::In(asked, Reference::Tag(asked_tag))) => {
            name == asked && tag == asked_tag
        }
        (
            Condemned::Layer(name, digest) | Condemned::Revision(name, digest),
            Subject::In(asked, Reference::Digest(asked_digest)),
        ) => name == asked && digest == asked_digest,
        (Condemned::Blob(digest), Subject::Anywhere(asked)) => digest == asked,
        _ => false,
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::In(name, Reference::Tag(tag)) => write!(formatter, "{name}:{tag}"),
            Self::In(name, Reference::Digest(digest)) => write!(formatter, "{name}@{digest}"),
            Self::Anywhere(digest) => digest.fmt(formatter),
        }
    }
}
