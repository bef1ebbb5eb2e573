use std::cell::Cell;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

const HOUR: u64 = 3600;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    repository: String,
    #[serde(default)]
    retention: Retention,
    #[serde(default)]
    protection: Protection,
    tags: BTreeMap<String, Times>,
    verdicts: BTreeMap<String, String>,
}

/// Hours ago.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Times {
    pushed: i64,
    pulled: Option<i64>,
    #[serde(default = "first")]
    manifest: u8,
}

fn first() -> u8 {
    1
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(500_000 * HOUR)
}

fn hours_ago(hours: i64) -> SystemTime {
    let age = Duration::from_secs(hours.unsigned_abs() * HOUR);
    if hours < 0 { now() + age } else { now() - age }
}

fn facts(tag: &str, times: Times) -> TagFacts {
    TagFacts {
        tag: tag.parse().unwrap(),
        digest: format!("sha256:{:064x}", times.manifest).parse().unwrap(),
        pushed: hours_ago(times.pushed),
        pulled: times.pulled.map(hours_ago),
    }
}

fn in_words(verdict: &Verdict) -> String {
    format!("{}: {verdict}", if verdict.keeps() { "stays" } else { "goes" })
}

#[test]
fn the_cases_end_as_written() {
    let cases: Vec<Case> = serde_yaml::from_str(include_str!("cases.yaml")).unwrap();
    for Case { name, repository, retention, protection, tags, verdicts } in cases {
        let rules = Rules::compile(&retention, &protection).unwrap();
        let tags: Vec<_> = tags.iter().map(|(tag, times)| facts(tag, *times)).collect();
        let judged = rules.judge(&repository.parse().unwrap(), &tags, now());
        let judged: BTreeMap<_, _> = tags
            .iter()
            .zip(&judged)
            .map(|(facts, verdict)| (facts.tag.to_string(), in_words(verdict)))
            .collect();
        assert_eq!(judged, verdicts, "{name}");
    }
}

#[test]
fn the_files_in_the_documentation_can_be_used() {
    let page = include_str!("../../../../docs/retention.md");
    let blocks: Vec<&str> =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let [retention, protection] = blocks[..] else { panic!("two files are shown") };
    let retention: Retention = serde_yaml::from_str(retention).unwrap();
    let protection: Protection = serde_yaml::from_str(protection).unwrap();
    Rules::compile(&retention, &protection).unwrap();
}

#[test]
fn mistakes_are_told_with_their_place() {
    let retention = |text: &str| (serde_yaml::from_str::<Retention>(text).unwrap(), Protection::default());
    let protection = |text: &str| (Retention::default(), serde_yaml::from_str::<Protection>(text).unwrap());
    let rows = [
        (
            retention(r#"policies: [{repositories: [a]}, {repositories: [b, "{b"]}]"#),
            "policies[1].repositories[1]: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)",
        ),
        (
            retention("policies: [{repositories: []}]"),
            "policies[0].repositories: it names no repository; ** stands for all",
        ),
        (retention("policies: [{repositories: [a], tags: '(v'}]"), "policies[0].tags: unclosed group"),
        (
            retention("policies: [{repositories: [a], keep: {patterns: [v, '[']}}]"),
            "policies[0].keep.patterns[1]: unclosed character class",
        ),
        (
            retention("policies: [{repositories: [a], keep: {}}]"),
            "policies[0].keep: it has no rule; leave it out to keep all tags, \
             or set mostRecentlyPushed to 0 to keep none",
        ),
        (
            retention(r"policies: [{repositories: [a], tags: '\w{1000}{1000}'}]"),
            "policies[0].tags: Compiled regex exceeds size limit of 10485760 bytes.",
        ),
        (protection("tags: ['*']"), "tags[0]: repetition operator missing expression"),
        (
            protection("images: [{image: a}, {image: 'a:.x'}]"),
            "images[1]: \"a:.x\": a tag has at most 128 letters, digits, '.', '_' and '-', \
             and does not start with '.' or '-'",
        ),
        (
            protection("images: [{image: 'a@sha256:0'}]"),
            "images[0]: \"a@sha256:0\": a digest has the form sha256:<64 hexadecimal digits>",
        ),
    ];
    for ((retention, protection), told) in rows {
        assert_eq!(Rules::compile(&retention, &protection).unwrap_err().to_string(), told);
    }
}

#[test]
fn an_image_is_a_repository_with_tag_or_digest() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let rows = [
        ("app", vec!["latest"]),
        ("team/app", vec!["latest"]),
        ("app:v1", vec!["v1"]),
        ("app@D", vec!["D"]),
        ("app:v1@D", vec!["v1", "D"]),
        ("", vec![]),
        ("App", vec![]),
        ("app:", vec![]),
        ("app@", vec![]),
        ("app@v1", vec![]),
        ("app:D", vec![]),
        ("app@D:v1", vec![]),
        ("app@D@D", vec![]),
        ("host:5000/app:v1", vec![]),
        (" app", vec![]),
    ];
    for (image, expected) in rows {
        let parsed = parse_image(&image.replace('D', &digest));
        let references = parsed.map(|(_, references)| references).unwrap_or_default();
        let texts: Vec<_> = references.iter().map(|found| found.to_string().replace(&digest, "D")).collect();
        assert_eq!(texts, expected, "{image}");
    }
}

