//! Runs over small registries in memory: what goes, what stays, and why.

mod faults;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::retention::Rules;
use super::{
    Action, Collection, Error, Event, Item, Kind, Options, Subject, Summary, explain, purge, quarantined,
    restore,
};
use crate::config::{Keep, ProtectedImage, Protection, Retention, RetentionPolicy, Untagged};
use crate::registry::{Chunk, Registry};
use crate::storage::{ByteStream, Durability, Key, Memory, Storage as _};
use crate::types::{Algorithm, Digest, Hasher, Reference, RepositoryName, Tag};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const HOUR: Duration = Duration::from_secs(3600);

struct House {
    storage: Arc<Memory>,
    registry: Registry,
}

fn house() -> House {
    let storage = Arc::new(Memory::default());
    House { registry: Registry::new(Arc::<Memory>::clone(&storage)), storage }
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn sha256(bytes: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, bytes)
}

fn keep_all() -> Rules {
    Rules::compile(&Retention::default(), &Protection::default()).unwrap()
}

/// Rules that keep so many tags of every repository.
fn keep_newest(count: u32, protection: &Protection) -> Rules {
    let policy = RetentionPolicy {
        repositories: vec!["**".into()],
        keep: Some(Keep { most_recently_pushed: Some(count), ..Keep::default() }),
        ..RetentionPolicy::default()
    };
    Rules::compile(&Retention { policies: vec![policy] }, protection).unwrap()
}

fn options(rules: Rules) -> Options {
    Options {
        dry_run: false,
        delete_untagged: true,
        grace_period: Duration::ZERO,
        rules,
        uploads_older_than: None,
        time_budget: None,
        io_limit: None,
    }
}

fn descriptor(digest: &Digest, size: usize) -> String {
    format!(r#"{{"mediaType":"x/y","digest":"{digest}","size":{size}}}"#)
}

impl House {
    async fn blob(&self, repository: &str, bytes: &str, digest: Option<&Digest>) -> Digest {
        let own = sha256(bytes.as_bytes());
        let id = self.registry.start_upload(&name(repository)).await.unwrap();
        let body: ByteStream = Box::pin(futures::stream::iter([Ok(Bytes::from(bytes.to_owned()))]));
        let chunk = Chunk { range: None, length: None, body };
        self.registry.finish_upload(&name(repository), id, chunk, digest.unwrap_or(&own)).await.unwrap();
        own
    }

    /// Pushes an image with one layer, which is its name, and gives its digest.
    async fn image(
        &self,
        repository: &str,
        reference: Option<&str>,
        layer: &str,
        subject: Option<&Digest>,
    ) -> Digest {
        let (config, size) = (self.blob(repository, "{}", None).await, layer.len());
        let layer = self.blob(repository, layer, None).await;
        let subject =
            subject.map(|subject| format!(r#","subject":{}"#, descriptor(subject, 1))).unwrap_or_default();
        let text = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]{subject}}}"#,
            descriptor(&config, 2),
            descriptor(&layer, size)
        );
        self.manifest(repository, reference, IMAGE, &text).await
    }

    async fn index(&self, repository: &str, tag: &str, child: &Digest) -> Digest {
        let child = format!(r#"{{"mediaType":"{IMAGE}","digest":"{child}","size":1}}"#);
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{child}]}}"#);
        self.manifest(repository, Some(tag), INDEX, &text).await
    }

    async fn manifest(&self, repository: &str, tag: Option<&str>, kind: &str, text: &str) -> Digest {
        let reference = match tag {
            Some(tag) => Reference::Tag(tag.parse().unwrap()),
            None => Reference::Digest(sha256(text.as_bytes())),
        };
        let bytes = Bytes::from(text.to_owned());
        self.registry
            .put_manifest(&name(repository), &reference, &[], Some(kind), bytes)
            .await
            .unwrap()
            .digest
    }

    async fn delete_tag(&self, repository: &str, tag: &str) {
        self.registry.delete_tag(&name(repository), &tag.parse().unwrap()).await.unwrap();
    }

    async fn run(&self, options: Options) -> (Summary, Vec<Item>) {
        let mut collection = Collection::new(&self.registry, options);
        let mut items = Vec::new();
        let observe = &mut |event: Event<'_>| {
            if let Event::Did(item) = event {
                items.push(item.clone());
            }
        };
        collection.run(observe).await.unwrap();
        (collection.summary(), items)
    }

    /// Runs until there is nothing left to do.
    async fn run_out(&self, options: &Options) {
        for _ in 0..5 {
            if self.run(options.clone()).await.1.is_empty() {
                return;
            }
        }
        panic!("the runs do not come to an end");
    }

    /// Whether an image can be pulled whole by a tag or digest, without asking the registry for its help.
    async fn is_whole(&self, repository: &str, reference: &str) -> bool {
        let name = name(repository);
        let Ok(manifest) = self.registry.get_manifest(&name, &reference.parse().unwrap()).await else {
            return false;
        };
        let references = crate::types::manifest::References::of(&manifest.bytes).unwrap();
        for (blob, _) in &references.blobs {
            if self.registry.open_blob(&name, blob).await.is_err() {
                return false;
            }
        }
        for child in &references.children {
            if !Box::pin(self.is_whole(repository, &child.to_string())).await {
                return false;
            }
        }
        true
    }

    async fn tags(&self) -> BTreeSet<(String, String)> {
        let mut tags = BTreeSet::new();
        for repository in self.registry.repositories().await.unwrap() {
            for link in self.registry.tag_links(&repository).await.unwrap() {
                tags.insert((repository.to_string(), link.tag.to_string()));
            }
        }
        tags
    }

    /// The tags that can be pulled whole.
    async fn whole_tags(&self) -> BTreeSet<(String, String)> {
        let mut tags = self.tags().await;
        for (repository, tag) in tags.clone() {
            if !self.is_whole(&repository, &tag).await {
                tags.remove(&(repository, tag));
            }
        }
        tags
    }

    fn paths(&self) -> BTreeSet<String> {
        self.storage.paths()
    }
}

