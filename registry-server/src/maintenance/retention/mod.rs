//! Which tags stay and which go: rules and protection, compiled, and the decision for one repository's tags.
//!
//! Nothing here reads or writes, so that a dry run, a run and an explanation decide alike. For each tag the first
//! policy that is about it decides, and any one of that policy's rules keeps it. Counting rules count all of the
//! repository's tags under the policy, those that are protected too: what a number keeps does not depend on what runs
//! at the moment. Tags pushed or pulled at the same time are counted in the order of their names. What is protected
//! stays whatever the rules say.

mod verdict;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use regex::Regex;

pub use verdict::{Kept, LetGo, Verdict};

use crate::config::{Keep, ProtectedImage, Protection, Retention, RetentionPolicy, Untagged};
use crate::types::repository_glob::ParseGlobError;
use crate::types::{Digest, Reference, RepositoryGlob, RepositoryName, Tag};

/// Rules and protection, ready to decide. The default knows nothing and so lets nothing go.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    policies: Vec<Policy>,
    /// Tags that stay in every repository.
    protected: Vec<Regex>,
    /// What workloads use, and who does.
    pins: HashMap<RepositoryName, HashMap<Reference, String>>,
    /// Whether `pins` is all that workloads use.
    complete: bool,
}

/// A rule or a protected image that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Error {
    /// Where it stands in its file, like `policies[2].keep.patterns[0]`.
    pub field: String,
    /// What is wrong with it, in one line.
    pub reason: String,
}

/// What is known about a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagFacts {
    /// The tag.
    pub tag: Tag,
    /// The manifest that it names.
    pub digest: Digest,
    /// When it was last pushed.
    pub pushed: SystemTime,
    /// When it was last pulled, if that is known.
    pub pulled: Option<SystemTime>,
}

#[derive(Clone, Debug)]
struct Policy {
    repositories: Vec<RepositoryGlob>,
    tags: Option<Regex>,
    keep: Option<Keep>,
    /// [`Keep::patterns`], compiled.
    patterns: Vec<Regex>,
    untagged: Option<Untagged>,
}

/// Where a tag stands under the policy that is about it.
struct Standing {
    /// The policy's place in the list.
    policy: usize,
    /// Its place among the policy's tags by push, from 1.
    pushed: usize,
    /// Its place among them by pull, from 1, if it was ever pulled.
    pulled: Option<usize>,
}

impl Rules {
    /// Reads the rules.
    ///
    /// # Errors
    /// A glob, a regular expression or an image that cannot be read, and rules that cannot be meant: a policy about
    /// no repository, and one whose `keep` has no rule.
    pub fn compile(retention: &Retention, protection: &Protection) -> Result<Self, Error> {
        let policies = retention.policies.iter().enumerate();
        let policies = policies.map(|(index, policy)| Policy::compile(&format!("policies[{index}]"), policy));
        Ok(Self {
            policies: policies.collect::<Result<_, _>>()?,
            protected: compile_patterns("tags", &protection.tags)?,
            pins: compile_pins(&protection.images)?,
            complete: protection.complete,
        })
    }

    /// Whether any policy is about the repository. If none is, no tag of it goes.
    #[must_use]
    pub fn is_about(&self, repository: &RepositoryName) -> bool {
        self.policies.iter().any(|policy| policy.covers(repository))
    }

    /// What becomes of each of a repository's tags, in the order in which they are given.
    #[must_use]
    pub fn judge(&self, repository: &RepositoryName, tags: &[TagFacts], now: SystemTime) -> Vec<Verdict> {
        let standings = self.standings(repository, tags);
        let judged = tags.iter().zip(standings).map(|(facts, standing)| {
            let Some(standing) = standing else { return Verdict::Keep(Kept::NoPolicy) };
            let policy = &self.policies[standing.policy];
            let kept = policy.keeps(&standing, facts, now).or_else(|| self.protects(repository, facts));
            kept.map_or_else(|| Verdict::Go(LetGo::new(&standing, facts, now)), Verdict::Keep)
        });
        judged.collect()
    }

