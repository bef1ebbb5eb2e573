//! What is live in one repository: from its roots, through everything that leads on.
//!
//! Tags, indexes, subjects and the tags under which signatures are kept are edges of one graph. Each manifest that is
//! live knows why, so that anything that is kept can be explained.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;

use crate::registry::Registry;
use crate::types::manifest::References;
use crate::types::{Algorithm, Digest, RepositoryName, Tag};

/// From where a repository is marked.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// Tags that stay.
    pub tags: Vec<(Tag, Digest)>,
    /// By manifest, the tags that say something about it and stay as long as it does.
    pub accessories: HashMap<Digest, Vec<(Tag, Digest)>>,
    /// Manifests that workloads use, and who does.
    pub pins: Vec<(Digest, String)>,
    /// Manifests that stay for their own sake, and why.
    pub manifests: Vec<(Digest, Why)>,
    /// All manifests that the repository has, or has in the quarantine.
    pub known: HashSet<Digest>,
    /// What is known already to be unreadable, in words.
    pub unreadable: BTreeSet<String>,
}

/// Why a manifest is live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A tag names it.
    Tag(Tag),
    /// A workload uses it by its digest.
    Used(String),
    /// Manifests without a tag are kept.
    Untagged,
    /// It was pushed, or asked for by its digest, within the grace period.
    Young,
    /// An index lists it.
    ChildOf(Digest),
    /// Its subject is live.
    RefersTo(Digest),
    /// A tag names it that says something about a live manifest.
    AccessoryOf(Tag, Digest),
    /// Something in the repository cannot be read, and might lead to it.
    Unreadable,
}

/// A repository's live content.
#[derive(Debug, Default)]
pub(super) struct Marked {
    /// The live manifests.
    pub manifests: HashMap<Digest, LiveManifest>,
    /// The blobs that live manifests refer to.
    pub blobs: HashMap<Digest, LiveLayer>,
    /// What cannot be read, in words; if there is any, all manifests are live.
    pub unreadable: BTreeSet<String>,
}

/// A live manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LiveManifest {
    /// Why it is live.
    pub why: Why,
    /// Its size in bytes; 0 if it cannot be read.
    pub size: u64,
}

/// A blob that a live manifest refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LiveLayer {
    /// The manifest.
    pub manifest: Digest,
    /// What the manifest says that the blob's size is, in bytes; 0 if nothing.
    pub size: u64,
}

impl Marked {
    /// Whether all that the repository has must be kept.
    pub(super) fn is_whole(&self) -> bool {
        !self.unreadable.is_empty()
    }

    pub(super) fn is_live(&self, manifest: &Digest) -> bool {
        self.manifests.contains_key(manifest)
    }
}

/// What a manifest's digest led to.
enum Look {
    /// What it refers to, and its size in bytes.
    Manifest(References, u64),
    Missing,
    Unreadable(String),
}

/// Marks a repository.
pub(super) async fn mark(registry: &Registry, name: &RepositoryName, roots: &Roots) -> Marked {
    let mut marking = Marking {
        registry,
        name,
        roots,
        marked: Marked::default(),
        read: HashMap::new(),
        referrers: HashMap::new(),
        pending: VecDeque::new(),
    };
    marking.begin();
    marking.spread().await;
    marking.find_referrers().await;
    marking.spread().await;
    marking.finish().await
}

/// All manifests to which some lead, and those too: children, referrers and what accessory tags name.
pub(super) async fn closure(
    registry: &Registry,
    name: &RepositoryName,
    roots: &Roots,
    start: Vec<(Tag, Digest)>,
) -> HashSet<Digest> {
    let roots = Roots {
        tags: start,
        accessories: roots.accessories.clone(),
        known: roots.known.clone(),
        ..Roots::default()
    };
    let marked = mark(registry, name, &roots).await;
    // What cannot be read leads nowhere that may be let go.
    if marked.is_whole() { HashSet::new() } else { marked.manifests.into_keys().collect() }
}

struct Marking<'a> {
    registry: &'a Registry,
    name: &'a RepositoryName,
    roots: &'a Roots,
    marked: Marked,
    /// Manifests that were read before they were found to be live.
    read: HashMap<Digest, (References, u64)>,
    /// Manifests by their subject.
    referrers: HashMap<Digest, Vec<Digest>>,
    pending: VecDeque<(Digest, Why)>,
}

