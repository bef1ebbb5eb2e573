//! Section `auth`: how users are known.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ways to authenticate. With none set, everyone may do everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Auth {
    /// Users and bcrypt hashes of their passwords, kept in a file. Every user of the file may do everything.
    pub htpasswd: Option<Htpasswd>,
}

/// A password file as Apache's `htpasswd -B` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Htpasswd {
    /// Name of the protected space, shown by clients that ask for a password. Clients may store passwords by it.
    #[serde(default = "default_realm")]
    pub realm: String,
    /// Path of the file. It must exist at the start; changes to it are taken up within about a second. Only bcrypt
    /// lines are used, as in CNCF distribution.
    pub path: PathBuf,
}

fn default_realm() -> String {
    "Registry".to_owned()
}
