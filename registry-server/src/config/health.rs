//! Section `health`: checks of what the server depends on.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;

/// Checks that decide over readiness.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Health {
    /// The check that storage can be read and written.
    pub storagedriver: StorageDriver,
}

/// A check that is repeated, with tolerance for single failures.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct StorageDriver {
    /// Whether storage is checked at all. Without it, the server calls itself ready however storage is. (CNCF
    /// distribution has it off unless asked.)
    pub enabled: bool,
    /// Time between two checks. Shorter finds a failed disk sooner and costs more requests to storage.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub interval: Duration,
    /// Failures in a row before the server calls itself not ready; one success makes it ready again. 0 counts as 1.
    pub threshold: u32,
}

impl Default for StorageDriver {
    fn default() -> Self {
        Self { enabled: true, interval: Duration::from_secs(10), threshold: 3 }
    }
}
