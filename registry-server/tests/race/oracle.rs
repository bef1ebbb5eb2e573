//! What the answers of the servers let a client expect of its tags.

use std::collections::BTreeMap;

/// A repository and a tag in it.
pub(crate) type Place = (String, String);

/// What a tag may name, as far as the answers tell: digests, or `None` where it may be gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Belief {
    pub(crate) names: Vec<Option<String>>,
    /// All that was asked of it was answered: whatever it names was acknowledged, and must be whole.
    pub(crate) whole: bool,
}

/// All tags of one client, which nobody else writes.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    tags: BTreeMap<Place, Belief>,
}

impl Oracle {
    /// A push is on its way, and until it is acknowledged anything may come of it.
    pub(crate) fn pushing(&mut self, place: &Place, digest: &str) {
        let belief = self.belief(place);
        belief.names.push(Some(digest.to_owned()));
        belief.whole = false;
    }

    /// The tag names the digest for certain.
    pub(crate) fn pushed(&mut self, place: &Place, digest: &str) {
        *self.belief(place) = Belief { names: vec![Some(digest.to_owned())], whole: true };
    }

    /// The tag's deletion is on its way.
    pub(crate) fn deleting(&mut self, place: &Place) {
        self.belief(place).names.push(None);
    }

    /// The tag is gone for certain.
    pub(crate) fn deleted(&mut self, place: &Place) {
        self.tags.remove(place);
    }

    /// A deletion of the manifest, with all tags that name it, is on its way.
    pub(crate) fn deleting_manifest(&mut self, repository: &str, digest: &str) {
        for belief in self.naming(repository, digest) {
            belief.names.push(None);
        }
    }

    /// No tag names the manifest any more.
    pub(crate) fn deleted_manifest(&mut self, repository: &str, digest: &str) {
        for belief in self.naming(repository, digest) {
            belief.names.retain(|name| name.as_deref() != Some(digest));
            belief.names.push(None);
        }
        self.tags.retain(|_, belief| belief.names.iter().any(Option::is_some));
    }

    /// A push and a deletion of the same manifest were both acknowledged: either may have come last.
    pub(crate) fn pushed_or_deleted(&mut self, place: &Place, digest: &str) {
        *self.belief(place) = Belief { names: vec![Some(digest.to_owned()), None], whole: true };
    }

    /// Tags that name one manifest for certain, with its digest.
    pub(crate) fn certain(&self) -> Vec<(Place, String)> {
        let certain = self.tags.iter().filter_map(|(place, belief)| match &belief.names[..] {
            [Some(digest)] if belief.whole => Some((place.clone(), digest.clone())),
            _ => None,
        });
        certain.collect()
    }

    /// Tags of which something is not known.
    pub(crate) fn uncertain(&self) -> Vec<Place> {
        let certain = |belief: &Belief| belief.whole && belief.names.len() == 1;
        self.tags.iter().filter(|(_, belief)| !certain(belief)).map(|(place, _)| place.clone()).collect()
    }

    /// All tags that may exist.
    pub(crate) fn tags(&self) -> impl Iterator<Item = (&Place, &Belief)> {
        self.tags.iter()
    }

    fn belief(&mut self, place: &Place) -> &mut Belief {
        let nothing = || Belief { names: vec![None], whole: true };
        self.tags.entry(place.clone()).or_insert_with(nothing)
    }

    fn naming(&mut self, repository: &str, digest: &str) -> impl Iterator<Item = &mut Belief> {
        let here = self.tags.iter_mut().filter(move |((name, _), _)| name == repository);
        here.map(|(_, belief)| belief)
            .filter(move |belief| belief.names.iter().any(|name| name.as_deref() == Some(digest)))
    }
}
