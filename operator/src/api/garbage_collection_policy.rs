//! The `GarbageCollectionPolicy` resource: when registries are collected, and what is kept.
//!
//! Every rule that the API server can check is a CEL rule beside its field, with a message that says what to do. Time
//! zones, globs and regular expressions are checked by the operator, with what the server itself uses.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::garbage_collection_status::GarbageCollectionPolicyStatus;
use super::shared::Resources;

/// When the registries of this namespace are collected, and what is kept.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "windlass.dev",
    version = "v1alpha1",
    kind = "GarbageCollectionPolicy",
    plural = "garbagecollectionpolicies",
    shortname = "gcpol",
    category = "oci",
    namespaced,
    status = "GarbageCollectionPolicyStatus",
    derive = "PartialEq",
    doc = "When registries are collected, and what is kept.",
    printcolumn(name = "Registry", type_ = "string", json_path = ".status.registry"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Last run", type_ = "date", json_path = ".status.lastRun"),
    printcolumn(name = "Reclaimed", type_ = "string", json_path = ".status.totals.reclaimed"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextRun"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("the name becomes a label: use at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.registryRef) != has(self.registrySelector)")
        .message("set exactly one of registryRef and registrySelector")
)]
pub struct GarbageCollectionPolicySpec {
    /// The Registry that is collected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_ref: Option<RegistryReference>,
    /// Labels of the Registries that are collected, at most 50; two of them at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_selector: Option<LabelSelector>,
    /// When a run begins: minute, hour, day of the month, month and day of the week, or `@hourly`, `@daily`, `@weekly`
    /// and so on. A run that was missed is made up once. When clocks go forward, a run in the hour that is left out
    /// begins after it; when they go back, a run in the hour that comes twice begins once.
    #[schemars(length(max = 128))]
    #[x_kube(
        validation = Rule::new(
            "self.matches('^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[-0-9A-Za-z*/,]+( +[-0-9A-Za-z*/,]+){4})$')"
        )
        .message("use the five fields of cron, such as '0 3 * * *', or @hourly, @daily, @weekly, @monthly, @yearly")
    )]
    pub schedule: String,
    /// Time zone of the schedule, such as `Europe/Berlin`.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+\-/]+$"))]
    pub time_zone: String,
    /// Makes no runs by the schedule. What was missed meanwhile is not made up; a run can still be asked for.
    #[serde(default)]
    pub suspend: bool,
    /// Only reports what a run would do.
    #[serde(default)]
    pub dry_run: bool,
    /// How long nothing is touched that is new, and how long what was taken out can be restored. It must be longer than
    /// any push takes.
    #[serde(default = "day")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message("gracePeriod must be at least 1s"))]
    pub grace_period: String,
    /// Lets manifests go that neither a tag nor a kept manifest leads to.
    #[serde(default = "yes")]
    pub delete_untagged: bool,
    /// What is kept whatever the other rules say.
    #[serde(default)]
    pub protect: Protect,
    /// Which tags may go. For each tag the first rule decides whose repositories and tags match; a tag that no rule is
    /// about is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub retention: Vec<RetentionRule>,
    /// What happens to uploads that were begun and not finished.
    #[serde(default)]
    pub uploads: Uploads,
    /// How many finished Jobs of each registry are kept.
    #[serde(default)]
    pub history: History,
    /// CPU and memory of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// How long a run may take. It ends in order a little earlier, and the next one goes on.
    #[serde(default = "six_hours")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m')").message("deadline must be at least 1m"))]
    pub deadline: String,
}

/// A Registry of the same namespace.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryReference {
    /// Name of the Registry.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// What is kept whatever the rules say.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Protect {
    /// Keeps the images that the workloads of all namespaces use: Pods, Deployments and their former revisions,
    /// `StatefulSets`, `DaemonSets`, Jobs and `CronJobs`. When they cannot be listed, a run touches nothing tagged.
    pub workloads: bool,
    /// Further names under which workloads refer to the registry, with the port if they give one. Its Service, its
    /// `spec.hostnames`, Ingresses that lead to it and its load balancer are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 253), regex(pattern = r"^[-.:\[\]A-Za-z0-9]+$"))
    )]
    pub hosts: Vec<String>,
    /// Regular expressions of tags that are kept in every repository, such as `^v\d+`; they are not anchored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub tags: Vec<String>,
}

/// A rule about some tags.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionRule {
    /// Globs of repository names: `*` stops at a slash, `**` does not.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 256)))]
    pub repositories: Vec<String>,
    /// Regular expression of the tags that the rule is about; it is not anchored. Default: all tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub tags: Option<String>,
    /// A tag is kept when any of these holds. Left out: all tags are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new(
            "has(self.mostRecentlyPushed) || has(self.mostRecentlyPulled) || has(self.pushedWithin) || \
             has(self.pulledWithin) || has(self.patterns)"
        )
        .message("keep needs at least one reason to keep a tag; leave keep out to keep all tags")
    )]
    pub keep: Option<Keep>,
    /// What happens to manifests without a tag. Default: what `deleteUntagged` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untagged: Option<Untagged>,
}

/// Reasons to keep a tag; one is enough.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Keep {
    /// It is among so many of a repository's tags under the rule that were pushed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub most_recently_pushed: Option<i32>,
    /// It is among so many that were pulled last. A tag that was never pulled is none of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub most_recently_pulled: Option<i32>,
    /// It was pushed no longer ago, such as `720h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$"))]
    pub pushed_within: Option<String>,
    /// It was pulled no longer ago, such as `168h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$"))]
    pub pulled_within: Option<String>,
    /// It matches one of these regular expressions, which are not anchored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub patterns: Vec<String>,
}

/// What happens to manifests that neither a tag nor a kept manifest leads to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Untagged {
    /// They are kept.
    Keep,
    /// They go when they are older than the grace period.
    Delete,
}

/// What happens to uploads that were begun and not finished.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Uploads {
    /// How long after its last byte an upload is given up.
    #[serde(default = "week")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h')").message("olderThan must be at least 1h"))]
    pub older_than: String,
}

/// How many finished Jobs of each registry are kept.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct History {
    /// Of those that succeeded.
    #[schemars(range(min = 0, max = 100))]
    pub successful: i32,
    /// Of those that failed.
    #[schemars(range(min = 0, max = 100))]
    pub failed: i32,
}

impl Default for Protect {
    fn default() -> Self {
        Self { workloads: true, hosts: Vec::new(), tags: Vec::new() }
    }
}

impl Default for Uploads {
    fn default() -> Self {
        Self { older_than: week() }
    }
}

impl Default for History {
    fn default() -> Self {
        Self { successful: 3, failed: 3 }
    }
}

fn utc() -> String {
    "UTC".to_owned()
}

fn day() -> String {
    "24h".to_owned()
}

fn week() -> String {
    "168h".to_owned()
}

fn six_hours() -> String {
    "6h".to_owned()
}

fn yes() -> bool {
    true
}
