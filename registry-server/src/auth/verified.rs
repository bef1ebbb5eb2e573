//! Pairs of user and password that were found right, so that bcrypt runs once in some minutes for each.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand::SystemRandom;
use tokio::sync::OnceCell;

/// How long a pair is believed. Changes of the password file count at once all the same, see [`Verified::is_right`].
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// The most pairs that are kept. Some hundred bytes each.
const CAPACITY: usize = 4096;

/// The pairs, known only by a keyed digest: memory that leaks gives away no password.
pub(super) struct Verified {
    key: hmac::Key,
    checks: Mutex<HashMap<Digest, Check>>,
}

type Digest = [u8; 32];

/// A check of a pair that runs or was passed; failed ones are forgotten.
struct Check {
    begun: Instant,
    result: Arc<OnceCell<bool>>,
}

impl Verified {
    /// An empty store with a key of its own.
    pub(super) fn new() -> Result<Self, Unspecified> {
        let key = hmac::Key::generate(HMAC_SHA256, &SystemRandom::new())?;
        Ok(Self { key, checks: Mutex::default() })
    }

    /// Whether `password` is right for `user`, whose stored hash is `hash`: as found before, or as `verify` finds.
    ///
    /// `verify` runs only if it is needed. Requests with the same pair share one check. The hash is part of the pair, so a
    /// new one needs a new check.
    ///
    /// # Errors
    /// Those of `verify`.
    pub(super) async fn is_right<E>(
        &self,
        user: &str,
        password: &str,
        hash: &str,
        verify: impl Future<Output = Result<bool, E>>,
    ) -> Result<bool, E> {
        let digest = self.digest(&[user, password, hash]);
        let result = self.check(digest);
        let is_right = result.get_or_try_init(|| verify).await.copied();
        if !matches!(is_right, Ok(true)) {
            self.lock().remove(&digest);
        }
        is_right
    }

    fn check(&self, digest: Digest) -> Arc<OnceCell<bool>> {
        let now = Instant::now();
        let mut checks = self.lock();
        if checks.get(&digest).is_some_and(|check| now.duration_since(check.begun) >= LIFETIME) {
            checks.remove(&digest);
        }
        if checks.len() >= CAPACITY && !checks.contains_key(&digest) {
            make_room(&mut checks, now);
        }
        let check = checks.entry(digest).or_insert_with(|| Check { begun: now, result: Arc::default() });
        Arc::clone(&check.result)
    }

    /// A digest that no other list of parts has: each part is preceded by its length.
    fn digest(&self, parts: &[&str]) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&part.len().to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut digest = Digest::default();
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Check>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets what is too old, or else the older half.
fn make_room(checks: &mut HashMap<Digest, Check>, now: Instant) {
    checks.retain(|_, check| now.duration_since(check.begun) < LIFETIME);
    if checks.len() < CAPACITY {
        return;
    }
    let mut begun: Vec<_> = checks.values().map(|check| check.begun).collect();
    let (_, median, _) = begun.select_nth_unstable(CAPACITY / 2);
    let median = *median;
    checks.retain(|_, check| check.begun > median);
}

impl fmt::Debug for Verified {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Verified").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const RIGHT: Result<bool, ()> = Ok(true);
    const WRONG: Result<bool, ()> = Ok(false);

    #[tokio::test]
    async fn a_right_pair_is_verified_once_and_any_other_each_time() {
        let verified = Verified::new().unwrap();
        let checks = AtomicUsize::new(0);
        let rows = [
            ("ann", "secret", "hash", Err("overloaded"), 1),
            ("ann", "secret", "hash", Ok(true), 2),
            ("ann", "secret", "hash", Ok(true), 2),
            ("ann", "secret", "new hash", Ok(true), 3),
            ("ann", "wrong", "hash", Ok(false), 4),
            ("ann", "wrong", "hash", Ok(false), 5),
            // Neither may be taken for the other.
            ("a", "nnsecret", "hash", Ok(false), 6),
            ("anns", "ecret", "hash", Ok(false), 7),
        ];
        for (user, password, hash, right, total) in rows {
            let verify = async {
                checks.fetch_add(1, Ordering::Relaxed);
                right
            };
            assert_eq!(verified.is_right(user, password, hash, verify).await, right);
            assert_eq!(checks.load(Ordering::Relaxed), total, "{user} {password} {hash}");
        }
    }

    #[tokio::test]
    async fn the_same_pair_at_the_same_time_is_verified_once() {
        let verified = Verified::new().unwrap();
        let checks = AtomicUsize::new(0);
        let requests = (0..50).map(|_| {
            verified.is_right("ann", "secret", "hash", async {
                checks.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                RIGHT
            })
        });
        assert!(futures::future::join_all(requests).await.into_iter().all(|right| right == RIGHT));
        assert_eq!(checks.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_check_whose_request_went_away_is_taken_over() {
        let verified = Verified::new().unwrap();
        let gone = verified.is_right("ann", "secret", "hash", std::future::pending::<Result<bool, ()>>());
        let waited = tokio::time::timeout(Duration::from_millis(10), gone).await;
        assert!(waited.is_err());
        assert_eq!(verified.is_right("ann", "secret", "hash", async { RIGHT }).await, RIGHT);
    }

    #[tokio::test]
    async fn the_number_of_pairs_is_bounded() {
        let verified = Verified::new().unwrap();
        for number in 0..CAPACITY + 10 {
            assert_eq!(verified.is_right("ann", &number.to_string(), "hash", async { RIGHT }).await, RIGHT);
        }
        let kept = verified.lock().len();
        assert!(kept <= CAPACITY / 2 + 10, "{kept}");
        // The newest is among those kept.
        assert_eq!(
            verified.is_right("ann", &(CAPACITY + 9).to_string(), "hash", async { WRONG }).await,
            RIGHT
        );
    }

    #[tokio::test]
    async fn a_pair_is_believed_for_some_minutes_only() {
        let verified = Verified::new().unwrap();
        assert_eq!(verified.is_right("ann", "secret", "hash", async { RIGHT }).await, RIGHT);
        for check in verified.lock().values_mut() {
            check.begun = Instant::now().checked_sub(LIFETIME).unwrap();
        }
        assert_eq!(verified.is_right("ann", "secret", "hash", async { WRONG }).await, WRONG);
    }
}