#[test]
fn workloads_pin_tags_and_manifests() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let image = |image: &str, by: &str| ProtectedImage { image: image.into(), by: by.into() };
    let protection = Protection {
        images: vec![
            image(&format!("app:v1@{digest}"), "Pod a/b"),
            image("app:v1", "Pod a/c"),
            image("x", ""),
        ],
        ..Protection::default()
    };
    let rules = Rules::compile(&Retention::default(), &protection).unwrap();
    let app = "app".parse().unwrap();
    let mut pins: Vec<_> = rules.pins(&app).map(|(pin, by)| (pin.to_string(), by)).collect();
    pins.sort();
    assert_eq!(pins, [(digest, "Pod a/b"), ("v1".to_owned(), "Pod a/b")]);
    assert_eq!(rules.used_by(&app, &"latest".parse().unwrap()), None);
    assert_eq!(rules.used_by(&"x".parse().unwrap(), &"latest".parse().unwrap()), Some(""));
    assert_eq!(rules.pins(&"y".parse().unwrap()).count(), 0);
}

#[test]
fn the_first_policy_that_says_so_decides_about_untagged_manifests() {
    let retention: Retention = serde_yaml::from_str(
        "policies: [
            {repositories: [a/**]},
            {repositories: [a/keep], untagged: Keep, tags: ^only-some},
            {repositories: [a/**, b], untagged: Delete}
        ]",
    )
    .unwrap();
    let complete = Rules::compile(&retention, &Protection::default()).unwrap();
    let unsure =
        Rules::compile(&retention, &Protection { complete: false, ..Protection::default() }).unwrap();
    assert!(complete.is_complete() && !unsure.is_complete());
    let rows = [
        ("a/keep", Some(Untagged::Keep)),
        ("a/x", Some(Untagged::Delete)),
        ("b", Some(Untagged::Delete)),
        ("c", None),
    ];
    for (repository, expected) in rows {
        let repository = repository.parse().unwrap();
        assert_eq!(complete.untagged(&repository), expected, "{repository}");
        assert_eq!(unsure.untagged(&repository), Some(Untagged::Keep), "{repository}");
    }
}

/// Numbers that look random and are the same each time (`SplitMix64`).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()].clone()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| make(self))
    }

    fn hours(&mut self) -> Duration {
        Duration::from_secs(self.below(20) * HOUR)
    }

    fn keep(&mut self) -> Keep {
        Keep {
            most_recently_pushed: self.pick(&[Some(0), Some(1), Some(3)]),
            most_recently_pulled: self.maybe(|numbers| numbers.pick(&[0, 1, 3])),
            pushed_within: self.maybe(Self::hours),
            pulled_within: self.maybe(Self::hours),
            patterns: self.maybe(|numbers| vec![numbers.pick(&["^v", "1$"]).to_owned()]).unwrap_or_default(),
        }
    }

    fn policy(&mut self) -> RetentionPolicy {
        RetentionPolicy {
            repositories: vec![self.pick(&["**", "team/*", "other"]).to_owned()],
            tags: self.maybe(|numbers| numbers.pick(&["^v", "^pr-", "[0-4]$"]).to_owned()),
            keep: self.maybe(Self::keep),
            untagged: None,
        }
    }

    fn protection(&mut self) -> Protection {
        Protection {
            complete: self.below(8) > 0,
            images: self
                .maybe(|_| ProtectedImage { image: "team/app:v1".into(), by: "Pod a/b".into() })
                .into_iter()
                .collect(),
            tags: self.maybe(|_| "^v2$".to_owned()).into_iter().collect(),
        }
    }

    fn catalogue(&mut self) -> Vec<TagFacts> {
        let tags = ["v", "pr-", "x"]
            .into_iter()
            .flat_map(|kind| (0..6).map(move |number| format!("{kind}{number}")));
        let mut hours = || i64::try_from(self.below(20)).unwrap();
        let times = || Times { pushed: hours(), pulled: Some(hours()).filter(|hour| *hour > 8), manifest: 1 };
        tags.zip(std::iter::repeat_with(times)).map(|(tag, times)| facts(&tag, times)).collect()
    }
}

/// Rules and catalogues of all kinds, each with what is decided about it.
fn for_many(check: impl Fn(&mut Numbers, &Retention, &Protection, &[TagFacts], &[Verdict])) {
    for seed in 0..100 {
        let mut numbers = Numbers(seed);
        let retention = Retention { policies: (0..=seed % 4).map(|_| numbers.policy()).collect() };
        let (protection, tags) = (numbers.protection(), numbers.catalogue());
        let verdicts = judge(&retention, &protection, &tags);
        check(&mut numbers, &retention, &protection, &tags, &verdicts);
    }
}

fn judge(retention: &Retention, protection: &Protection, tags: &[TagFacts]) -> Vec<Verdict> {
    Rules::compile(retention, protection).unwrap().judge(&"team/app".parse().unwrap(), tags, now())
}

#[test]
fn the_order_of_tags_does_not_matter() {
    for_many(|numbers, retention, protection, tags, verdicts| {
        let mut order: Vec<usize> = (0..tags.len()).collect();
        order.sort_by_key(|_| numbers.below(1000));
        let shuffled: Vec<_> = order.iter().map(|index| tags[*index].clone()).collect();
        let expected: Vec<_> = order.iter().map(|index| verdicts[*index].clone()).collect();
        assert_eq!(judge(retention, protection, &shuffled), expected, "{retention:?}");
    });
}

#[test]
fn a_rule_more_never_lets_more_go() {
    for_many(|numbers, retention, protection, tags, verdicts| {
        let mut wider = retention.clone();
        for keep in wider.policies.iter_mut().filter_map(|policy| policy.keep.as_mut()) {
            match numbers.below(5) {
                0 => keep.most_recently_pushed = keep.most_recently_pushed.map(|count| count + 1),
                1 => keep.most_recently_pulled = Some(keep.most_recently_pulled.unwrap_or_default() + 1),
                2 => keep.pushed_within = Some(keep.pushed_within.unwrap_or_default() + numbers.hours()),
                3 => keep.pulled_within = Some(keep.pulled_within.unwrap_or_default() + numbers.hours()),
                _ => keep.patterns.push("3$".into()),
            }
        }
        for ((before, after), facts) in verdicts.iter().zip(judge(&wider, protection, tags)).zip(tags) {
            assert!(!before.keeps() || after.keeps(), "{facts:?} {before} {after} {retention:?} {wider:?}");
        }
    });
}

#[test]
fn only_what_a_policy_is_about_and_nothing_protects_can_go() {
    let gone = Cell::new(0);
    for_many(|_, retention, protection, tags, verdicts| {
        for (facts, verdict) in tags.iter().zip(verdicts) {
            let Verdict::Go(LetGo { policy, .. }) = verdict else { continue };
            let RetentionPolicy { repositories, tags, keep, .. } = &retention.policies[*policy];
            let tag = facts.tag.as_str();
            assert_ne!(repositories[0], "other", "{tag} {verdict}");
            assert!(
                tags.as_ref().is_none_or(|tags| Regex::new(tags).unwrap().is_match(tag)),
                "{tag} {verdict}"
            );
            assert!(keep.is_some() && protection.complete, "{tag} {verdict} {retention:?}");
            assert!(tag != "v2" || protection.tags.is_empty(), "{tag} {verdict}");
            assert!(tag != "v1" || protection.images.is_empty(), "{tag} {verdict}");
            gone.set(gone.get() + 1);
        }
    });
    assert!(gone.get() > 100, "the rules that are made up let something go: {gone:?}");
}
