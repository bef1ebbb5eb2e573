//! Names, tags, digests, ids and media types: what is taken is spelled in one way only, and is safe as a part of a path.
#![no_main]

use std::fmt::Display;
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use registry_server::types::{Digest, ManifestMediaType, Reference, RepositoryName, RunId, Tag, UploadId};

fuzz_target!(|text: &str| {
    for accepted in [is_accepted::<RepositoryName>(text), is_accepted::<Tag>(text)] {
        let is_safe = |part: &str| !["", ".", ".."].contains(&part) && !part.contains(['\\', '\0']);
        assert!(!accepted || text.len() <= 255 && text.split('/').all(is_safe), "{text:?}");
    }
    is_accepted::<Digest>(text);
    is_accepted::<Reference>(text);
    is_accepted::<RunId>(text);
    let _ = text.parse::<UploadId>().map(|id| assert_eq!(id.to_string().parse(), Ok(id)));
    let _ = text.parse::<ManifestMediaType>().map(|kind| assert_eq!(kind.as_str().parse(), Ok(kind)));
});

fn is_accepted<T: FromStr + Display>(text: &str) -> bool {
    let parsed = text.parse::<T>();
    if let Ok(value) = &parsed {
        assert_eq!(value.to_string(), text);
    }
    parsed.is_ok()
}
