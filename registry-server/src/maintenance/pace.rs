//! How long a run may take, and how much it may ask of the disk.

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// A run's budget.
#[derive(Debug)]
pub(super) struct Pace {
    /// Cancelled when the run is asked to end before its time.
    stop: CancellationToken,
    deadline: Option<Instant>,
    /// How long one operation may take on average, and until when those of the past were paid for.
    limit: Option<(Duration, Mutex<Instant>)>,
}

impl Pace {
    /// A budget that begins now: time in all, and operations a second.
    pub(super) fn new(time: Option<Duration>, operations: Option<NonZeroU32>) -> Self {
        let now = Instant::now();
        let limit = operations.map(|limit| (Duration::from_secs(1) / limit.get(), Mutex::new(now)));
        Self { stop: CancellationToken::new(), deadline: time.map(|time| now + time), limit }
    }

    /// What ends the time at once when it is cancelled.
    pub(super) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Whether the time is over.
    pub(super) fn is_over(&self) -> bool {
        self.stop.is_cancelled() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Waits until so many operations, done or about to be done, are within the limit.
    pub(super) async fn pay(&self, operations: usize) {
        let Some((each, paid)) = &self.limit else { return };
        let cost = each.saturating_mul(u32::try_from(operations).unwrap_or(u32::MAX));
        let until = {
            let mut paid = paid.lock().unwrap_or_else(PoisonError::into_inner);
            *paid = (*paid).max(Instant::now()) + cost;
            *paid
        };
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn operations_are_spread_over_time() {
        let start = Instant::now();
        let pace = Pace::new(None, NonZeroU32::new(1000));
        for _ in 0..5 {
            pace.pay(10).await;
        }
        assert!(start.elapsed() >= Duration::from_millis(50));
        assert!(!pace.is_over());
    }

    #[tokio::test]
    async fn a_run_that_is_asked_to_end_waits_for_nothing() {
        let pace = Pace::new(None, NonZeroU32::new(1));
        pace.stop().cancel();
        pace.pay(1000).await;
        assert!(pace.is_over());
    }

    #[tokio::test]
    async fn a_budget_of_no_time_is_over_at_once_and_none_never() {
        assert!(Pace::new(Some(Duration::ZERO), None).is_over());
        let free = Pace::new(None, None);
        free.pay(usize::MAX).await;
        assert!(!free.is_over());
    }
}
