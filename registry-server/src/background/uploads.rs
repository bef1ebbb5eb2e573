//! Removes uploads that nobody goes on with, now and then.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;

use crate::config::UploadPurging;
use crate::maintenance::purge_uploads;
use crate::registry::Registry;

/// The first look comes within this time, so that the servers of one volume do not look at once. It harms nothing
/// when they do.
const SPREAD: Duration = Duration::from_secs(3600);

/// The shortest time between two looks, whatever the settings say.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);

/// Removes them again and again.
pub(super) async fn run(registry: &Registry, settings: &UploadPurging) -> Infallible {
    let interval = settings.interval.max(LEAST_INTERVAL);
    sleep(SPREAD.min(interval).mul_f64(random_fraction())).await;
    loop {
        match purge_uploads(registry, settings.age, settings.dryrun).await {
            Ok(purged) => {
                tracing::debug!(uploads = purged.uploads, bytes = purged.bytes, "looked for old uploads");
            }
            Err(error) => {
                let error: &dyn Error = &error;
                tracing::warn!(error, "old uploads could not be looked for");
            }
        }
        sleep(interval).await;
    }
}

/// A number from 0 to 1, another for each process.
fn random_fraction() -> f64 {
    f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}
