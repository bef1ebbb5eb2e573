//! What the operator counts, for Prometheus. All names begin with `windlass_operator_`.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry as Metricset;

use crate::api::garbage_collection_status::LastRun;
use crate::api::registry::Registry;
use crate::api::status::READY;
use crate::children::{Change, Kind};

/// Upper bounds of the duration histogram, in seconds.
const SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

type Registries = Store<DeserializeGuard<Registry>>;

/// All metrics of the process.
pub struct Metrics {
    set: Metricset,
    reconciliations: Counter,
    failures: Family<ReasonLabel, Counter>,
    duration: Histogram,
    writes: Family<WriteLabels, Counter>,
    certificates: Family<ObjectLabels, Gauge<f64, AtomicU64>>,
    registries: Family<ReadyLabel, Gauge>,
    collections: Family<ResultLabel, Counter>,
    reclaimed: Counter,
    leader: Gauge,
    known: Mutex<Vec<Registries>>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ReasonLabel {
    reason: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct WriteLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ObjectLabels {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ReadyLabel {
    ready: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            set: Metricset::with_prefix("windlass_operator"),
            reconciliations: Counter::default(),
            failures: Family::default(),
            duration: Histogram::new(SECONDS),
            writes: Family::default(),
            certificates: Family::default(),
            registries: Family::default(),
            collections: Family::default(),
            reclaimed: Counter::default(),
            leader: Gauge::default(),
            known: Mutex::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let set = &mut self.set;
        set.register("reconciliations", "Reconciles that were started", self.reconciliations.clone());
        set.register(
            "reconcile_failures",
            "Reconciles that found a problem or failed",
            self.failures.clone(),
        );
        set.register("reconcile_duration_seconds", "Time that a reconcile took", self.duration.clone());
        set.register("apply", "Requests that wrote a child, by what they did", self.writes.clone());
        set.register(
            "certificate_expiry_seconds",
            "Unix time at which the certificate of a Registry ends",
            self.certificates.clone(),
        );
        set.register("registries", "Registries, by their Ready condition", self.registries.clone());
        set.register(
            "garbage_collections",
            "Runs of the garbage collection that have ended, by how they did",
            self.collections.clone(),
        );
        set.register(
            "garbage_collection_reclaimed_bytes",
            "Bytes that runs of the garbage collection have freed",
            self.reclaimed.clone(),
        );
        set.register("leader", "Whether this process is the one that acts", self.leader.clone());
    }

    /// Counts a reconcile that took `time`.
    pub fn reconciled(&self, time: Duration) {
        self.reconciliations.inc();
        self.duration.observe(time.as_secs_f64());
    }

    /// Counts a reconcile that found a problem or failed.
    pub fn failed(&self, reason: &str) {
        self.failures.get_or_create(&ReasonLabel { reason: reason.to_owned() }).inc();
    }

    /// Counts the write of a child. Writes with the result `repaired` are corrected drift.
    pub fn applied(&self, kind: Kind, change: Change) {
        self.writes.get_or_create(&WriteLabels { kind: kind.name(), result: change.name() }).inc();
    }

    /// Counts a run of the garbage collection that has ended.
    pub fn collected(&self, run: &LastRun) {
        let result = if run.succeeded { "succeeded" } else { "failed" };
        self.collections.get_or_create(&ResultLabel { result }).inc();
        if !run.dry_run {
            self.reclaimed.inc_by(u64::try_from(run.bytes_reclaimed).unwrap_or_default());
        }
    }

    /// Says whether this process is the one that acts.
    pub fn set_leader(&self, is_leader: bool) {
        self.leader.set(i64::from(is_leader));
    }

    /// Makes the Registries of `store` part of what is reported.
    pub fn report(&self, store: Registries) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).push(store);
    }

    /// All metrics in the text format of `OpenMetrics`.
    #[must_use]
    pub fn text(&self) -> String {
        self.observe();
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.set);
        text
    }

    /// Takes the state of the Registries anew, so that one which is gone leaves nothing behind.
    fn observe(&self) {
        self.certificates.clear();
        self.registries.clear();
        for store in self.known.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for registry in store.state().iter().filter_map(|guard| guard.0.as_ref().ok()) {
                self.observe_one(registry);
            }
        }
    }

    fn observe_one(&self, registry: &Registry) {
        let status = registry.status.as_ref();
        let ready = status.and_then(|status| status.condition(READY)).map(|ready| ready.status.clone());
        let label = ReadyLabel { ready: ready.unwrap_or_else(|| "Unknown".to_owned()) };
        self.registries.get_or_create(&label).inc();
        if let Some(certificate) = status.and_then(|status| status.certificate.as_ref()) {
            let namespace = registry.namespace().unwrap_or_default();
            let labels = ObjectLabels { namespace, name: registry.name_any() };
            let end = certificate.not_after.0.as_duration().as_secs_f64();
            self.certificates.get_or_create(&labels).set(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;
    use crate::children::{Change, Kind};
    use std::time::Duration;

    #[test]
    fn what_is_counted_is_in_the_text() {
        let metrics = Metrics::default();
        metrics.reconciled(Duration::from_millis(20));
        metrics.failed("ClaimNotFound");
        metrics.applied(Kind::Service, Change::Repaired);
        metrics.set_leader(true);
        let text = metrics.text();
        for line in [
            "windlass_operator_reconciliations_total 1",
            "windlass_operator_reconcile_failures_total{reason=\"ClaimNotFound\"} 1",
            "windlass_operator_reconcile_duration_seconds_count 1",
            "windlass_operator_apply_total{kind=\"Service\",result=\"repaired\"} 1",
            "windlass_operator_leader 1",
        ] {
            assert!(text.lines().any(|present| present == line), "{line} is not in\n{text}");
        }
    }
}
