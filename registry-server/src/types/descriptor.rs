//! Descriptors: how one piece of content names another.

use serde::Deserialize;

use super::digest::Digest;

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
}
