//! Electing the one operator that acts, by a Lease.
//!
//! # Guarantees
//! At most one process believes that it leads, as long as clocks run at about the same speed: a leader stops believing
//! so after [`RENEW_DEADLINE`] without a renewal, and nobody takes a lease over before it has been seen unchanged for
//! [`LEASE_DURATION`], measured by one's own clock. The times written by others are never compared with one's own, so
//! clocks may show different times. Every write names the version that it replaces, so of two that reach for a lease one
//! gets it. Two leaders for a moment would do no harm either: all that the operator writes can be written twice.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::time::{sleep, timeout};

/// How long others leave a lease alone that is not renewed.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);

/// How long a leader goes on without being able to renew.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// Time between two looks at the lease.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// One process's part in the election.
pub struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
    seen: Option<Seen>,
}

/// A lease as it was last seen, and since when it has been so.
struct Seen {
    spec: LeaseSpec,
    since: Instant,
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// There is none: make it.
    Create,
    /// It is free or has run out: take it over.
    Take,
    /// It is ours: renew it.
    Renew,
    /// It is somebody else's.
    Wait,
}

impl Election {
    /// Takes part in the election for the lease `name`, under the name `identity`, which must be unique.
    #[must_use]
    pub fn new(leases: Api<Lease>, name: String, identity: String) -> Self {
        Self { leases, name, identity, seen: None }
    }

    /// Returns once this process leads.
    pub async fn acquire(&mut self) {
        loop {
            match timeout(RENEW_DEADLINE, self.attempt()).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%error, lease = self.name, "the lease cannot be reached"),
                Err(_) => tracing::warn!(lease = self.name, "the API server does not answer"),
            }
            sleep(RETRY_PERIOD).await;
        }
    }

    /// Goes on leading; returns when this process must not believe any more that it leads.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            sleep(RETRY_PERIOD).await;
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            match timeout(left, self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => tracing::warn!(%error, lease = self.name, "the lease cannot be renewed"),
            }
        }
    }

    /// Gives the lease up, so that the next leader need not wait for it to run out.
    ///
    /// # Errors
    /// The API server's; the lease then runs out by itself.
    pub async fn release(&mut self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() == Some(&self.identity) {
            spec.holder_identity = None;
            self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }

    /// Looks at the lease once, does what is to be done, and says whether this process leads.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let current = self.leases.get_opt(&self.name).await?;
        let unchanged = self.observe(current.as_ref());
        let step = step(current.as_ref(), &self.identity, unchanged);
        let written = match step {
            Step::Wait => return Ok(false),
            Step::Create => self.leases.create(&PostParams::default(), &self.lease(None)).await,
            Step::Take | Step::Renew => {
                let lease = self.lease(current);
                self.leases.replace(&self.name, &PostParams::default(), &lease).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            // Somebody else was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Notes how the lease looks and returns for how long it has looked so.
    fn observe(&mut self, lease: Option<&Lease>) -> Duration {
        let spec = lease.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        match &self.seen {
            Some(seen) if seen.spec == spec => seen.since.elapsed(),
            _ => {
                self.seen = Some(Seen { spec, since: Instant::now() });
                Duration::ZERO
            }
        }
    }

    /// The lease held by this process, in place of `previous`, whose version it keeps.
    fn lease(&self, previous: Option<Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let mut lease = previous.unwrap_or(Lease { metadata, spec: None });
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            spec.holder_identity = Some(self.identity.clone());
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
        }
        spec.renew_time = Some(now);
        spec.lease_duration_seconds = i32::try_from(LEASE_DURATION.as_secs()).ok();
        lease
    }
}

/// Decides what to do about `lease`, which has looked as it does for the time `unchanged`.
fn step(lease: Option<&Lease>, identity: &str, unchanged: Duration) -> Step {
    let Some(lease) = lease else { return Step::Create };
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let duration = seconds.map_or(LEASE_DURATION, Duration::from_secs);
    match spec.holder_identity.as_deref() {
        Some(holder) if holder == identity => Step::Renew,
        None | Some("") => Step::Take,
        Some(_) if unchanged >= duration => Step::Take,
        Some(_) => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::{LEASE_DURATION, RENEW_DEADLINE, Step, step};
    use k8s_openapi::api::coordination::v1::Lease;
    use serde_json::json;
    use std::time::Duration;

    fn held(holder: Option<&str>, seconds: i32) -> Lease {
        serde_json::from_value(json!({"metadata": {"name": "l"}, "spec": {
            "holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": "2000-01-01T00:00:00.000000Z"}}))
        .unwrap()
    }

    #[test]
    fn a_lease_is_taken_only_when_it_is_free_or_has_run_out_by_ones_own_clock() {
        let seconds = Duration::from_secs;
        for (lease, unchanged, expected) in [
            (None, seconds(0), Step::Create),
            (Some(held(None, 15)), seconds(0), Step::Take),
            (Some(held(Some(""), 15)), seconds(0), Step::Take),
            (Some(held(Some("me"), 15)), seconds(0), Step::Renew),
            (Some(held(Some("me"), 15)), seconds(60), Step::Renew),
            // Its time of renewal is long past by the calendar; that does not count.
            (Some(held(Some("other"), 15)), seconds(0), Step::Wait),
            (Some(held(Some("other"), 15)), seconds(14), Step::Wait),
            (Some(held(Some("other"), 15)), seconds(15), Step::Take),
            (Some(held(Some("other"), 60)), seconds(15), Step::Wait),
            (Some(Lease::default()), seconds(0), Step::Take),
        ] {
            assert_eq!(step(lease.as_ref(), "me", unchanged), expected, "{lease:?} {unchanged:?}");
        }
    }

    #[test]
    fn a_leader_gives_up_before_others_may_take_over() {
        assert!(RENEW_DEADLINE < LEASE_DURATION);
    }
}
