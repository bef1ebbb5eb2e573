//! What every reconcile shares.
//!
//! # Rights
//! In the watched namespaces the operator needs, and uses, exactly these:
//!
//! | group | resources | verbs |
//! | --- | --- | --- |
//! | `windlass.dev` | `registries`, `garbagecollectionpolicies` | get, list, watch |
//! | `windlass.dev` | `registries/status`, `garbagecollectionpolicies/status` | patch |
//! | `windlass.dev` | `registries/finalizers` | update (only asked for by `OwnerReferencesPermissionEnforcement`) |
//! | core | `configmaps`, `secrets`, `services`, `serviceaccounts` | get, list, watch, create, patch, delete |
//! | core | `persistentvolumeclaims` | get, list, watch, create, patch |
//! | core | `pods` | list, watch |
//! | `apps` | `deployments` | get, list, watch, create, patch, delete |
//! | `batch` | `jobs` | list, watch, create, delete |
//! | `discovery.k8s.io` | `endpointslices` | list, watch |
//! | `storage.k8s.io` | `storageclasses` (cluster-wide; it does without) | list, watch |
//! | `events.k8s.io` | `events` | create, patch |
//! | core | `namespaces` (cluster-wide, only for `pullAccess`; it says so where it may not) | list, watch |
//! | core | `pods` (only for `pullAccess`; it does without) | patch |
//! | `admissionregistration.k8s.io` | `mutatingadmissionpolicies`, `mutatingadmissionpolicybindings` (cluster-wide, only for `pullAccess`) | list, create, patch, delete |
//! | `rbac.authorization.k8s.io` | `rolebindings` (only for `subjectAccessReview`) | get, list, watch, create, patch, delete |
//! | `rbac.authorization.k8s.io` | `clusterroles`, the one for access reviews alone | bind |
//! | not a resource | `/.well-known/openid-configuration`, `/openid/v1/jwks` (only for registries that take tokens) | get |
//!
//! To advertise a Registry it needs in the namespace `kube-public` the `configmaps` `local-registry-hosting` get, list,
//! watch, create, patch, delete.
//!
//! For what nodes are told it needs `nodes` list and watch in the cluster, and in its own namespace: the `serviceaccounts`
//! `windlass-node-agent` get, list, watch; the `configmaps` `windlass-node-access` and the `daemonsets`
//! `windlass-node-agent` get, list, watch, create, patch, delete; `nodeaccesses` list, watch, delete. What the agents may
//! stands in the chart.
//!
//! To know which images are in use, it lists in all namespaces (without, no collection touches anything tagged) `pods`,
//! `replicationcontrollers`, the workloads and `controllerrevisions` of `apps`, the `jobs` and `cronjobs` of `batch`, and
//! the `ingresses` of `networking.k8s.io`;
//! and in its own namespace, for the leader lease: `coordination.k8s.io` `leases` get, create, update.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder};
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::node_access::settings::Settings;
use crate::registry::validate::Defaults;

/// Wait after the first failure of an object; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// The longest wait between two tries.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// What every reconcile shares.
pub struct Context {
    /// The way to the API server.
    pub client: Client,
    /// What the operator's own settings add to a spec.
    pub defaults: Defaults,
    /// How long an object in order is left alone.
    pub resync: Duration,
    /// What the operator's own settings say of the agents of the nodes.
    pub node_access: Settings,
    /// Whether the operator was installed with the right to advertise a Registry.
    pub advertises: bool,
    /// Says that something has happened to a Registry.
    pub registries_changed: watch::Sender<()>,
    /// Says that a Registry has been reconciled: what belongs to it may have changed.
    pub reconciled: watch::Sender<()>,
    /// What is counted.
    pub metrics: Metrics,
    /// Where Events are written.
    pub recorder: Recorder,
    /// Failures in a row, by unique id.
    pub failures: Failures,
}

impl Context {
    /// Writes an Event about `object`. An Event that cannot be written is only logged: the status says the same.
    pub async fn publish(&self, object: &ObjectReference, is_warning: bool, reason: &str, message: &str) {
        let event = Event {
            type_: if is_warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(message.chars().take(1000).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, object).await {
            tracing::warn!(%error, reason, "an Event could not be written");
        }
    }
}

/// Failures in a row of each object.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    /// Counts a failure of the object `uid` and returns how long to wait.
    pub fn count(&self, uid: &str) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(uid.to_owned()).or_insert(0);
        let wait = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(*count)).min(LAST_RETRY);
        *count = count.saturating_add(1);
        wait
    }

    /// Forgets the failures of the object `uid`.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::Failures;
    use std::time::Duration;

    #[test]
    fn each_object_waits_longer_with_each_failure_until_it_succeeds() {
        let failures = Failures::default();
        let waits: Vec<u128> = (0..4).map(|_| failures.count("a").as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000]);
        assert_eq!(failures.count("b"), Duration::from_millis(500));
        failures.forget("a");
        assert_eq!(failures.count("a"), Duration::from_millis(500));
    }

    #[test]
    fn no_wait_is_longer_than_five_minutes() {
        let failures = Failures::default();
        assert_eq!((0..100).map(|_| failures.count("a")).max(), Some(Duration::from_secs(300)));
    }
}
