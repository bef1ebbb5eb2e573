//! What a manifest is asked for by: a tag or a digest.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::digest::{Algorithm, Digest, ParseDigestError};

/// A tag, `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`: safe as a path part.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Tag(String);

/// A tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// A name that can move from manifest to manifest.
    Tag(Tag),
    /// The manifest itself.
    Digest(Digest),
}

/// Why a text is neither a tag nor a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    /// The text has a colon, so it was meant as a digest.
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
    /// The text has no colon and is no tag.
    #[error("a tag has at most 128 letters, digits, '.', '_' and '-', and does not start with '.' or '-'")]
    Tag,
}

impl Tag {
    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The manifest that this tag says something about, for the tags under which clients keep signatures and the
    /// like: `sha256-<hex>`, alone or with an ending such as `.sig`.
    ///
    /// Spec: distribution-spec, "Referrers Tag Schema". A sha512 digest is too long for a tag and cut off there.
    #[must_use]
    pub fn accessory_subject(&self) -> Option<Digest> {
        let algorithm = Algorithm::Sha256;
        let rest = self.0.strip_prefix(algorithm.name())?.strip_prefix('-')?;
        let (hex, ending) = rest.split_at_checked(algorithm.hex_length())?;
        let is_ending = ending.is_empty() || ending.starts_with('.');
        if is_ending { format!("{algorithm}:{hex}").parse().ok() } else { None }
    }
}

impl FromStr for Tag {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let valid = text.len() <= 128
            && text.bytes().next().is_some_and(is_word)
            && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'));
        if valid { Ok(Self(text.to_owned())) } else { Err(ParseReferenceError::Tag) }
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // No tag has a colon, so what has one was meant as a digest and gets that error.
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(formatter),
            Self::Digest(digest) => digest.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accessory_tag_names_its_subject() {
        let hex = "0f".repeat(32);
        let subject: Digest = format!("sha256:{hex}").parse().unwrap();
        for ending in ["", ".sig", ".att", ".sbom", ".x"] {
            let tag: Tag = format!("sha256-{hex}{ending}").parse().unwrap();
            assert_eq!(tag.accessory_subject().as_ref(), Some(&subject), "{tag}");
        }
        let upper = hex.to_uppercase();
        let rows = [
            "latest".to_owned(),
            "sha256-".to_owned(),
            format!("sha256-{}", &hex[1..]),
            format!("sha256-{hex}0"),
            format!("sha256-{hex}-sig"),
            format!("sha256-{upper}"),
            format!("sha512-{hex}"),
            format!("x-sha256-{hex}"),
            hex,
        ];
        for tag in rows {
            assert_eq!(tag.parse::<Tag>().unwrap().accessory_subject(), None, "{tag}");
        }
    }

    #[test]
    fn a_reference_is_a_tag_or_a_digest() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let longest = "x".repeat(128);
        for tag in ["latest", "v1.0", "_x", "1", "A-b_c.d", longest.as_str()] {
            assert!(matches!(tag.parse(), Ok(Reference::Tag(_))), "{tag}");
        }
        assert!(matches!(digest.parse(), Ok(Reference::Digest(_))));

        let too_long = "x".repeat(129);
        for text in ["", ".x", "-x", "a/b", "..", "ä", "a b", too_long.as_str()] {
            assert_eq!(text.parse::<Reference>(), Err(ParseReferenceError::Tag), "{text}");
        }
        for (text, error) in [
            ("sha256:baddigeststring", ParseDigestError::Malformed),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", ParseDigestError::UnsupportedAlgorithm),
        ] {
            assert_eq!(text.parse::<Reference>(), Err(ParseReferenceError::Digest(error)), "{text}");
        }
    }
}
