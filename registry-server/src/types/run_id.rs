//! Names of garbage collection runs.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use uuid::Uuid;

const FORM: &str = "%Y%m%dT%H%M%SZ";

/// A run's name: the second in which it began and a random part, as `20261121T114400Z-1f3a9c`. Names sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    began: Timestamp,
    random: u32,
}

/// The text is not the name of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a run is named like 20261121T114400Z-1f3a9c")]
pub struct ParseRunIdError;

impl RunId {
    /// A name for a run that begins now.
    #[must_use]
    pub fn now() -> Self {
        let began = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        Self { began, random: Uuid::new_v4().as_fields().0 >> 8 }
    }

    /// When the run began, to the second.
    #[must_use]
    pub fn began(&self) -> SystemTime {
        self.began.into()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{:06x}", self.began.strftime(FORM), self.random)
    }
}

impl FromStr for RunId {
    type Err = ParseRunIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (began, random) = text.split_once('-').ok_or(ParseRunIdError)?;
        let began = DateTime::strptime(FORM, began).map_err(|_| ParseRunIdError)?;
        let began = began.to_zoned(TimeZone::UTC).map_err(|_| ParseRunIdError)?.timestamp();
        let run = Self { began, random: u32::from_str_radix(random, 16).map_err(|_| ParseRunIdError)? };
        // One run has one name, which is a directory's.
        if run.random >> 24 == 0 && run.to_string() == text { Ok(run) } else { Err(ParseRunIdError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_only_that_one() {
        let run = RunId::now();
        assert_eq!(run.to_string().parse(), Ok(run));
        let text = "20261121T114400Z-1f3a9c";
        assert_eq!(text.parse::<RunId>().unwrap().to_string(), text);
        for other in
            ["", "x", "20261121T114400Z", "20261121T114400Z-1F3A9C", "20261121T114400Z-1f3a9cc", "../x-1"]
        {
            assert_eq!(other.parse::<RunId>(), Err(ParseRunIdError), "{other}");
        }
    }

    #[test]
    fn names_sort_by_time() {
        let [older, newer] = ["20261121T114400Z-ffffff", "20261122T000000Z-000000"];
        assert!(older.parse::<RunId>().unwrap() < newer.parse::<RunId>().unwrap());
        assert!(older < newer);
    }
}