    /// What a repository's policies say of manifests without a tag: the first that says anything. While it is not
    /// known what workloads use, all are kept.
    #[must_use]
    pub fn untagged(&self, repository: &RepositoryName) -> Option<Untagged> {
        if !self.complete {
            return Some(Untagged::Keep);
        }
        let mut about = self.policies.iter().filter(|policy| policy.covers(repository));
        about.find_map(|policy| policy.untagged)
    }

    /// The tags and manifests of a repository that workloads use, in no order, and who does. An image that was given
    /// by tag and digest counts as both.
    pub fn pins(&self, repository: &RepositoryName) -> impl Iterator<Item = (&Reference, &str)> {
        self.pins.get(repository).into_iter().flatten().map(|(pin, by)| (pin, by.as_str()))
    }

    /// Who uses a tag or manifest of a repository; empty when somebody without a name does.
    #[must_use]
    pub fn used_by(&self, repository: &RepositoryName, reference: &Reference) -> Option<&str> {
        self.pins.get(repository)?.get(reference).map(String::as_str)
    }

    /// Whether all that workloads use is known. If not, nothing goes.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Under which policy each tag is, and where it stands there.
    fn standings(&self, repository: &RepositoryName, tags: &[TagFacts]) -> Vec<Option<Standing>> {
        let mut standings: Vec<Option<Standing>> = tags.iter().map(|_| None).collect();
        for (index, policy) in self.policies.iter().enumerate() {
            if !policy.covers(repository) {
                continue;
            }
            let untaken = (0..tags.len()).filter(|tag| standings[*tag].is_none());
            let mut own: Vec<usize> = untaken.filter(|tag| policy.is_about(&tags[*tag].tag)).collect();
            own.sort_by_key(|tag| (Reverse(tags[*tag].pushed), &tags[*tag].tag));
            for (place, tag) in own.iter().enumerate() {
                standings[*tag] = Some(Standing { policy: index, pushed: place + 1, pulled: None });
            }
            own.retain(|tag| tags[*tag].pulled.is_some());
            own.sort_by_key(|tag| (Reverse(tags[*tag].pulled), &tags[*tag].tag));
            for (place, tag) in own.into_iter().enumerate() {
                if let Some(standing) = &mut standings[tag] {
                    standing.pulled = Some(place + 1);
                }
            }
        }
        standings
    }

    /// Why a tag stays that its policy lets go.
    fn protects(&self, repository: &RepositoryName, facts: &TagFacts) -> Option<Kept> {
        if let Some(pattern) = first_match(&self.protected, &facts.tag) {
            return Some(Kept::Protected { pattern });
        }
        let by_digest = || self.used_by(repository, &Reference::Digest(facts.digest.clone()));
        match self.used_by(repository, &Reference::Tag(facts.tag.clone())).or_else(by_digest) {
            Some(by) => Some(Kept::Used { by: by.to_owned() }),
            None => (!self.complete).then_some(Kept::UseUnknown),
        }
    }
}

impl Policy {
    fn compile(field: &str, policy: &RetentionPolicy) -> Result<Self, Error> {
        let keep_field = format!("{field}.keep");
        let patterns = policy.keep.as_ref().map_or(&[][..], |keep| &keep.patterns);
        if policy.keep.as_ref() == Some(&Keep::default()) {
            let reason =
                "it has no rule; leave it out to keep all tags, or set mostRecentlyPushed to 0 to keep none";
            return Err(Error::new(keep_field, reason));
        }
        let tags = policy.tags.as_deref().map(|text| compile_regex(&format!("{field}.tags"), text));
        Ok(Self {
            repositories: compile_globs(&format!("{field}.repositories"), &policy.repositories)?,
            tags: tags.transpose()?,
            keep: policy.keep.clone(),
            patterns: compile_patterns(&format!("{keep_field}.patterns"), patterns)?,
            untagged: policy.untagged,
        })
    }

    fn covers(&self, repository: &RepositoryName) -> bool {
        self.repositories.iter().any(|glob| glob.matches(repository))
    }

    fn is_about(&self, tag: &Tag) -> bool {
        self.tags.as_ref().is_none_or(|tags| tags.is_match(tag.as_str()))
    }