fn tags_of(items: &[Item]) -> Vec<String> {
    let tags = items.iter().filter(|item| item.kind == Kind::Tag && item.action == Action::Condemn);
    tags.map(|item| item.tag.as_ref().unwrap().to_string()).collect()
}

#[tokio::test]
async fn garbage_is_condemned_by_one_run_and_deleted_by_the_next() {
    let house = house();
    house.image("a", Some("v1"), "one", None).await;
    let before = house.paths();
    house.image("a", Some("v2"), "two", None).await;
    house.image("b/c", Some("v1"), "three", None).await;
    house.delete_tag("a", "v2").await;
    house.delete_tag("b/c", "v1").await;

    let (first, _) = house.run(options(keep_all())).await;
    assert!(first.complete);
    assert_eq!((first.manifests_deleted, first.blobs_condemned, first.blobs_deleted), (2, 4, 0));
    assert_eq!((first.blobs, first.blobs_quarantined), (3, 4));
    let (second, _) = house.run(options(keep_all())).await;
    assert_eq!((second.blobs_condemned, second.blobs_deleted, second.blobs_quarantined), (0, 4, 0));
    assert_eq!(second.bytes_reclaimed, first.bytes_condemned);
    house.run_out(&options(keep_all())).await;
    assert_eq!(house.paths(), before, "what is left is as if the rest had never been");
}

#[tokio::test]
async fn nothing_young_is_touched_and_untagged_manifests_only_when_asked() {
    let house = house();
    house.image("a", Some("v1"), "one", None).await;
    let untagged = house.image("a", None, "two", None).await;
    house.blob("a", "unused", None).await;
    let before = house.paths();
    let (young, items) = house.run(Options { grace_period: HOUR, ..options(keep_all()) }).await;
    assert_eq!((young.blobs, items), (6, Vec::new()));
    assert_eq!(house.paths(), before);

    house.storage.age_all(2 * HOUR);
    let patient = Options { grace_period: HOUR, delete_untagged: false, ..options(keep_all()) };
    let (old, items) = house.run(patient).await;
    let condemned: Vec<_> = items.iter().map(|item| item.kind).collect();
    assert_eq!(condemned, [Kind::Layer, Kind::Blob], "only what was uploaded and never used");
    assert_eq!(old.manifests_deleted, 0);
    let (third, _) = house.run(Options { grace_period: HOUR, ..options(keep_all()) }).await;
    assert_eq!((third.manifests_deleted, third.blobs_deleted), (1, 0), "the quarantine is young");
    assert!(house.is_whole("a", &untagged.to_string()).await, "and what is asked for comes back");
}

