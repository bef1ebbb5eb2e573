//! Section `access`, our own: what those may do who send no credentials.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rights beyond authentication. CNCF distribution ignores this section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Access {
    /// What requests without credentials may do while `auth` names users. With `pull`, everyone who reaches the
    /// server reads and lists everything. `/v2/` itself still asks for credentials, since most clients send them only
    /// when asked, and wrong ones are always refused. Without `auth` it has no effect.
    pub anonymous: Anonymous,
}

/// Rights of a request without credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Anonymous {
    /// Nothing: each request needs credentials, as in CNCF distribution.
    #[default]
    None,
    /// Pull and list, but neither push nor delete.
    Pull,
}
