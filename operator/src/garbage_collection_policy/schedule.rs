//! When a run is due: arithmetic on a cron expression and a time zone. Pure.
//!
//! `status.nextRun` is a promise: whoever finds that its time has come keeps it, once, however late. So a run that was
//! missed is made up once, and one that was missed while the policy was suspended is not.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::problem::Problem;
use crate::conditions::whole_seconds;

/// The times at which a policy's runs begin.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    /// Reads the five fields of `pattern`, or its nickname, in the time zone `zone`. The zones are those of this release,
    /// not those of the machine.
    ///
    /// # Errors
    /// [`Problem::InvalidTimeZone`], [`Problem::InvalidSchedule`], and [`Problem::NeverFires`] seen from `now`.
    pub fn parse(pattern: &str, zone: &str, now: Timestamp) -> Result<Self, Problem> {
        let zone = TimeZoneDatabase::bundled()
            .get(zone)
            .map_err(|_| Problem::InvalidTimeZone { zone: zone.to_owned() })?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(pattern).map_err(|error| Problem::InvalidSchedule {
            pattern: pattern.to_owned(),
            message: error.to_string(),
        })?;
        let schedule = Self { cron, zone };
        match schedule.next(now) {
            Some(_) => Ok(schedule),
            None => Err(Problem::NeverFires { pattern: pattern.to_owned() }),
        }
    }

    /// The first time after `now`.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let now = whole_seconds(now).to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&now, false).ok().map(|next| next.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;
    use crate::garbage_collection_policy::problem::Problem;
    use jiff::Timestamp;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The first times after `from`, as many as are expected.
    fn check(pattern: &str, zone: &str, from: &str, expected: &[&str]) {
        let schedule = Schedule::parse(pattern, zone, at(from)).unwrap();
        let times = std::iter::successors(schedule.next(at(from)), |time| schedule.next(*time));
        let times: Vec<String> = times.take(expected.len()).map(|time| time.to_string()).collect();
        assert_eq!(times, expected, "{pattern} in {zone} after {from}");
    }

    #[test]
    fn times_are_those_of_cron() {
        for (pattern, expected) in [
            ("0 3 * * *", ["2026-01-02T03:00:00Z", "2026-01-03T03:00:00Z"]),
            ("*/20 * * * *", ["2026-01-01T12:20:00Z", "2026-01-01T12:40:00Z"]),
            ("0 9-17/4 * * MON-FRI", ["2026-01-01T13:00:00Z", "2026-01-01T17:00:00Z"]),
            ("30 4 1,15 * *", ["2026-01-15T04:30:00Z", "2026-02-01T04:30:00Z"]),
            // As ever in cron, either day is enough.
            ("0 0 13 * 5", ["2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z"]),
            ("0 0 29 2 *", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
            ("@hourly", ["2026-01-01T13:00:00Z", "2026-01-01T14:00:00Z"]),
            ("@daily", ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"]),
            ("@weekly", ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"]),
            ("@yearly", ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"]),
        ] {
            check(pattern, "UTC", "2026-01-01T12:00:00Z", &expected);
        }
    }

    #[test]
    fn the_clock_is_that_of_the_time_zone() {
        for (zone, expected) in [
            ("Europe/Berlin", "2026-07-02T01:00:00Z"),
            ("America/New_York", "2026-07-01T07:00:00Z"),
            ("Asia/Kolkata", "2026-07-01T21:30:00Z"),
            ("Asia/Kathmandu", "2026-07-01T21:15:00Z"),
            ("Pacific/Kiritimati", "2026-07-01T13:00:00Z"),
            ("Etc/UTC", "2026-07-02T03:00:00Z"),
        ] {
            check("0 3 * * *", zone, "2026-07-01T03:00:00Z", &[expected]);
        }
    }

    #[test]
    fn a_run_in_an_hour_that_is_left_out_begins_after_it_and_once() {
        for (pattern, zone, from, expected) in [
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-03-28T12:00:00Z",
                ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
            ),
            (
                "30 2 * * *",
                "America/New_York",
                "2026-03-08T00:00:00Z",
                ["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"],
            ),
            // Half an hour is left out there.
            (
                "15 2 * * *",
                "Australia/Lord_Howe",
                "2026-10-03T12:00:00Z",
                ["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
            ),
        ] {
            check(pattern, zone, from, &expected);
        }
    }

    #[test]
    fn a_run_in_an_hour_that_comes_twice_begins_once() {
        for (pattern, zone, from, expected) in [
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-10-24T12:00:00Z",
                ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
            ),
            (
                "30 1 * * *",
                "America/New_York",
                "2026-11-01T00:00:00Z",
                ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"],
            ),
        ] {
            check(pattern, zone, from, &expected);
        }
    }

    #[test]
    fn what_cannot_be_a_schedule_is_refused() {
        let parse = |pattern, zone| Schedule::parse(pattern, zone, at("2026-01-01T00:00:00Z")).unwrap_err();
        for pattern in ["", "* * * *", "0 0 * * * *", "60 * * * *", "0 24 * * *", "0 0 0 * *", "a b c d e"] {
            assert!(matches!(parse(pattern, "UTC"), Problem::InvalidSchedule { .. }), "{pattern}");
        }
        assert!(matches!(parse("0 0 30 2 *", "UTC"), Problem::NeverFires { .. }));
        for zone in ["Mars/Olympus", "UTC+25", "europe"] {
            assert!(matches!(parse("@daily", zone), Problem::InvalidTimeZone { .. }), "{zone}");
        }
    }
}