#[tokio::test]
async fn indexes_referrers_and_signatures_are_kept_with_what_they_belong_to_and_go_with_it() {
    let house = house();
    let child = house.image("a", None, "child", None).await;
    let index = house.index("a", "multi", &child).await;
    let referrer = house.image("a", None, "sbom", Some(&child)).await;
    let second = house.image("a", None, "signature of the sbom", Some(&referrer)).await;
    let cosign = format!("sha256-{}.sig", index.hex());
    house.image("a", Some(&cosign), "signature", None).await;
    let elsewhere = format!("sha256-{}.sig", sha256(b"image of another repository").hex());
    house.image("a", Some(&elsewhere), "foreign", None).await;

    let before = house.paths();
    let (_, items) = house.run(options(keep_all())).await;
    assert_eq!(items, []);
    assert_eq!(house.paths(), before);
    assert_eq!(house.registry.recorded_referrers(&name("a")).await.unwrap().len(), 2);

    house.delete_tag("a", "multi").await;
    let (summary, items) = house.run(options(keep_all())).await;
    assert_eq!(tags_of(&items), [cosign]);
    assert_eq!((summary.tags_deleted, summary.manifests_deleted), (1, 5));
    house.run_out(&options(keep_all())).await;
    for gone in [&child, &index, &referrer, &second] {
        assert!(!house.is_whole("a", &gone.to_string()).await);
    }
    assert_eq!(house.registry.recorded_referrers(&name("a")).await.unwrap(), []);
    assert!(
        house.is_whole("a", &elsewhere).await,
        "a signature whose image is elsewhere is an image of its own"
    );
}

#[tokio::test]
async fn retention_lets_tags_go_and_a_manifest_with_its_last() {
    let house = house();
    for (place, tag) in ["v1", "v2", "v3"].into_iter().enumerate() {
        house.image("a", Some(tag), if place < 2 { "shared" } else { "own" }, None).await;
        house.storage.age_all(HOUR);
    }
    let dry =
        Options { dry_run: true, delete_untagged: false, ..options(keep_newest(1, &Protection::default())) };
    let before = house.paths();
    let (_, planned) = house.run(dry.clone()).await;
    assert_eq!(house.paths(), before, "a dry run changes nothing");
    let (summary, done) = house.run(Options { dry_run: false, ..dry }).await;
    assert_eq!(planned, done, "a dry run tells what a run does");
    assert_eq!(tags_of(&done), ["v1", "v2"]);
    assert_eq!((summary.tags_deleted, summary.manifests_deleted, summary.blobs_condemned), (2, 1, 2));
    assert!(house.is_whole("a", "v3").await && !house.is_whole("a", "v1").await);

    assert_eq!(restore(&house.registry, &["a:v1".to_owned()]).await.unwrap(), 1);
    assert!(house.is_whole("a", "v1").await, "a tag that is restored brings everything back");
}

#[tokio::test]
async fn what_workloads_use_stays_and_when_that_is_unknown_everything_does() {
    let house = house();
    let mut digests = Vec::new();
    for tag in ["v1", "v2", "v3"] {
        digests.push(house.image("a", Some(tag), tag, None).await);
        house.storage.age_all(HOUR);
    }
    house.delete_tag("a", "v2").await;
    let images = [("a:v1".to_owned(), "Deployment x/y"), (format!("a@{}", digests[1]), "Pod x/z")];
    let images = images.map(|(image, by)| ProtectedImage { image, by: by.to_owned() }).to_vec();
    let mut protection = Protection { complete: false, images, ..Protection::default() };
    let (_, items) = house.run(options(keep_newest(0, &protection))).await;
    assert_eq!(items, []);

    protection.complete = true;
    let (summary, items) = house.run(options(keep_newest(0, &protection))).await;
    assert_eq!((tags_of(&items), summary.protected_by_workloads), (vec!["v3".to_owned()], 2));
    house.run_out(&options(keep_newest(0, &protection))).await;
    assert!(house.is_whole("a", "v1").await && house.is_whole("a", &digests[1].to_string()).await);
    assert!(!house.is_whole("a", &digests[2].to_string()).await);
}

