//! The protocol as programs: what a push, a deletion and a collector's run do to the shared volume, step by step.

use std::ops::Range;

/// How many processes there can be.
pub(crate) const PROCESSES: usize = 5;

/// How many collectors' runs have a place in the quarantine: one that ended long ago, and two now.
pub(crate) const RUNS: usize = 3;

/// Where a push goes that is refused: no program has so many steps.
pub(crate) const REFUSED: u8 = u8::MAX;

/// Something under the protocol, as a bit in a set.
pub(crate) type Object = u8;
/// Set of objects.
pub(crate) type Objects = u8;
/// A tag, as a bit in a set.
pub(crate) type Tag = u8;

/// What the protocol asks for, and the search can do without to see what is lost then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A push looks again at all that it refers to once its tag is set.
    SecondCheck,
    /// It looks not only at links again, but also at the data they lead to.
    SecondCheckOfData,
    /// It looks not only at an index's children again, but also at what they refer to.
    SecondCheckBelowChildren,
    /// A collector lists the quarantine before it marks.
    ListBeforeMark,
    /// Every run has a quarantine of its own.
    QuarantinePerRun,
    /// A run condemns each object at most once.
    CondemnOnce,
    /// What is unreachable is moved away, not deleted at once.
    Quarantine,
    /// A tag without its revision is given it back by whoever finds it so.
    Healing,
    /// A tag that names what is deleted is removed in one step.
    RemoveTagInOneStep,
}

/// Who takes part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cast {
    /// Pushes, each by a tag of its own.
    pub(crate) pushers: u8,
    /// Whether every push is of another image, with the layer in common, or all are of the same.
    pub(crate) own_images: bool,
    /// What is pushed.
    pub(crate) shape: Shape,
    /// Who deletes.
    pub(crate) deleter: Deleter,
    /// Runs of the garbage collection.
    pub(crate) collectors: u8,
    /// Whether they have rules by which tags go.
    pub(crate) retention: bool,
}

/// What is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A layer and a revision, without telling links from data: for large casts.
    Sketch,
    /// An image: link and data of its layer, revision link and data of its manifest.
    Image,
    /// An index over an image, without telling links from data.
    Index,
}

/// Who deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deleter {
    Nobody,
    /// Somebody who deletes the first push's image.
    OfTheImage,
    /// Somebody who deletes the image that the first push's tag named before.
    OfThePrevious,
}

/// One step of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Looks for the object at its place.
    Look {
        object: Object,
        found: u8,
    },
    /// Looks for the object in the quarantine and revives it, or finds it at its place after all.
    Seek {
        object: Object,
        found: u8,
        missing: u8,
    },
    Write(Object),
    SetTag(Tag),
    ListTags,
    RemoveTag(Tag),
    /// Removes the tag if it names the previous image.
    RemovePrevious(Tag),
    /// Finds that the tag names the previous image, and goes on only then.
    CheckPrevious(Tag),
    /// Takes the tag away, whatever it names now.
    TakeTag(Tag),
    /// Puts back what was taken if it was not the previous image and nothing has come in its place.
    PutTagBack(Tag),
    Unlink(Object),
    UnlinkQuarantined(Object),
    /// Writes the revision link again when a tag names the image.
    LookAgain {
        revision: Object,
        tags: Tag,
    },
    /// Lists the quarantine of one run.
    ListQuarantine(usize),
    /// Removes the tag if a rule says so.
    LetGo(Tag),
    Mark {
        tag: Tag,
        unmarked: u8,
    },
    /// Deals with one of the instances that were listed.
    Reconcile,
    Condemn(Object),
}

#[expect(clippy::single_range_in_vec_init, reason = "it is a list of ranges")]
impl Cast {
    /// What a manifest refers to: the layer, the child manifest; each as link and data where these are told apart.
    pub(crate) fn references(self) -> Vec<Range<Object>> {
        match self.shape {
            Shape::Sketch => vec![0..1],
            Shape::Image => vec![0..2],
            Shape::Index => vec![0..1, 1..2],
        }
    }

    /// What a tag names: the revision link, and the data where it is told apart.
    pub(crate) fn manifest(self, pusher: u8) -> Range<Object> {
        let start = self.references().last().map_or(0, |range| range.end);
        let length = if self.shape == Shape::Image { 2 } else { 1 };
        let start = start + if self.own_images { length * pusher } else { 0 };
        start..start + length
    }

    /// All that must be there for a pull by the pusher's tag.
    pub(crate) fn image(self, pusher: u8) -> Objects {
        let parts = self.references().into_iter().chain([self.manifest(pusher)]);
        parts.flatten().fold(0, |image, object| image | bit(object))
    }

    /// How many objects there are.
    pub(crate) fn objects(self) -> Object {
        self.manifest(self.pushers - 1).end
    }

    /// What the numbers of objects in a story mean.
    pub(crate) fn legend(self) -> &'static str {
        match self.shape {
            Shape::Sketch => "0 the layer, 1 and up the manifests",
            Shape::Index => "0 the layer, 1 the child manifest, 2 and up the indexes",
            Shape::Image => "0 the layer's link, 1 its data, 2 the revision link, 3 the manifest's data",
        }
    }
}

