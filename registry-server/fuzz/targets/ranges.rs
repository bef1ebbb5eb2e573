//! Ranges: what is asked for lies within the content, and what a chunk claims is a range. The first line is the content's
//! size.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_server::types::{ByteRange, ContentRange};

fuzz_target!(|text: &str| {
    let (size, header) = text.split_once('\n').unwrap_or(("", text));
    let size: u64 = size.parse().unwrap_or(u64::MAX);
    let ranges = ByteRange::from_header(header, size).unwrap_or_default();
    for range in &ranges {
        assert!(range.length > 0);
        assert!(range.start.checked_add(range.length).is_some_and(|end| end <= size), "{range} of {size}");
    }
    let together: u128 = ranges.iter().map(|range| u128::from(range.length)).sum();
    assert!(ranges.len() <= 64 && together <= u128::from(size), "{ranges:?}");
    if let Ok(range) = header.parse::<ContentRange>() {
        assert!(range.start <= range.end);
        assert_eq!(format!("{}-{}", range.start, range.end).parse(), Ok(range));
        assert!(range.length() != Some(0));
    }
});
