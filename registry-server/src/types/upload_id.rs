//! Names of upload sessions.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// An upload session's id: a random UUID, so that nobody can guess another client's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(Uuid);

/// The text is not an upload id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an upload id is a UUID")]
pub struct ParseUploadIdError;

impl UploadId {
    /// A fresh id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl FromStr for UploadId {
    type Err = ParseUploadIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = Uuid::try_parse(text).map(Self).map_err(|_| ParseUploadIdError)?;
        // One session has one name: other spellings of the same UUID would be other directories.
        if id.to_string() == text { Ok(id) } else { Err(ParseUploadIdError) }
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_is_an_id() {
        let id = UploadId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        let text = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        assert!(text.parse::<UploadId>().is_ok());
        for other in ["", "x", "..", &text.to_uppercase(), &text.replace('-', ""), &format!("{{{text}}}")] {
            assert_eq!(other.parse::<UploadId>(), Err(ParseUploadIdError), "{other}");
        }
    }
}