/// Everybody's steps: pushers', then the deleter's, then collectors'.
pub(crate) fn programs(cast: Cast, without: Option<Rule>) -> Vec<Vec<Step>> {
    let mut programs: Vec<_> = (0..cast.pushers).map(|pusher| push(cast, without, pusher)).collect();
    if cast.deleter != Deleter::Nobody {
        programs.push(deletion(cast, without));
    }
    programs.extend((0..cast.collectors).map(|_| collection(cast, without)));
    programs
}

/// Blobs, unless they are there, and then a manifest.
fn push(cast: Cast, without: Option<Rule>, pusher: u8) -> Vec<Step> {
    let manifest = cast.manifest(pusher);
    let mut steps = Vec::new();
    for reference in cast.references() {
        let (start, length) = (next(&steps), 2 * u8::try_from(reference.len()).expect("two"));
        let (upload, end) = (start + length, start + length + length / 2);
        for object in reference.clone() {
            let found = if object + 1 == reference.end { end } else { next(&steps) + 2 };
            steps.extend(look(object, found, upload));
        }
        steps.extend(reference.rev().map(Step::Write));
    }
    steps.extend(manifest.clone().rev().map(Step::Write));
    steps.push(Step::SetTag(bit(pusher)));
    if without == Some(Rule::SecondCheck) {
        return steps;
    }
    for object in looked_at_again(cast, without) {
        let found = next(&steps) + 2;
        steps.extend(look(object, found, REFUSED));
    }
    for object in manifest.rev() {
        let start = next(&steps);
        steps.extend(ensure(object, start));
    }
    steps
}

/// Which of the objects that a manifest refers to are looked at once the tag is set.
fn looked_at_again(cast: Cast, without: Option<Rule>) -> Vec<Object> {
    let mut references = cast.references();
    match without {
        Some(Rule::SecondCheckOfData) => references.into_iter().map(|reference| reference.start).collect(),
        Some(Rule::SecondCheckBelowChildren) => references.pop().into_iter().flatten().collect(),
        _ => references.into_iter().flatten().collect(),
    }
}

/// The API's DELETE of the first push's manifest, or of the one before it.
fn deletion(cast: Cast, without: Option<Rule>) -> Vec<Step> {
    if cast.deleter == Deleter::OfThePrevious {
        return match without {
            Some(Rule::RemoveTagInOneStep) => {
                vec![Step::CheckPrevious(1), Step::TakeTag(1), Step::PutTagBack(1)]
            }
            _ => vec![Step::RemovePrevious(1)],
        };
    }
    let tags = if cast.own_images { 1 } else { bit(cast.pushers) - 1 };
    let revision = cast.manifest(0).start;
    let mut steps = vec![Step::ListTags];
    steps.extend((0..cast.pushers).map(bit).filter(|tag| tag & tags != 0).map(Step::RemoveTag));
    steps.extend([Step::Unlink(revision), Step::UnlinkQuarantined(revision)]);
    steps.push(Step::LookAgain { revision, tags });
    steps
}

/// One run of the garbage collection.
fn collection(cast: Cast, without: Option<Rule>) -> Vec<Step> {
    let lists_first = without != Some(Rule::ListBeforeMark);
    let mut steps = Vec::new();
    if lists_first {
        steps.extend((0..RUNS).map(Step::ListQuarantine));
    }
    if cast.retention {
        steps.extend((0..cast.pushers).map(bit).map(Step::LetGo));
    }
    for pusher in 0..cast.pushers {
        let (start, manifest) = (next(&steps), cast.manifest(pusher));
        let end = start + 2 + 2 * u8::try_from(manifest.len()).expect("two");
        steps.push(Step::Mark { tag: bit(pusher), unmarked: end });
        steps.extend(ensure(manifest.start, start + 1));
        steps.extend(manifest.skip(1).flat_map(|data| look(data, end, end)));
    }
    if !lists_first {
        steps.extend((0..RUNS).map(Step::ListQuarantine));
    }
    steps.push(Step::Reconcile);
    let times = if without == Some(Rule::CondemnOnce) { 2 } else { 1 };
    for object in 0..cast.objects() {
        steps.extend(std::iter::repeat_n(Step::Condemn(object), times));
    }
    steps
}

fn look(object: Object, found: u8, missing: u8) -> [Step; 2] {
    [Step::Look { object, found }, Step::Seek { object, found, missing }]
}

/// Looks for the object and writes it when it is nowhere; `start` is the first of these steps.
fn ensure(object: Object, start: u8) -> [Step; 3] {
    let [at_its_place, in_quarantine] = look(object, start + 3, start + 2);
    [at_its_place, in_quarantine, Step::Write(object)]
}

fn next(steps: &[Step]) -> u8 {
    u8::try_from(steps.len()).expect("a short program")
}

/// The set of one element.
pub(crate) fn bit(position: u8) -> u8 {
    1 << position
}

/// Whether the set has the element.
pub(crate) fn has(set: u8, position: u8) -> bool {
    set & bit(position) != 0
}
