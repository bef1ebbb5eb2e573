//! What a garbage collection must keep and may let go: the files of `--retention-file` and `--protect-file`.
//!
//! The operator writes both for each run. They are data only: globs and regular expressions are compiled, and
//! refused, by [`crate::maintenance`].

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;

/// Which tags and untagged manifests may go. A tag that no policy is about is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Retention {
    /// For each tag, the first policy whose repositories and tags match decides.
    pub policies: Vec<RetentionPolicy>,
}

/// Rules for some repositories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RetentionPolicy {
    /// Globs of repository names: `*` stops at a slash, `**` does not.
    pub repositories: Vec<String>,
    /// Regular expression that the tags match that the policy is about; it is not anchored. Without it, all tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    /// A tag is kept when any of these holds. Without this field the policy lets no tag go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// What happens to manifests without a tag, in place of what the run's `--delete-untagged` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untagged: Option<Untagged>,
}

/// Reasons to keep a tag; one is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Keep {
    /// It is among so many of the repository's tags under the policy that were pushed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_recently_pushed: Option<u32>,
    /// It is among so many that were pulled last. A tag that was never pulled is none of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_recently_pulled: Option<u32>,
    /// It was pushed no longer ago.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration::schema")]
    pub pushed_within: Option<Duration>,
    /// It was pulled no longer ago.
    #[serde(with = "optional_duration", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration::schema")]
    pub pulled_within: Option<Duration>,
    /// It matches one of these regular expressions, which are not anchored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
}

/// What happens to manifests that neither a tag nor a kept manifest leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Untagged {
    /// They are kept.
    Keep,
    /// They go when they are older than the grace period.
    Delete,
}

/// What is kept whatever the rules say.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Protection {
    /// Whether `images` is all that workloads use. If not, the run deletes no tag and no manifest.
    pub complete: bool,
    /// The images that workloads use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ProtectedImage>,
    /// Regular expressions of tags that are kept in every repository; they are not anchored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// An image in use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProtectedImage {
    /// `repository[:tag][@digest]`, without the registry's host. Neither tag nor digest means the tag `latest`.
    pub image: String,
    /// Who uses it, in words for a report, such as `Deployment shop/web`.
    #[serde(default)]
    pub by: String,
}

impl Default for Protection {
    fn default() -> Self {
        Self { complete: true, images: Vec::new(), tags: Vec::new() }
    }
}

/// An optional duration in Go's notation.
mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::duration;

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => duration::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Wrapped(#[serde(with = "super::duration")] Duration);
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|Wrapped(duration)| duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_back_as_they_were_written() {
        let retention = Retention {
            policies: vec![RetentionPolicy {
                repositories: vec!["team/**".into()],
                tags: Some("^pr-".into()),
                keep: Some(Keep {
                    most_recently_pushed: Some(10),
                    pushed_within: Some(Duration::from_secs(720 * 3600)),
                    ..Keep::default()
                }),
                untagged: Some(Untagged::Delete),
            }],
        };
        let text = serde_yaml::to_string(&retention).unwrap();
        assert!(text.contains("pushedWithin: 720h"), "{text}");
        assert_eq!(serde_yaml::from_str::<Retention>(&text).unwrap(), retention);
        assert!(serde_yaml::from_str::<Retention>("policies: [{repositories: [a], kep: {}}]").is_err());
        assert_eq!(serde_yaml::from_str::<Protection>("{}").unwrap(), Protection::default());
    }
}