impl Marking<'_> {
    fn begin(&mut self) {
        let roots = self.roots;
        let tags = roots.tags.iter().map(|(tag, digest)| (digest.clone(), Why::Tag(tag.clone())));
        let pins = roots.pins.iter().filter(|(digest, _)| roots.known.contains(digest));
        let pins = pins.map(|(digest, by)| (digest.clone(), Why::Used(by.clone())));
        // The last is looked at first: a tag is the best reason to be kept.
        self.marked.unreadable.clone_from(&roots.unreadable);
        self.pending = roots.manifests.iter().cloned().chain(pins).chain(tags).collect();
    }

    async fn spread(&mut self) {
        while let Some((digest, why)) = self.pending.pop_front() {
            if self.marked.manifests.contains_key(&digest) {
                continue;
            }
            let look = match self.read.remove(&digest) {
                Some((references, size)) => Look::Manifest(references, size),
                None => look(self.registry, self.name, &digest).await,
            };
            match look {
                Look::Manifest(references, size) => self.add(digest, LiveManifest { why, size }, references),
                Look::Missing if matches!(why, Why::Tag(_) | Why::ChildOf(_)) => self.miss(&digest, &why),
                // A link to nothing leads to nothing.
                Look::Missing => {}
                Look::Unreadable(reason) => {
                    self.marked.unreadable.insert(reason);
                }
            }
        }
    }

    fn add(&mut self, digest: Digest, live: LiveManifest, references: References) {
        for (blob, size) in references.blobs {
            let layer = || LiveLayer { manifest: digest.clone(), size };
            self.marked.blobs.entry(blob).or_insert_with(layer);
        }
        for child in references.children {
            self.pending.push_back((child, Why::ChildOf(digest.clone())));
        }
        for referrer in self.referrers.remove(&digest).unwrap_or_default() {
            self.pending.push_back((referrer, Why::RefersTo(digest.clone())));
        }
        for (tag, accessory) in self.roots.accessories.get(&digest).into_iter().flatten() {
            self.pending.push_back((accessory.clone(), Why::AccessoryOf(tag.clone(), digest.clone())));
        }
        self.marked.manifests.insert(digest, live);
    }

    /// A child that the repository has never had is no damage: an index may list more than there is.
    fn miss(&mut self, digest: &Digest, why: &Why) {
        if matches!(why, Why::Tag(_)) || self.roots.known.contains(digest) {
            self.marked.unreadable.insert(format!("{}: manifest {digest} is missing, {why}", self.name));
        }
    }

    /// Reads the manifests that nothing has led to, for some of them may be about one that is live.
    async fn find_referrers(&mut self) {
        for digest in &self.roots.known {
            if self.marked.manifests.contains_key(digest) {
                continue;
            }
            match look(self.registry, self.name, digest).await {
                Look::Manifest(references, size) => {
                    if let Some(subject) = &references.subject {
                        if self.marked.manifests.contains_key(subject) {
                            self.pending.push_back((digest.clone(), Why::RefersTo(subject.clone())));
                        } else {
                            self.referrers.entry(subject.clone()).or_default().push(digest.clone());
                        }
                    }
                    self.read.insert(digest.clone(), (references, size));
                }
                Look::Missing => {}
                Look::Unreadable(reason) => {
                    self.marked.unreadable.insert(reason);
                }
            }
        }
    }

    async fn finish(mut self) -> Marked {
        if self.marked.is_whole() {
            let rest = self.roots.known.iter().map(|digest| (digest.clone(), Why::Unreadable));
            self.pending.extend(rest);
            self.spread().await;
            for digest in &self.roots.known {
                let unreadable = LiveManifest { why: Why::Unreadable, size: 0 };
                self.marked.manifests.entry(digest.clone()).or_insert(unreadable);
            }
        }
        self.marked
    }
}

async fn look(registry: &Registry, name: &RepositoryName, digest: &Digest) -> Look {
    let stored = match digest.algorithm() {
        Algorithm::Sha256 => Ok(Some(digest.clone())),
        Algorithm::Sha512 => registry.stored_manifest(name, digest).await,
    };
    let bytes = match stored {
        Ok(Some(stored)) => registry.peek_blob(&stored).await,
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    match bytes {
        Ok(Some(bytes)) => match References::of(&bytes) {
            Ok(references) => Look::Manifest(references, bytes.len() as u64),
            Err(error) => Look::Unreadable(format!("{name}: manifest {digest}: {error}")),
        },
        Ok(None) => Look::Missing,
        Err(error) => Look::Unreadable(format!("{name}: manifest {digest}: {}", super::causes(&error))),
    }
}

impl fmt::Display for Why {
    /// Goes on from "it is kept because" or "it was looked for because".
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(formatter, "tag {tag} names it"),
            Self::Used(by) if by.is_empty() => write!(formatter, "a workload uses it"),
            Self::Used(by) => write!(formatter, "{by} uses it"),
            Self::Untagged => write!(formatter, "manifests without a tag are kept"),
            Self::Young => write!(formatter, "it was pushed or asked for within the grace period"),
            Self::ChildOf(index) => write!(formatter, "index {index} lists it"),
            Self::RefersTo(subject) => write!(formatter, "it is about {subject}"),
            Self::AccessoryOf(tag, subject) => {
                write!(formatter, "tag {tag} names it, which is about {subject}")
            }
            Self::Unreadable => write!(formatter, "something in the repository cannot be read"),
        }
    }
}
