//! The status of a `GarbageCollectionPolicy` and the reasons in its conditions, which are part of the API.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Condition: the last run of every registry came to a good end.
pub const LAST_RUN_SUCCEEDED: &str = "LastRunSucceeded";
/// Condition: the last run knew all images that workloads use.
pub const WORKLOADS_PROTECTED: &str = "WorkloadsProtected";

/// What the operator has seen of a policy and its runs. It holds no value that changes by itself.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GarbageCollectionPolicyStatus {
    /// Generation of the spec that this status is about; -1 until the operator has seen the object.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,
    /// `Ready`, `Reconciling`, `Stalled`, `LastRunSucceeded` and `WorkloadsProtected`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The registry that is collected, or how many.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub registry: String,
    /// When the next run begins. A time in the past is that of a run which waits for its turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run: Option<Time>,
    /// When the last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Time>,
    /// The value of the annotation `windlass.dev/run-requested-at` that was acted upon last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_request: Option<String>,
    /// Each registry and its runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub registries: Vec<CollectedRegistry>,
    /// Sums over all runs of the policy, dry runs left out.
    #[serde(default)]
    pub totals: Totals,
}

/// A registry and its runs.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectedRegistry {
    /// Name of the Registry.
    pub name: String,
    /// When its next run begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_run: Option<Time>,
    /// Whether that one was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub requested: bool,
    /// The Job of the run that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_job: Option<String>,
    /// The last run that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
}

/// A run that has ended. Sizes are in bytes; of a dry run, the figures are those that a real one would have.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastRun {
    /// Its Job.
    pub job: String,
    /// Whether it came to a good end.
    pub succeeded: bool,
    /// What went wrong, or what the run warned of.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Its name in the registry, for `registry-server quarantine restore`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run: String,
    /// When its Job was made.
    pub started: Time,
    /// When its Job ended.
    pub finished: Time,
    /// Whether nothing was changed.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether it came to its end before its time was over.
    #[serde(default)]
    pub complete: bool,
    /// Tags that retention let go.
    #[serde(default)]
    pub tags_deleted: i64,
    /// Manifests that were taken out of their repositories.
    #[serde(default)]
    pub manifests_deleted: i64,
    /// Blobs that were deleted for good.
    #[serde(default)]
    pub blobs_deleted: i64,
    /// Size of the blobs that were deleted for good.
    #[serde(default)]
    pub bytes_reclaimed: i64,
    /// Blobs that can still be restored.
    #[serde(default)]
    pub quarantined: i64,
    /// Size of the blobs that can still be restored.
    #[serde(default)]
    pub bytes_quarantined: i64,
    /// Size of the blobs that are kept.
    #[serde(default)]
    pub bytes: i64,
    /// Tags and manifests that would have gone if no workload used them.
    #[serde(default)]
    pub protected_by_workloads: i64,
    /// How many things could not be read, and were kept.
    #[serde(default)]
    pub warnings: i64,
}

/// Sums over all runs of a policy, dry runs left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Totals {
    /// Runs that succeeded.
    pub succeeded: i64,
    /// Runs that failed.
    pub failed: i64,
    /// Tags that retention let go.
    pub tags_deleted: i64,
    /// Manifests that were taken out of their repositories.
    pub manifests_deleted: i64,
    /// Blobs that were deleted for good.
    pub blobs_deleted: i64,
    /// Size of the blobs that were deleted for good, in bytes.
    pub bytes_reclaimed: i64,
    /// The same for people, such as `1.5Gi`.
    pub reclaimed: String,
}

impl Default for GarbageCollectionPolicyStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            conditions: Vec::new(),
            registry: String::new(),
            next_run: None,
            last_run: None,
            last_request: None,
            registries: Vec::new(),
            totals: Totals::default(),
        }
    }
}

impl GarbageCollectionPolicyStatus {
    /// The condition of type `type_`, if it has been set.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// What is known of the registry `name`.
    #[must_use]
    pub fn registry(&self, name: &str) -> Option<&CollectedRegistry> {
        self.registries.iter().find(|registry| registry.name == name)
    }
}

/// Why a condition of a policy is as it is: one word for the condition, the Event and the metric.
#[derive(Clone, Copy, Debug, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd)]
pub enum GarbageCollectionReason {
    /// The next run begins at `status.nextRun`.
    Scheduled,
    /// `spec.suspend` is set: runs begin only when they are asked for.
    Suspended,
    /// There is nothing left to do.
    UpToDate,
    /// A run has begun.
    RunStarted,
    /// The last run came to a good end.
    RunSucceeded,
    /// The last run failed; the message says why.
    RunFailed,
    /// No run has ended yet.
    NoRunYet,
    /// All images that workloads use were known to the last run.
    WorkloadsListed,
    /// `spec.protect.workloads` is false.
    WorkloadsIgnored,
    /// Workloads could not be listed: the run touches nothing tagged.
    WorkloadsUnknown,
    /// The images that workloads use do not fit into a `ConfigMap`: the run touches nothing tagged.
    TooManyImages,
    /// The object cannot be read as a policy.
    InvalidSpec,
    /// The schedule cannot be read, or never comes.
    InvalidSchedule,
    /// The time zone does not exist.
    InvalidTimeZone,
    /// A duration cannot be read.
    InvalidDuration,
    /// A glob or a regular expression cannot be read.
    InvalidPattern,
    /// The selector cannot be read.
    InvalidSelector,
    /// The Registry does not exist, or the selector finds none.
    RegistryNotFound,
    /// The selector finds more registries than one policy can look after.
    TooManyRegistries,
    /// The Registry belongs to an older policy.
    RegistryTaken,
    /// The Registry's volume is for one Pod only, so a run cannot mount it.
    VolumeExclusive,
    /// The Registry is paused: no run begins.
    RegistryPaused,
    /// The Registry has no server yet; runs begin when it has.
    RegistryPending,
    /// The API server refuses the Job or its `ConfigMap`.
    Rejected,
}

impl fmt::Display for GarbageCollectionReason {
    /// The name of the variant is the text of the API.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

fn unobserved() -> i64 {
    -1
}