#[tokio::test]
async fn what_cannot_be_read_keeps_its_repository_and_no_other() {
    for damage in ["{", "[]", ""] {
        let house = house();
        let broken = house.image("a", Some("v1"), "one", None).await;
        let untagged = house.image("a", None, "two", None).await;
        let other = house.image("b", None, "three", None).await;
        house.storage.put(Key::BlobData(&broken), damage.as_bytes(), Durability::Durable).await.unwrap();
        let (summary, _) = house.run(options(keep_all())).await;
        assert!(summary.complete && summary.warnings == 1, "{summary:?}");
        assert!(summary.messages[0].contains(&broken.to_string()), "{summary:?}");
        house.run_out(&options(keep_all())).await;
        assert!(house.is_whole("a", &untagged.to_string()).await, "after {damage:?}");
        assert!(!house.is_whole("b", &other.to_string()).await);
    }
}

#[tokio::test]
async fn a_policy_decides_about_untagged_manifests_of_its_repositories() {
    let policies = [("a", Untagged::Keep), ("b", Untagged::Delete)].map(|(repository, untagged)| {
        let repositories = vec![repository.to_owned()];
        RetentionPolicy { repositories, untagged: Some(untagged), ..RetentionPolicy::default() }
    });
    let rules = Rules::compile(&Retention { policies: policies.to_vec() }, &Protection::default()).unwrap();
    for (delete_untagged, expected) in [(true, 2), (false, 1)] {
        let house = house();
        for repository in ["a", "b", "c"] {
            house.image(repository, None, repository, None).await;
        }
        let (summary, _) = house.run(Options { delete_untagged, ..options(rules.clone()) }).await;
        assert_eq!(summary.manifests_deleted, expected, "untagged: {delete_untagged}");
    }
}

#[tokio::test]
async fn a_blob_known_by_sha512_is_kept_under_both_names() {
    let house = house();
    let long = Hasher::digest(Algorithm::Sha512, b"layer");
    house.blob("a", "layer", Some(&long)).await;
    let config = house.blob("a", "{}", None).await;
    let (config, layer) = (descriptor(&config, 2), descriptor(&long, 5));
    let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
    house.manifest("a", Some("v1"), IMAGE, &text).await;
    let (_, items) = house.run(options(keep_all())).await;
    assert_eq!(items, []);
    assert!(house.is_whole("a", "v1").await);
}

#[tokio::test]
async fn a_manifest_known_by_sha512_stays_with_its_tag_and_comes_back_from_the_quarantine() {
    let house = house();
    let config = house.blob("a", "{}", None).await;
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"x/y","digest":"{config}","size":2}},"layers":[]}}"#
    );
    let digest = Hasher::digest(Algorithm::Sha512, text.as_bytes());
    let (reference, tag) = (Reference::Digest(digest.clone()), "v1".parse::<Tag>().unwrap());
    let push = |tags: Vec<Tag>| {
        let (registry, reference, bytes) = (&house.registry, &reference, Bytes::from(text.clone()));
        async move { registry.put_manifest(&name("a"), reference, &tags, Some(IMAGE), bytes).await.unwrap() }
    };
    push(vec![tag.clone()]).await;
    let (_, items) = house.run(options(keep_all())).await;
    assert_eq!(items, []);
    for (how, comes_back) in [("is pushed again", true), ("is left alone", false)] {
        house.registry.delete_tag(&name("a"), &tag).await.unwrap();
        let (summary, _) = house.run(options(keep_all())).await;
        assert_eq!((summary.manifests_deleted, summary.warnings), (1, 0), "{how}");
        if comes_back {
            push(vec![tag.clone()]).await;
            house.run_out(&options(keep_all())).await;
            assert!(house.is_whole("a", "v1").await && house.is_whole("a", &digest.to_string()).await);
        }
    }
    house.run_out(&options(keep_all())).await;
    assert!(!house.paths().iter().any(|path| path.contains(digest.hex())), "{:?}", house.paths());
}

