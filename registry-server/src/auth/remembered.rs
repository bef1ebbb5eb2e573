//! Whether something is so, where that takes a while to find out and is asked again and again: each answer is found once in
//! some time, however many ask.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand::SystemRandom;
use tokio::sync::OnceCell;

/// The most answers that are kept. Some hundred bytes each.
const CAPACITY: usize = 4096;

/// Answers, and questions that are known only by a keyed digest: memory that leaks gives away no password.
pub(super) struct Remembered {
    key: hmac::Key,
    /// How long an answer is believed.
    lifetime: Duration,
    /// Whether a no is kept, too.
    keeps_no: bool,
    answers: Mutex<HashMap<Digest, Answer>>,
}

type Digest = [u8; 32];

/// An answer that is being found or was.
struct Answer {
    begun: Instant,
    found: Arc<OnceCell<bool>>,
}

impl Remembered {
    /// Keeps every answer.
    pub(super) fn all(lifetime: Duration) -> Result<Self, Unspecified> {
        let key = hmac::Key::generate(HMAC_SHA256, &SystemRandom::new())?;
        Ok(Self { key, lifetime, keeps_no: true, answers: Mutex::default() })
    }

    /// Keeps only what is so: what is not must not take its place, however often it is asked.
    pub(super) fn yes(lifetime: Duration) -> Result<Self, Unspecified> {
        Ok(Self { keeps_no: false, ..Self::all(lifetime)? })
    }

    /// The answer to `question`: as found before, or as `find` finds.
    ///
    /// `find` runs only if it is needed, and requests with the same question share one. What fails is not kept.
    ///
    /// # Errors
    /// Those of `find`.
    pub(super) async fn get<E>(
        &self,
        question: &[&str],
        find: impl Future<Output = Result<bool, E>>,
    ) -> Result<bool, E> {
        let digest = self.digest(question);
        let found = self.answer(digest).get_or_try_init(|| find).await.copied();
        if !found.as_ref().is_ok_and(|is_so| *is_so || self.keeps_no) {
            self.lock().remove(&digest);
        }
        found
    }

    fn answer(&self, digest: Digest) -> Arc<OnceCell<bool>> {
        let now = Instant::now();
        let mut answers = self.lock();
        if answers.get(&digest).is_some_and(|answer| self.is_old(answer, now)) {
            answers.remove(&digest);
        }
        if answers.len() >= CAPACITY && !answers.contains_key(&digest) {
            self.make_room(&mut answers, now);
        }
        let answer = answers.entry(digest).or_insert_with(|| Answer { begun: now, found: Arc::default() });
        Arc::clone(&answer.found)
    }

    fn is_old(&self, answer: &Answer, now: Instant) -> bool {
        now.duration_since(answer.begun) >= self.lifetime
    }

    /// Forgets what is too old, or else the older half.
    fn make_room(&self, answers: &mut HashMap<Digest, Answer>, now: Instant) {
        answers.retain(|_, answer| !self.is_old(answer, now));
        if answers.len() < CAPACITY {
            return;
        }
        let mut begun: Vec<_> = answers.values().map(|answer| answer.begun).collect();
        let (_, median, _) = begun.select_nth_unstable(CAPACITY / 2);
        let median = *median;
        answers.retain(|_, answer| answer.begun > median);
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

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Remembered").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(300);
    const YES: Result<bool, ()> = Ok(true);
    const NO: Result<bool, ()> = Ok(false);

    fn remembered() -> Remembered {
        Remembered::all(LIFETIME).unwrap()
    }

    #[tokio::test]
    async fn an_answer_is_found_once_and_a_failure_is_tried_again() {
        let remembered = remembered();
        let searches = AtomicUsize::new(0);
        let rows: [(&[&str], _, _); 9] = [
            (&["ann", "pull"], Err("overloaded"), 1),
            (&["ann", "pull"], Ok(true), 2),
            (&["ann", "pull"], Ok(true), 2),
            (&["ann", "push"], Ok(false), 3),
            (&["ann", "push"], Ok(false), 3),
            // None of these may be taken for another.
            (&["annpull"], Ok(false), 4),
            (&["annp", "ull"], Ok(false), 5),
            (&["ann", "pull", ""], Ok(false), 6),
            (&["ann", "pull"], Ok(true), 6),
        ];
        for (question, answer, total) in rows {
            let find = async {
                searches.fetch_add(1, Ordering::Relaxed);
                answer
            };
            assert_eq!(remembered.get(question, find).await, answer, "{question:?}");
            assert_eq!(searches.load(Ordering::Relaxed), total, "{question:?}");
        }
    }

    #[tokio::test]
    async fn where_only_a_yes_is_kept_a_no_is_found_each_time() {
        let remembered = Remembered::yes(LIFETIME).unwrap();
        for answer in [NO, YES] {
            assert_eq!(remembered.get(&["ann"], async { answer }).await, answer);
        }
        assert_eq!(remembered.get(&["ann"], async { NO }).await, YES);
    }

    #[tokio::test]
    async fn the_answer_to_the_same_question_at_the_same_time_is_found_once() {
        let remembered = remembered();
        let searches = AtomicUsize::new(0);
        let requests = (0..50).map(|_| {
            remembered.get(&["ann"], async {
                searches.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                YES
            })
        });
        assert!(futures::future::join_all(requests).await.into_iter().all(|answer| answer == YES));
        assert_eq!(searches.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_search_whose_request_went_away_is_taken_over() {
        let remembered = remembered();
        let gone = remembered.get(&["ann"], std::future::pending::<Result<bool, ()>>());
        let waited = tokio::time::timeout(Duration::from_millis(10), gone).await;
        assert!(waited.is_err());
        assert_eq!(remembered.get(&["ann"], async { YES }).await, YES);
    }

    #[tokio::test]
    async fn the_number_of_answers_is_bounded() {
        let remembered = remembered();
        for number in 0..CAPACITY + 10 {
            assert_eq!(remembered.get(&[&number.to_string()], async { YES }).await, YES);
        }
        let kept = remembered.lock().len();
        assert!(kept <= CAPACITY / 2 + 10, "{kept}");
        // The newest is among those kept.
        assert_eq!(remembered.get(&[&(CAPACITY + 9).to_string()], async { NO }).await, YES);
    }

    #[tokio::test]
    async fn an_answer_is_believed_for_its_lifetime_only() {
        let remembered = remembered();
        assert_eq!(remembered.get(&["ann"], async { YES }).await, YES);
        for answer in remembered.lock().values_mut() {
            answer.begun = Instant::now().checked_sub(LIFETIME).unwrap();
        }
        assert_eq!(remembered.get(&["ann"], async { NO }).await, NO);
    }
}
