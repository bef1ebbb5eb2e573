//! How a condition of a status is put together, the same for all resources.

use std::fmt::Display;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// One condition before it gets its times.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict<Reason> {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// One word for tools.
    pub reason: Reason,
    /// The same for people.
    pub message: String,
}

impl<Reason: Display> Verdict<Reason> {
    /// A verdict that is either true or false.
    pub fn new(is_true: bool, reason: Reason, message: impl Into<String>) -> Self {
        Self { status: if is_true { "True" } else { "False" }, reason, message: message.into() }
    }

    /// A verdict on what is not known.
    pub fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: "Unknown", reason, message: message.into() }
    }

    /// The condition of type `type_` at `generation`, or at none if it is not about the spec alone. It keeps the time of its last change of status, which the
    /// `previous` conditions know.
    pub fn condition(
        &self,
        type_: &str,
        previous: &[Condition],
        generation: impl Into<Option<i64>>,
        now: Timestamp,
    ) -> Condition {
        let unchanged = previous.iter().find(|known| known.type_ == type_ && known.status == self.status);
        Condition {
            type_: type_.to_owned(),
            status: self.status.to_owned(),
            reason: self.reason.to_string(),
            message: self.message.chars().take(1000).collect(),
            observed_generation: generation.into(),
            last_transition_time: unchanged
                .map_or_else(|| Time(whole_seconds(now)), |known| known.last_transition_time.clone()),
        }
    }
}

/// Kubernetes keeps whole seconds; a finer time would differ from what is read back.
#[must_use]
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::Verdict;
    use jiff::Timestamp;

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let first = Verdict::new(true, "Fine", "").condition("Ready", &[], 1, at("2026-01-01T00:00:00.5Z"));
        assert_eq!(first.last_transition_time.0, at("2026-01-01T00:00:00Z"));
        let later = at("2026-01-02T00:00:00Z");
        let known = [first.clone()];
        let same = Verdict::new(true, "Other", "").condition("Ready", &known, 2, later);
        assert_eq!(same.last_transition_time, first.last_transition_time);
        let changed = Verdict::unknown("Lost", "").condition("Ready", &known, 2, later);
        assert_eq!((changed.status.as_str(), changed.last_transition_time.0), ("Unknown", later));
    }
}