#[tokio::test]
async fn a_tag_without_its_revision_is_healed_and_histories_lose_what_is_gone() {
    let house = house();
    let first = house.image("a", Some("v1"), "one", None).await;
    let second = house.image("a", Some("v1"), "two", None).await;
    let link = Key::RevisionLink(&name("a"), &second).to_string();
    house.storage.remove(&link);
    house.run_out(&options(keep_all())).await;
    assert!(house.paths().contains(&link));
    assert!(!house.paths().iter().any(|path| path.contains(first.hex())), "{:?}", house.paths());
    assert!(house.is_whole("a", "v1").await);
}

#[tokio::test]
async fn uploads_that_nobody_goes_on_with_are_given_up_and_their_repository_with_them() {
    let house = house();
    house.registry.start_upload(&name("a")).await.unwrap();
    house.storage.age_all(2 * HOUR);
    house.registry.start_upload(&name("b")).await.unwrap();
    let patient = Options { uploads_older_than: Some(HOUR), ..options(keep_all()) };
    let (dry, planned) = house.run(Options { dry_run: true, ..patient.clone() }).await;
    let (real, _) = house.run(patient).await;
    assert_eq!((dry.uploads_deleted, real.uploads_deleted, planned.len()), (1, 1, 1));
    let left = house.paths();
    assert!(left.iter().all(|path| path.contains("/b/")) && !left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_run_that_has_no_time_changes_nothing_and_says_so() {
    let house = house();
    house.image("a", None, "one", None).await;
    let before = house.paths();
    let (summary, items) =
        house.run(Options { time_budget: Some(Duration::ZERO), ..options(keep_all()) }).await;
    assert!(!summary.complete && items.is_empty());
    assert_eq!(house.paths(), before);
}

#[tokio::test]
async fn a_run_that_is_asked_to_end_does_so_in_good_order() {
    let house = house();
    house.image("a", None, "one", None).await;
    let mut collection = Collection::new(&house.registry, options(keep_all()));
    collection.stop().cancel();
    let stopped = collection.run(&mut |_| {}).await;
    assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
    assert!(!collection.summary().complete);
    let (next, _) = house.run(options(keep_all())).await;
    assert_eq!((next.complete, next.manifests_deleted), (true, 1), "the lease was given back");
}

#[tokio::test]
async fn the_quarantine_can_be_listed_restored_and_purged() {
    let house = house();
    let untagged = house.image("a", None, "one", None).await;
    let before = house.paths();
    house.run(options(keep_all())).await;
    let listed = quarantined(&house.registry).await.unwrap();
    assert_eq!(listed[0].manifests, [format!("a@{untagged}")]);
    assert_eq!((listed[0].blobs, listed[0].layers), (3, 2));
    assert!(restore(&house.registry, &["b".to_owned()]).await.is_err());
    assert_eq!(restore(&house.registry, &[listed[0].run.clone()]).await.unwrap(), 6);
    assert_eq!(house.paths(), before);

    house.run(options(keep_all())).await;
    let kept = house.image("b", Some("v1"), "one", None).await;
    let (summary, purged) = purge(&house.registry, &mut |_| {}).await;
    purged.unwrap();
    assert_eq!((summary.blobs_condemned, quarantined(&house.registry).await.unwrap().len()), (0, 0));
    assert!(house.is_whole("b", &kept.to_string()).await);
}

#[tokio::test]
async fn everything_can_be_explained() {
    let house = house();
    let child = house.image("a", None, "layer", None).await;
    let index = house.index("a", "multi", &child).await;
    let untagged = house.image("a", None, "other", None).await;
    let layer = sha256(b"layer");
    let options = options(keep_newest(5, &Protection::default()));
    let rows: [(String, &[&str]); 5] = [
        ("a:multi".into(), &["is kept", "number 1"]),
        (format!("a@{child}"), &["index", "lists it", "tag multi names it", "number 1"]),
        (layer.to_string(), &["refers to it", "lists it", "tag multi"]),
        (index.to_string(), &["tag multi names it"]),
        (untagged.to_string(), &["nothing leads to it", "the next run moves it"]),
    ];
    for (subject, expected) in rows {
        let subject: Subject = subject.parse().unwrap();
        let lines = explain(&house.registry, &options, &subject).await.unwrap().join("\n");
        for words in expected {
            assert!(lines.contains(words), "{subject}: {lines}");
        }
    }
    house.run(options.clone()).await;
    let subject: Subject = format!("a@{untagged}").parse().unwrap();
    let lines = explain(&house.registry, &options, &subject).await.unwrap().join("\n");
    assert!(lines.contains("in the quarantine of run"), "{lines}");
    for unknown in ["a:v9".to_owned(), sha256(b"?").to_string(), format!("b@{child}")] {
        assert!(explain(&house.registry, &options, &unknown.parse().unwrap()).await.is_err(), "{unknown}");
    }
}

/// Numbers that look random and are the same in every run of the tests.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Fills a registry with images, indexes, referrers, signatures, retags, deletions and unused blobs of several ages.
async fn fill(house: &House, dice: &mut Dice) {
    let mut pushed: Vec<(String, Digest)> = Vec::new();
    for step in 0..30 {
        let repository = ["a", "b", "b/c"][usize::try_from(dice.roll(3)).unwrap()].to_owned();
        let tag = format!("v{}", dice.roll(6));
        let tag = (dice.roll(3) > 0).then_some(tag.as_str());
        let layer = format!("layer {}", dice.roll(8));
        let own: Vec<Digest> =
            pushed.iter().filter(|(name, _)| *name == repository).map(|(_, digest)| digest.clone()).collect();
        let some = own.get(usize::try_from(dice.roll(8)).unwrap());
        let digest = match (dice.roll(6), some) {
            (0, Some(child)) => house.index(&repository, &format!("index{step}"), child).await,
            (1, Some(subject)) => house.image(&repository, None, &layer, Some(subject)).await,
            (2, Some(subject)) => {
                let signature = format!("sha256-{}.sig", subject.hex());
                house.image(&repository, Some(&signature), &layer, None).await
            }
            (3, Some(gone)) => {
                let _ = house.registry.delete_manifest(&name(&repository), gone).await;
                let gone = (repository, gone.clone());
                pushed.retain(|one| *one != gone);
                continue;
            }
            (4, _) => {
                house.blob(&repository, &format!("unused {step}"), None).await;
                continue;
            }
            _ => house.image(&repository, tag, &layer, None).await,
        };
        pushed.push((repository, digest));
        house.storage.age_all(Duration::from_secs(600) * u32::try_from(dice.roll(4)).unwrap());
    }
}

#[tokio::test]
async fn a_dry_run_tells_what_a_run_does_and_what_stays_is_whole_in_whatever_registry() {
    for seed in 0..60 {
        let (house, mut dice) = (house(), Dice(seed));
        fill(&house, &mut dice).await;
        let whole = house.whole_tags().await;
        let keep = u32::try_from(dice.roll(4)).unwrap();
        let rules = if dice.roll(2) == 0 { keep_all() } else { keep_newest(keep, &Protection::default()) };
        let mut options = Options {
            delete_untagged: dice.roll(2) == 0,
            grace_period: HOUR * u32::try_from(dice.roll(2)).unwrap(),
            ..options(rules)
        };
        for round in 0..3 {
            options.dry_run = true;
            let (planned, mut plan) = house.run(options.clone()).await;
            options.dry_run = false;
            let (done, mut deeds) = house.run(options.clone()).await;
            plan.sort_by_key(ToString::to_string);
            deeds.sort_by_key(ToString::to_string);
            assert_eq!(plan, deeds, "seed {seed}, round {round}");
            let figures = |summary: &Summary| (summary.blobs, summary.bytes, summary.bytes_quarantined);
            assert_eq!(figures(&planned), figures(&done), "seed {seed}, round {round}");
        }
        let mut left = house.whole_tags().await;
        for (repository, tag) in house.tags().await {
            let it = (repository, tag);
            assert!(left.remove(&it) || !whole.contains(&it), "{it:?} with seed {seed}");
        }
    }
}
