//! What is decided about a tag, and why, in words.

use std::fmt;
use std::time::Duration;

/// What becomes of a tag. Its text goes on from "the tag stays" or "the tag goes".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep(Kept),
    /// It goes.
    Go(LetGo),
}

/// Why a tag stays: of all the reasons that hold, the first in the order of these variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// No policy is about it.
    NoPolicy,
    /// Its policy has no rules, and so lets no tag go.
    NoRules {
        /// The policy's place in the list, from 0.
        policy: usize,
    },
    /// It is among the tags that were pushed last.
    MostRecentlyPushed {
        /// The policy's place in the list, from 0.
        policy: usize,
        /// How many the policy keeps.
        count: u32,
        /// Which of them it is, from 1.
        place: usize,
    },
    /// It is among the tags that were pulled last.
    MostRecentlyPulled {
        /// The policy's place in the list, from 0.
        policy: usize,
        /// How many the policy keeps.
        count: u32,
        /// Which of them it is, from 1.
        place: usize,
    },
    /// It was pushed lately.
    PushedWithin {
        /// The policy's place in the list, from 0.
        policy: usize,
        /// How long the policy keeps what was pushed.
        limit: Duration,
        /// How long ago it was pushed.
        age: Duration,
    },
    /// It was pulled lately.
    PulledWithin {
        /// The policy's place in the list, from 0.
        policy: usize,
        /// How long the policy keeps what was pulled.
        limit: Duration,
        /// How long ago it was pulled.
        age: Duration,
    },
    /// It matches one of its policy's patterns.
    Pattern {
        /// The policy's place in the list, from 0.
        policy: usize,
        /// The pattern.
        pattern: String,
    },
    /// The rules let it go, but it matches a pattern that is protected everywhere.
    Protected {
        /// The pattern.
        pattern: String,
    },
    /// The rules let it go, but a workload uses it.
    Used {
        /// Who uses it; may be empty.
        by: String,
    },
    /// The rules let it go, but it is not known whether a workload uses it.
    UseUnknown,
}

/// Why a tag goes: none of its policy's rules holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetGo {
    /// The policy's place in the list, from 0.
    pub policy: usize,
    /// Its place among the policy's tags, from 1 for the one that was pushed last.
    pub place: usize,
    /// How long ago it was pushed.
    pub pushed: Duration,
    /// How long ago it was pulled, if it ever was.
    pub pulled: Option<Duration>,
}

impl Verdict {
    /// Whether the tag stays.
    #[must_use]
    pub fn keeps(&self) -> bool {
        matches!(self, Self::Keep(_))
    }

    /// Whether the tag would go if no workload used it.
    #[must_use]
    pub fn is_kept_by_workload(&self) -> bool {
        matches!(self, Self::Keep(Kept::Used { .. }))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(kept) => kept.fmt(formatter),
            Self::Go(gone) => gone.fmt(formatter),
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("no policy is about it"),
            Self::NoRules { policy } => write!(f, "policies[{policy}] has no rules to let a tag go"),
            Self::MostRecentlyPushed { policy, count, place } => {
                write!(f, "policies[{policy}] keeps the {count} pushed last, it is number {place}")
            }
            Self::MostRecentlyPulled { policy, count, place } => {
                write!(f, "policies[{policy}] keeps the {count} pulled last, it is number {place}")
            }
            Self::PushedWithin { policy, limit, age } => {
                let (limit, age) = (Span(*limit), Span(*age));
                write!(f, "policies[{policy}] keeps what was pushed within {limit}, it was {age} ago")
            }
            Self::PulledWithin { policy, limit, age } => {
                let (limit, age) = (Span(*limit), Span(*age));
                write!(f, "policies[{policy}] keeps what was pulled within {limit}, it was {age} ago")
            }
            Self::Pattern { policy, pattern } => write!(f, "policies[{policy}] keeps what matches {pattern}"),
            Self::Protected { pattern } => write!(f, "what matches {pattern} is protected"),
            Self::Used { by } if by.is_empty() => f.write_str("a workload uses it"),
            Self::Used { by } => write!(f, "{by} uses it"),
            Self::UseUnknown => f.write_str("it is not known whether a workload uses it"),
        }
    }
}

impl fmt::Display for LetGo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, place, pushed, pulled } = self;
        let pushed = Span(*pushed);
        write!(formatter, "no rule of policies[{policy}] keeps it: number {place} by push, {pushed} ago, ")?;
        match pulled {
            Some(pulled) => write!(formatter, "last pulled {} ago", Span(*pulled)),
            None => formatter.write_str("no pull known"),
        }
    }
}

/// A duration in the largest unit of which it has two.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let units = [(86_400, "days"), (3_600, "hours"), (60, "minutes")];
        match units.into_iter().find(|(size, _)| seconds >= 2 * size) {
            Some((size, unit)) => write!(formatter, "{} {unit}", seconds / size),
            None if seconds == 1 => formatter.write_str("1 second"),
            None => write!(formatter, "{seconds} seconds"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_a_unit_that_says_enough() {
        let rows = [
            (0, "0 seconds"),
            (1, "1 second"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (3 * 3600 + 59, "3 hours"),
            (47 * 3600, "47 hours"),
            (40 * 86_400 + 1, "40 days"),
        ];
        for (seconds, words) in rows {
            assert_eq!(Span(Duration::from_secs(seconds)).to_string(), words);
        }
    }
}
