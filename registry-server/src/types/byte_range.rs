//! Ranges of bytes: what a reader asks for and what a chunk of an upload claims to be.

use std::fmt;
use std::str::FromStr;

/// A non-empty range of a blob's bytes, resolved against its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub start: u64,
    /// Number of bytes.
    pub length: u64,
}

/// No byte of the content lies in the range that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the range lies outside the content")]
pub struct Unsatisfiable;

/// How many ranges one request may ask for. Who asks for more gets the whole.
const MOST_RANGES: usize = 64;

impl ByteRange {
    /// Resolves a `Range` header against content of `size` bytes: the ranges that have bytes of it, in the order in which
    /// they are asked for.
    ///
    /// None at all means the whole content: the header is in a unit other than `bytes`, cannot be read, or asks for too
    /// much, which RFC 9110 §14.2 lets a server ignore. Ranges that together are longer than the content are too much.
    ///
    /// # Errors
    /// [`Unsatisfiable`] when no range has a byte of the content, or a single one ends before it starts: the conformance
    /// suite of the distribution specification asks for 416 there too.
    pub fn from_header(header: &str, size: u64) -> Result<Vec<Self>, Unsatisfiable> {
        let Some(ranges) = header.trim().strip_prefix("bytes=") else { return Ok(Vec::new()) };
        if !ranges.contains(',') {
            return Ok(Self::resolve(ranges, size)?.into_iter().collect());
        }
        let (mut found, mut asked, mut length) = (Vec::new(), 0, 0_u64);
        for range in ranges.split(',').filter(|range| !range.trim().is_empty()) {
            asked += 1;
            match Self::resolve(range, size) {
                Ok(Some(range)) => {
                    // At the largest size, even a sum that fits no 64 bits must count as too much.
                    let Some(sum) = length.checked_add(range.length) else { return Ok(Vec::new()) };
                    length = sum;
                    found.push(range);
                }
                Ok(None) => return Ok(Vec::new()),
                Err(Unsatisfiable) => {}
            }
            if asked > MOST_RANGES || length > size {
                return Ok(Vec::new());
            }
        }
        if found.is_empty() && asked > 0 { Err(Unsatisfiable) } else { Ok(found) }
    }

    /// Resolves one range; `None` if it cannot be read.
    fn resolve(range: &str, size: u64) -> Result<Option<Self>, Unsatisfiable> {
        let Some((first, last)) = range.split_once('-') else { return Ok(None) };
        let (first, last) = (first.trim(), last.trim());
        match (parse_number(first), parse_number(last)) {
            (Some(start), Some(end)) if start <= end => Self::clamped(start, end, size).map(Some),
            (Some(_), Some(_)) => Err(Unsatisfiable),
            (Some(start), None) if last.is_empty() => Self::clamped(start, u64::MAX, size).map(Some),
            (None, Some(suffix)) if first.is_empty() => {
                // A suffix longer than the content is the whole content (RFC 9110 §14.1.3).
                let start = if suffix == 0 { size } else { size.saturating_sub(suffix) };
                Self::clamped(start, u64::MAX, size).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn clamped(start: u64, end: u64, size: u64) -> Result<Self, Unsatisfiable> {
        let end = end.min(size.checked_sub(1).ok_or(Unsatisfiable)?);
        if start > end { Err(Unsatisfiable) } else { Ok(Self { start, length: end - start + 1 }) }
    }
}

impl fmt::Display for ByteRange {
    /// `<first>-<last>`, both inclusive, as in `Content-Range`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.start, (self.start + self.length).saturating_sub(1))
    }
}

/// The `Content-Range` of an upload's chunk: `<first>-<last>`, both inclusive.
///
/// The specification leaves out the unit and the total that RFC 9110 has; both are taken when they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// Offset of the chunk's first byte.
    pub start: u64,
    /// Offset of the chunk's last byte.
    pub end: u64,
}

/// The text is not a `Content-Range` of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk's Content-Range has the form <first byte>-<last byte>")]
pub struct ParseContentRangeError;

impl ContentRange {
    /// Number of bytes that the chunk claims to have; `None` for the one range that does not fit 64 bits.
    #[must_use]
    pub fn length(self) -> Option<u64> {
        (self.end - self.start).checked_add(1)
    }
}

impl FromStr for ContentRange {
    type Err = ParseContentRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches([' ', '=']));
        let range = text.split_once('/').map_or(text, |(range, _total)| range);
        let (start, end) = range.split_once('-').ok_or(ParseContentRangeError)?;
        match (parse_number(start), parse_number(end)) {
            (Some(start), Some(end)) if start <= end => Ok(Self { start, end }),
            _ => Err(ParseContentRangeError),
        }
    }
}

