//! Descriptors: how one piece of content names another.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::digest::Digest;
use super::media_type::ManifestMediaType;

/// The parts of an OCI content descriptor that a registry acts on; all others are left in the bytes.
///
/// Spec: OCI image-spec, descriptor.md "Properties".
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content; empty when the descriptor gives none.
    #[serde(default)]
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// Other places that have the content: a layer with such places need not be in the registry.
    #[serde(default)]
    pub urls: Vec<String>,
    /// What an image in an index runs on; empty if it does not say so.
    #[serde(default, deserialize_with = "readable")]
    pub platform: Platform,
}

/// What an image runs on, as an index says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// Architecture of the processor, such as `amd64`.
    pub architecture: String,
    /// Operating system, such as `linux`.
    pub os: String,
}

/// Reads a platform, of which nothing depends that is stored: one that is not well formed counts as none.
fn readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Platform, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

impl Descriptor {
    /// Whether the content is a manifest by its media type, or of no type that says what it is.
    #[must_use]
    pub fn may_be_manifest(&self) -> bool {
        let schema1 = self.media_type.starts_with("application/vnd.docker.distribution.manifest.v1");
        schema1 || self.media_type.is_empty() || self.media_type.parse::<ManifestMediaType>().is_ok()
    }
}
