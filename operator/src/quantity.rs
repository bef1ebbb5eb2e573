//! Amounts as Kubernetes writes them: `20Gi`, `1.5G`, `500m`. Read for comparison, and written for people.

use std::cmp::Ordering;

/// An amount, exact down to a thousandth.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Quantity {
    thousandths: i128,
}

impl Quantity {
    /// Reads `text`; `None` if it is not a quantity or too large to be one of bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
        let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let thousandths = digits.checked_mul(multiplier(suffix)?)?.checked_div(scale)?;
        Some(Self { thousandths })
    }
}

/// Compares two texts as quantities; `None` if one of them is not one.
#[must_use]
pub fn compare(left: &str, right: &str) -> Option<Ordering> {
    Some(Quantity::parse(left)?.cmp(&Quantity::parse(right)?))
}

/// A number of bytes for people, rounded down: `0`, `512Ki`, `1.5Gi`.
#[must_use]
pub fn of_bytes(bytes: i64) -> String {
    let (mut whole, mut unit) = (bytes.max(0), "");
    let mut tenths = 0;
    for next in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
        if whole < 1024 {
            break;
        }
        (tenths, whole, unit) = (whole % 1024 * 10 / 1024, whole / 1024, next);
    }
    if tenths > 0 && whole < 100 { format!("{whole}.{tenths}{unit}") } else { format!("{whole}{unit}") }
}

/// Thousandths in one unit of `suffix`.
fn multiplier(suffix: &str) -> Option<i128> {
    let exponent = |text: &str| 10_i128.checked_pow(text.parse().ok()?)?.checked_mul(1000);
    match suffix {
        "m" => Some(1),
        "" => Some(1000),
        "k" => Some(1_000_000),
        "M" => exponent("6"),
        "G" => exponent("9"),
        "T" => exponent("12"),
        "P" => exponent("15"),
        "E" => exponent("18"),
        "Ki" => Some(1000 << 10),
        "Mi" => Some(1000 << 20),
        "Gi" => Some(1000 << 30),
        "Ti" => Some(1000 << 40),
        "Pi" => Some(1000 << 50),
        "Ei" => Some(1000 << 60),
        _ => exponent(suffix.strip_prefix(['e', 'E'])?.trim_start_matches('+')),
    }
}

#[cfg(test)]
mod tests {
    use super::{Quantity, compare, of_bytes};
    use std::cmp::Ordering::{Equal, Greater, Less};

    #[test]
    fn quantities_compare_by_value_not_by_text() {
        for (left, right, order) in [
            ("1Gi", "1024Mi", Equal),
            ("10Gi", "9Gi", Greater),
            ("1G", "1Gi", Less),
            ("500m", "0.5", Equal),
            ("1e3", "1k", Equal),
            ("1E+3", "1000", Equal),
            ("0.5Gi", "512Mi", Equal),
            (".5", "500m", Equal),
            ("2Ei", "2000P", Greater),
            ("1.5Gi", "1536Mi", Equal),
        ] {
            assert_eq!(compare(left, right), Some(order), "{left} and {right}");
        }
    }

    #[test]
    fn bytes_are_written_short_and_read_back() {
        for (bytes, expected) in [
            (-1, "0"),
            (0, "0"),
            (1023, "1023"),
            (1024, "1Ki"),
            (1536, "1.5Ki"),
            (150 * 1024 + 512, "150Ki"),
            (3 << 30, "3Gi"),
            (i64::MAX, "7.9Ei"),
        ] {
            assert_eq!(of_bytes(bytes), expected);
            assert!(Quantity::parse(expected).is_some());
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused() {
        for text in ["", "Gi", "lots", "1 Gi", "1.2.3", "-1", "1gi", "1e99", "99999999999999999999999999Ei"] {
            assert_eq!(Quantity::parse(text), None, "{text:?}");
        }
    }
}
