//! Section `validation`: what must be there before a manifest is taken.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The size that the specification asks every registry to take ("Pushing Manifests").
const MAX_SIZE: NonZeroUsize = NonZeroUsize::new(4 * 1024 * 1024).unwrap();

/// What is asked of manifests that are pushed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Validation {
    /// Manifests.
    pub manifests: ManifestValidation,
}

/// What is asked of manifests that are pushed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ManifestValidation {
    /// The largest manifest that is taken, in bytes.
    pub maxsize: NonZeroUsize,
    /// Whether the blobs of an image must be there before it is pushed.
    pub blobs: Blobs,
    /// Indexes and manifest lists.
    pub indexes: IndexValidation,
}

impl Default for ManifestValidation {
    fn default() -> Self {
        Self { maxsize: MAX_SIZE, blobs: Blobs::default(), indexes: IndexValidation::default() }
    }
}

/// Whether the blobs of an image must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Blobs {
    /// An image is refused as long as its config or a layer is missing. CNCF distribution always does so.
    #[default]
    Required,
    /// An image may lack its config and layers, as a partial copy does.
    Optional,
}

/// Which of the manifests that an index lists must be in the repository before the index is pushed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct IndexValidation {
    /// Those of which platforms. The specification lets an index list more than there is, as copies of some platforms do.
    pub platforms: Platforms,
    /// The platforms of `platforms: list`.
    pub platformlist: Vec<Platform>,
}

/// A choice of platforms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Platforms {
    /// Every manifest that is listed must be there.
    #[default]
    All,
    /// None need be there.
    None,
    /// Those of the platforms in `platformlist` must be there.
    List,
}

/// A platform, as an index names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Platform {
    /// Architecture of the processor, such as `amd64`.
    pub architecture: String,
    /// Operating system, such as `linux`.
    pub os: String,
}

impl IndexValidation {
    /// Whether a manifest must be there that the index says is for this architecture and operating system.
    #[must_use]
    pub fn requires(&self, architecture: &str, os: &str) -> bool {
        let is_it = |platform: &Platform| platform.architecture == architecture && platform.os == os;
        match self.platforms {
            Platforms::All => true,
            Platforms::None => false,
            Platforms::List => self.platformlist.iter().any(is_it),
        }
    }
}
