//! Sections `catalog` and `tags`: limits of the two lists.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// Distribution's limit for both lists.
const DEFAULT_LIMIT: usize = 1000;

/// The list of repositories, `/v2/_catalog`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Catalog {
    /// Most repositories in one page. A client that asks for more gets this many and a link to the rest. 0 or less
    /// means the default.
    #[serde(deserialize_with = "limit")]
    pub maxentries: usize,
}

impl Default for Catalog {
    fn default() -> Self {
        Self { maxentries: DEFAULT_LIMIT }
    }
}

/// The list of a repository's tags, `/v2/<name>/tags/list`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Tags {
    /// Most tags in one page, when the client asks for a number of them. 0 or less means the default.
    #[serde(deserialize_with = "limit")]
    pub maxtags: usize,
}

impl Default for Tags {
    fn default() -> Self {
        Self { maxtags: DEFAULT_LIMIT }
    }
}

/// Reads a limit as distribution does: what is not positive stands for the default.
fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let limit = i64::deserialize(deserializer)?;
    Ok(usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(DEFAULT_LIMIT))
}
