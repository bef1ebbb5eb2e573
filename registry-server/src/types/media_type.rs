//! Media types of manifests.

use std::fmt;
use std::str::FromStr;

/// The kinds of manifest that the registry keeps, which are those that CNCF distribution can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ManifestMediaType {
    /// `application/vnd.oci.image.manifest.v1+json`
    OciImage,
    /// `application/vnd.oci.image.index.v1+json`
    OciIndex,
    /// `application/vnd.docker.distribution.manifest.v2+json`
    DockerImage,
    /// `application/vnd.docker.distribution.manifest.list.v2+json`
    DockerList,
}

/// The media type is not one of a manifest that this server keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the media type is not one of an OCI or Docker schema 2 manifest or index")]
pub struct UnknownMediaType;

impl ManifestMediaType {
    /// The media type as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OciImage => "application/vnd.oci.image.manifest.v1+json",
            Self::OciIndex => "application/vnd.oci.image.index.v1+json",
            Self::DockerImage => "application/vnd.docker.distribution.manifest.v2+json",
            Self::DockerList => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    /// Whether a manifest of this type lists other manifests instead of blobs.
    #[must_use]
    pub fn is_index(self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerList)
    }
}

impl FromStr for ManifestMediaType {
    type Err = UnknownMediaType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Parameters such as `; charset=utf-8` say nothing about the kind of manifest.
        let essence = text.split(';').next().unwrap_or(text).trim();
        [Self::OciImage, Self::OciIndex, Self::DockerImage, Self::DockerList]
            .into_iter()
            .find(|media_type| essence.eq_ignore_ascii_case(media_type.as_str()))
            .ok_or(UnknownMediaType)
    }
}

impl fmt::Display for ManifestMediaType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_parse_with_and_without_parameters() {
        let text = "application/vnd.oci.image.index.v1+json";
        assert_eq!(text.parse(), Ok(ManifestMediaType::OciIndex));
        assert_eq!(format!("{text}; charset=utf-8").parse(), Ok(ManifestMediaType::OciIndex));
        assert_eq!("application/json".parse::<ManifestMediaType>(), Err(UnknownMediaType));
    }
}