    /// The first rule that keeps a tag.
    fn keeps(&self, standing: &Standing, facts: &TagFacts, now: SystemTime) -> Option<Kept> {
        let policy = standing.policy;
        let Some(keep) = &self.keep else { return Some(Kept::NoRules { policy }) };
        if let Some(count) = keep.most_recently_pushed.filter(|count| is_within(standing.pushed, *count)) {
            return Some(Kept::MostRecentlyPushed { policy, count, place: standing.pushed });
        }
        if let (Some(count), Some(place)) = (keep.most_recently_pulled, standing.pulled)
            && is_within(place, count)
        {
            return Some(Kept::MostRecentlyPulled { policy, count, place });
        }
        let age = age(facts.pushed, now);
        if let Some(limit) = keep.pushed_within.filter(|limit| age <= *limit) {
            return Some(Kept::PushedWithin { policy, limit, age });
        }
        if let (Some(limit), Some(age)) =
            (keep.pulled_within, facts.pulled.map(|pulled| self::age(pulled, now)))
            && age <= limit
        {
            return Some(Kept::PulledWithin { policy, limit, age });
        }
        first_match(&self.patterns, &facts.tag).map(|pattern| Kept::Pattern { policy, pattern })
    }
}

impl LetGo {
    fn new(standing: &Standing, facts: &TagFacts, now: SystemTime) -> Self {
        Self {
            policy: standing.policy,
            place: standing.pushed,
            pushed: age(facts.pushed, now),
            pulled: facts.pulled.map(|pulled| age(pulled, now)),
        }
    }
}

impl Error {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

fn is_within(place: usize, count: u32) -> bool {
    u32::try_from(place).is_ok_and(|place| place <= count)
}

/// How long ago a time was; what another clock has put into the future is now.
fn age(time: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(time).unwrap_or_default()
}

fn first_match(patterns: &[Regex], tag: &Tag) -> Option<String> {
    let found = patterns.iter().find(|pattern| pattern.is_match(tag.as_str()));
    found.map(|pattern| pattern.as_str().to_owned())
}

fn compile_globs(field: &str, globs: &[String]) -> Result<Vec<RepositoryGlob>, Error> {
    if globs.is_empty() {
        return Err(Error::new(field, "it names no repository; ** stands for all"));
    }
    let globs = globs.iter().enumerate();
    let compiled = globs.map(|(index, glob)| {
        glob.parse()
            .map_err(|error: ParseGlobError| Error::new(format!("{field}[{index}]"), error.to_string()))
    });
    compiled.collect()
}

fn compile_patterns(field: &str, patterns: &[String]) -> Result<Vec<Regex>, Error> {
    let patterns = patterns.iter().enumerate();
    patterns.map(|(index, pattern)| compile_regex(&format!("{field}[{index}]"), pattern)).collect()
}

fn compile_regex(field: &str, pattern: &str) -> Result<Regex, Error> {
    Regex::new(pattern).map_err(|error| {
        // The text has a picture of the pattern before the reason, which a status or a log line cannot show.
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default();
        Error::new(field, reason.strip_prefix("error: ").unwrap_or(reason))
    })
}

fn compile_pins(
    images: &[ProtectedImage],
) -> Result<HashMap<RepositoryName, HashMap<Reference, String>>, Error> {
    let mut pins: HashMap<_, HashMap<_, _>> = HashMap::new();
    for (index, ProtectedImage { image, by }) in images.iter().enumerate() {
        let wrong = |reason: String| Error::new(format!("images[{index}]"), format!("{image:?}: {reason}"));
        let (repository, references) = parse_image(image).map_err(wrong)?;
        let used = pins.entry(repository).or_default();
        for reference in references {
            // Of many users one is enough to say why an image stays.
            used.entry(reference).or_insert_with(|| by.clone());
        }
    }
    Ok(pins)
}

/// Takes `repository[:tag][@digest]` apart.
fn parse_image(image: &str) -> Result<(RepositoryName, Vec<Reference>), String> {
    let (tagged, digest) = match image.split_once('@') {
        Some((tagged, digest)) => (tagged, Some(digest)),
        None => (image, None),
    };
    let (repository, tag) = match tagged.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (tagged, digest.is_none().then_some("latest")),
    };
    let tag = tag.map(parse).transpose()?.map(Reference::Tag);
    let digest = digest.map(parse).transpose()?.map(Reference::Digest);
    Ok((parse(repository)?, tag.into_iter().chain(digest).collect()))
}

fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

#[cfg(test)]
mod tests;
