//! What the passwords of a Registry's pull secrets are made from, and when they are exchanged.
//!
//! Nothing here talks to Kubernetes. A password follows from a seed and the name of a namespace, so that nothing which
//! lies in other people's namespaces is ever read back: what is missing or was changed there is made again as it was.
//!
//! A new seed is known to the server before anybody uses it, and the old one for some time after: two are valid at a time.

use std::fmt::{self, Write as _};
use std::time::Duration;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use registry_server::auth::pull_secrets::PREFIX;

use crate::conditions::whole_seconds;

/// The longest time for which a seed is known before it is used, and after: a kubelet that is in order brings a changed
/// Secret to the server in two minutes.
const LONGEST_GRACE: Duration = Duration::from_secs(600);

/// Random bytes from which passwords are made.
#[derive(Clone, Eq, PartialEq)]
pub struct Seed {
    made: Timestamp,
    key: [u8; 32],
}

/// One seed, or two of which the older comes first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seeds {
    seeds: Vec<Seed>,
    every: Duration,
}

impl Seed {
    fn new(now: Timestamp) -> Result<Self, Unspecified> {
        let mut key = [0; 32];
        rand::fill(&mut key)?;
        Ok(Self { made: whole_seconds(now), key })
    }

    /// The password that a namespace has by this seed.
    #[must_use]
    pub fn password(&self, namespace: &str) -> String {
        let key = hmac::Key::new(HMAC_SHA256, &self.key);
        let tag = hmac::sign(&key, namespace.as_bytes());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }

    fn after(&self, duration: Duration) -> Timestamp {
        let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        self.made.checked_add(duration).unwrap_or(Timestamp::MAX)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Seed").field("made", &self.made).finish_non_exhaustive()
    }
}

impl Seeds {
    /// The seeds that should be there at `now`, keeping of the text of `existing` ones all that is still good; a new one
    /// is made `every` so often. What cannot be read is made again.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn ensure(existing: Option<&str>, every: Duration, now: Timestamp) -> Result<Self, Unspecified> {
        let mut seeds: Vec<Seed> = existing.unwrap_or_default().lines().filter_map(parse).collect();
        seeds.sort_by_key(|seed| seed.made);
        let mut kept = Self { seeds, every };
        let grace = kept.grace();
        if kept.seeds.last().is_none_or(|newest| newest.after(every) <= now) {
            kept.seeds.push(Seed::new(now)?);
        }
        let is_settled = kept.seeds.last().is_some_and(|newest| newest.after(2 * grace) <= now);
        let surplus = kept.seeds.len().saturating_sub(if is_settled { 1 } else { 2 });
        kept.seeds.drain(..surplus);
        Ok(kept)
    }

    /// All seeds whose passwords are valid, the older first.
    #[must_use]
    pub fn valid(&self) -> &[Seed] {
        &self.seeds
    }

    /// The seed whose passwords are to be used at `now`: the newest that the server has had time to learn of.
    #[must_use]
    pub fn in_use(&self, now: Timestamp) -> Option<&Seed> {
        let known = self.seeds.iter().rev().find(|seed| seed.after(self.grace()) <= now);
        known.or_else(|| self.seeds.first())
    }

    /// When something is to be made, used or forgotten.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let newest = self.seeds.last()?;
        let steps = [newest.after(self.grace()), newest.after(2 * self.grace()), newest.after(self.every)];
        let steps = if self.seeds.len() == 1 { &steps[2..] } else { &steps[..] };
        steps.iter().copied().find(|step| *step > now)
    }

    /// The form in which they are kept: a line for each, with its time.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for seed in &self.seeds {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{} {}", seed.made, URL_SAFE_NO_PAD.encode(seed.key));
        }
        text
    }

    fn grace(&self) -> Duration {
        LONGEST_GRACE.min(self.every / 4)
    }
}

fn parse(line: &str) -> Option<Seed> {
    let (made, key) = line.trim().split_once(' ')?;
    let key = URL_SAFE_NO_PAD.decode(key).ok()?.try_into().ok()?;
    Some(Seed { made: made.parse().ok()?, key })
}

#[cfg(test)]
mod tests {
    use super::Seeds;
    use jiff::{SignedDuration, Timestamp};
    use std::time::Duration;

    fn at(minutes: i64) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
    }

    fn ensured(existing: Option<&Seeds>, every: u64, now: i64) -> Seeds {
        let text = existing.map(Seeds::text);
        Seeds::ensure(text.as_deref(), Duration::from_secs(60 * every), at(now)).unwrap()
    }

    #[test]
    fn the_server_knows_a_seed_before_and_after_anybody_uses_it() {
        let hour = 60;
        let first = ensured(None, hour, 0);
        let old = first.valid()[0].clone();
        assert_eq!(first.in_use(at(0)), Some(&old));
        assert_eq!(ensured(Some(&first), hour, 59), first, "nothing is due, so nothing changes");
        let both = ensured(Some(&first), hour, 60);
        let new = both.valid()[1].clone();
        assert_eq!(both.valid(), [old.clone(), new.clone()]);
        for (minute, used, valid) in
            [(60, &old, 2), (69, &old, 2), (70, &new, 2), (79, &new, 2), (80, &new, 1)]
        {
            let seeds = ensured(Some(&both), hour, minute);
            assert_eq!((seeds.in_use(at(minute)), seeds.valid().len()), (Some(used), valid), "{minute}");
        }
    }

    #[test]
    fn it_is_looked_at_again_when_something_is_due() {
        let mut seeds = ensured(None, 4, 0);
        let mut steps = vec![0];
        for _ in 0..7 {
            let due = seeds.due(at(*steps.last().unwrap())).unwrap();
            let minute = (due.as_second() - at(0).as_second()) / 60;
            steps.push(minute);
            seeds = ensured(Some(&seeds), 4, minute);
        }
        assert_eq!(steps, [0, 4, 5, 6, 8, 9, 10, 12]);
    }

    #[test]
    fn an_operator_that_was_away_loses_nobody() {
        let first = ensured(None, 4, 0);
        let late = ensured(Some(&first), 4, 1000);
        assert_eq!(late.in_use(at(1000)), Some(&first.valid()[0]));
        assert_eq!(late.valid().len(), 2);
    }

    #[test]
    fn what_cannot_be_read_is_made_again() {
        let every = Duration::from_secs(3600);
        for text in ["", "x", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z AAAA", "soon AAAA\n\n"] {
            let seeds = Seeds::ensure(Some(text), every, at(0)).unwrap();
            assert_eq!(seeds.valid().len(), 1, "{text}");
        }
    }

    #[test]
    fn a_password_follows_from_seed_and_namespace_and_shows_what_it_is() {
        let (seeds, others) = (ensured(None, 60, 0), ensured(None, 60, 0));
        let password = seeds.valid()[0].password("team-a");
        assert_eq!(password, ensured(Some(&seeds), 60, 1).valid()[0].password("team-a"));
        assert_ne!(password, seeds.valid()[0].password("team-b"));
        assert_ne!(password, others.valid()[0].password("team-a"));
        assert!(password.starts_with("windlass_pull_") && password.len() == 14 + 43, "{password}");
        let debug = format!("{seeds:?}");
        assert!(!debug.contains("key"), "{debug}");
    }
}
