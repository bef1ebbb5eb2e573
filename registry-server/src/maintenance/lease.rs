//! Keeps two garbage collections from doing the same work at the same time.
//!
//! Safety does not depend on it: any number of runs may overlap. So a plain file is enough, which says who runs and
//! until when that may be believed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::Error;
use crate::registry::Registry;
use crate::storage::{self, Durability, Key};
use crate::types::RunId;

/// For how long a run that says nothing more is believed to go on.
const LIFETIME: Duration = Duration::from_secs(60);

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Record {
    run: String,
    holder: String,
    expires: Timestamp,
}

/// The lease while it is held. It is renewed until it is released.
#[derive(Debug)]
pub(super) struct Lease {
    registry: Registry,
    run: RunId,
    lost: Arc<AtomicBool>,
    renewal: JoinHandle<()>,
}

impl Lease {
    /// Takes the lease unless another run holds it.
    pub(super) async fn take(registry: &Registry, run: RunId) -> Result<Self, Error> {
        let now = Timestamp::now();
        if let Some(record) = read(registry).await?.filter(|record| record.expires > now) {
            return Err(Error::Busy { run: record.run, holder: record.holder, expires: record.expires });
        }
        write(registry, run).await?;
        let lost = Arc::new(AtomicBool::new(false));
        let renewal = tokio::spawn(renew(registry.clone(), run, Arc::clone(&lost), LIFETIME / 4));
        Ok(Self { registry: registry.clone(), run, lost, renewal })
    }

    /// Whether another run has taken the lease because this one stood still.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Gives the lease back.
    pub(super) async fn release(self) {
        self.renewal.abort();
        let holds =
            matches!(read(&self.registry).await, Ok(Some(record)) if record.run == self.run.to_string());
        if holds && let Err(error) = self.registry.storage().delete(Key::Lease, Durability::Process).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the lease stays until it expires");
        }
    }
}

async fn renew(registry: Registry, run: RunId, lost: Arc<AtomicBool>, interval: Duration) {
    let own = run.to_string();
    loop {
        tokio::time::sleep(interval).await;
        match read(&registry).await {
            Ok(Some(record)) if record.run != own => return lost.store(true, Ordering::Relaxed),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the lease cannot be read");
                continue;
            }
        }
        if let Err(error) = write(&registry, run).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the lease cannot be renewed");
        }
    }
}

/// The lease as it stands; what is no lease counts as none, for it must not keep anybody from collecting for ever.
async fn read(registry: &Registry) -> storage::Result<Option<Record>> {
    match registry.storage().read(Key::Lease).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(storage::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn write(registry: &Registry, run: RunId) -> storage::Result<()> {
    let expires = Timestamp::now() + LIFETIME;
    let record = Record { run: run.to_string(), holder: holder(), expires };
    let bytes = serde_json::to_vec(&record).unwrap_or_default();
    registry.storage().put(Key::Lease, &bytes, Durability::Process).await
}

/// This process, as a person would look for it: in a cluster, the host is the Pod.
fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("process {} on {}", std::process::id(), host.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Memory;

    fn registry() -> Registry {
        Registry::new(Arc::new(Memory::default()))
    }

    #[tokio::test]
    async fn the_second_is_told_who_holds_it_until_it_is_given_back() {
        let registry = registry();
        let (first, second) = (RunId::now(), RunId::now());
        let lease = Lease::take(&registry, first).await.unwrap();
        let refused = Lease::take(&registry, second).await.unwrap_err().to_string();
        assert!(refused.contains(&first.to_string()) && refused.contains("process"), "{refused}");
        lease.release().await;
        Lease::take(&registry, second).await.unwrap().release().await;
    }

    #[tokio::test]
    async fn a_dead_holders_lease_expires_and_a_damaged_one_counts_for_nothing() {
        let registry = registry();
        let old = r#"{"run":"x","holder":"y","expires":"2020-01-01T00:00:00Z"}"#;
        for left in [old, "{", ""] {
            registry.storage().put(Key::Lease, left.as_bytes(), Durability::Process).await.unwrap();
            Lease::take(&registry, RunId::now()).await.unwrap().release().await;
        }
    }

    #[tokio::test]
    async fn who_stood_still_for_too_long_notices_that_another_has_it() {
        let (registry, run, lost) = (registry(), RunId::now(), Arc::default());
        write(&registry, "20200101T000000Z-000001".parse().unwrap()).await.unwrap();
        renew(registry.clone(), run, Arc::clone(&lost), Duration::ZERO).await;
        assert!(lost.load(Ordering::Relaxed));
        let held = read(&registry).await.unwrap().unwrap();
        assert_eq!(held.run, "20200101T000000Z-000001", "another's lease is left alone");
    }
}
