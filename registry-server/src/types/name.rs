//! Names of repositories.
//!
//! Spec: distribution-spec, "Pulling manifests", the grammar of `<name>`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// A repository's name, for instance `team/app`.
///
/// It fits the specification's grammar and is therefore safe as a relative path: no part is empty, `.` or
/// `..`, and none starts with `_`, as the tree's own directories do.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct RepositoryName(String);

/// The text is not a repository name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a repository name is made of lower-case letters and digits, parted by '.', '_', '__', '-' or '/', \
     and has at most {} characters",
    RepositoryName::MAX_LENGTH
)]
pub struct ParseNameError;

impl RepositoryName {
    /// The most characters that a name may have, as in CNCF distribution.
    pub const MAX_LENGTH: usize = 255;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > Self::MAX_LENGTH || !text.split('/').all(is_component) {
            return Err(ParseNameError);
        }
        Ok(Self(text.to_owned()))
    }
}

/// Whether `text` is `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(text: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    is_word(first)
        && is_word(last)
        && bytes.split(is_word).filter(|separator| !separator.is_empty()).all(|separator| {
            matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
        })
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        let longest = "a".repeat(255);
        for name in
            ["a", "team/app", "a.b", "a_b", "a__b", "a---b", "a/b/c/d", "0/9", "blobs", "x/uploads", &longest]
        {
            assert_eq!(name.parse::<RepositoryName>().map(|parsed| parsed.to_string()), Ok(name.to_owned()));
        }
        let too_long = "a".repeat(256);
        for name in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a..b",
            "a.-b",
            "a___b",
            "_a",
            "a_",
            "-a",
            "a-",
            ".",
            "..",
            "a/../b",
            "a/_layers",
            "ä",
            "a b",
            "a\0",
            "a%2fb",
            &too_long,
        ] {
            assert_eq!(name.parse::<RepositoryName>(), Err(ParseNameError), "{name}");
        }
    }
}