/// Digits only: `u64::from_str` alone would also take a leading `+`.
fn parse_number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_ranges_resolve_each_for_itself() {
        assert_eq!(ByteRange::from_header("bytes=0-,-6", u64::MAX), Ok(Vec::new()));
        let many = (0..=MOST_RANGES).map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(",");
        let rows: [(&str, Result<&[(u64, u64)], Unsatisfiable>); 11] = [
            ("bytes=0-1,5-6", Ok(&[(0, 2), (5, 2)])),
            ("bytes=5-6, 0-1", Ok(&[(5, 2), (0, 2)])),
            ("bytes=0-1,,-3,", Ok(&[(0, 2), (2045, 3)])),
            ("bytes=0-1,5000-6000", Ok(&[(0, 2)])),
            ("bytes=5000-6000,7000-", Err(Unsatisfiable)),
            ("bytes=0-1,x", Ok(&[])),
            ("bytes=0-1,9-5", Ok(&[(0, 2)])),
            ("bytes=0-,0-", Ok(&[])),
            ("bytes=0-1000,1001-", Ok(&[(0, 1001), (1001, 1047)])),
            ("bytes=,", Ok(&[])),
            (&format!("bytes={many}"), Ok(&[])),
        ];
        for (header, expected) in rows {
            let found = ByteRange::from_header(header, 2048);
            let found = found
                .map(|ranges| ranges.iter().map(|range| (range.start, range.length)).collect::<Vec<_>>());
            assert_eq!(found, expected.map(<[_]>::to_vec), "{header}");
        }
    }

    #[test]
    fn single_ranges_resolve_against_the_size() {
        // The first six rows are those of the official conformance suite on a blob of 2,048 bytes.
        let rows: [(&str, u64, Result<Option<(u64, u64)>, Unsatisfiable>); 16] = [
            ("bytes=500-1499", 2048, Ok(Some((500, 1000)))),
            ("bytes=500-", 2048, Ok(Some((500, 1548)))),
            ("bytes=-500", 2048, Ok(Some((1548, 500)))),
            ("bytes=2000-5000", 2048, Ok(Some((2000, 48)))),
            ("bytes=500-0", 2048, Err(Unsatisfiable)),
            ("bytes=5000-10000", 2048, Err(Unsatisfiable)),
            ("bytes=2048-", 2048, Err(Unsatisfiable)),
            ("bytes=0-0", 2048, Ok(Some((0, 1)))),
            ("bytes=-5000", 2048, Ok(Some((0, 2048)))),
            ("bytes=-0", 2048, Err(Unsatisfiable)),
            ("bytes=0-", 0, Err(Unsatisfiable)),
            ("bytes=0-18446744073709551615", 10, Ok(Some((0, 10)))),
            ("bytes=-", 2048, Ok(None)),
            ("bytes=+1-2", 2048, Ok(None)),
            ("items=0-1", 2048, Ok(None)),
            ("nonsense", 2048, Ok(None)),
        ];
        for (header, size, expected) in rows {
            let range = |(start, length)| ByteRange { start, length };
            let expected = expected.map(|range_of| range_of.map(range).into_iter().collect::<Vec<_>>());
            assert_eq!(ByteRange::from_header(header, size), expected, "{header} of {size}");
        }
        assert_eq!(ByteRange { start: 5, length: 3 }.to_string(), "5-7");
    }

    #[test]
    fn content_ranges_are_taken_with_and_without_unit_and_total() {
        for text in ["5-9", "bytes 5-9/10", "bytes=5-9", "5-9/*", " 5-9 "] {
            assert_eq!(text.parse(), Ok(ContentRange { start: 5, end: 9 }), "{text}");
        }
        for text in ["", "5", "-", "9-5", "a-b", "-5", "5-", "bytes */10", "99999999999999999999-1"] {
            assert_eq!(text.parse::<ContentRange>(), Err(ParseContentRangeError), "{text}");
        }
        assert_eq!(ContentRange { start: 5, end: 9 }.length(), Some(5));
        assert_eq!(ContentRange { start: 0, end: u64::MAX }.length(), None);
    }
}
