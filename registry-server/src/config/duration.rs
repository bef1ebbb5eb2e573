//! Durations as Go writes them: `10s`, `1h30m`, `1.5h`, `300ms`; a bare integer counts nanoseconds.

use std::fmt;
use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// Go's units, in nanoseconds.
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];

/// Writes the largest unit that divides the duration.
pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let nanos = duration.as_nanos();
    let units = [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000)];
    let (unit, size) = units.into_iter().find(|(_, size)| nanos.is_multiple_of(*size)).unwrap_or(("ns", 1));
    match nanos {
        0 => serializer.serialize_str("0s"),
        _ => serializer.collect_str(&format_args!("{}{unit}", nanos / size)),
    }
}

/// Reads text with units, or nanoseconds. What is negative is refused.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(DurationVisitor)
}

/// The shape of such a setting.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "integer"], "format": "go-duration"})
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a duration such as 10s, 5m or 168h")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: Error>(self, nanos: u64) -> Result<Duration, E> {
        Ok(Duration::from_nanos(nanos))
    }
}

/// Reads a duration with units; `None` for what Go would not read, and for what is negative.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, nanos) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * nanos / 1e9).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    use super::*;

    #[derive(Deserialize, Serialize)]
    #[serde(transparent)]
    struct Setting(#[serde(with = "super")] Duration);

    #[test]
    fn go_writes_durations_so() {
        let rows = [
            (json!("10s"), 10_000, "10s"),
            (json!("1h30m"), 5_400_000, "90m"),
            (json!("1h0m0s"), 3_600_000, "1h"),
            (json!("168h"), 604_800_000, "168h"),
            (json!("1.5h"), 5_400_000, "90m"),
            (json!(".5s"), 500, "500ms"),
            (json!("300ms"), 300, "300ms"),
            (json!("2000us"), 2, "2ms"),
            (json!("2000µs"), 2, "2ms"),
            (json!("0"), 0, "0s"),
            (json!("0s"), 0, "0s"),
            (json!(5_000_000), 5, "5ms"),
            (json!(0), 0, "0s"),
        ];
        for (written, millis, again) in rows {
            let Setting(duration) = serde_json::from_value(written.clone()).unwrap();
            assert_eq!(duration, Duration::from_millis(millis), "{written}");
            assert_eq!(serde_json::to_value(Setting(duration)).unwrap(), again, "{written}");
        }
        assert_eq!(serde_json::to_value(Setting(Duration::from_nanos(1_500))).unwrap(), "1500ns");
    }

    #[test]
    fn what_go_does_not_read_is_refused() {
        let rows: [Value; 11] = [
            json!(""),
            json!("10"),
            json!("s"),
            json!("-1s"),
            json!("1 s"),
            json!("1d"),
            json!("1.2.3s"),
            json!("soon"),
            json!(1.5),
            json!(-1),
            json!("99999999999999999999h"),
        ];
        for written in rows {
            assert!(serde_json::from_value::<Setting>(written.clone()).is_err(), "{written}");
        }
    }
}
