//! Section `auth`: how users are known.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ways to authenticate, which can stand side by side. With none set, nobody is asked who they are, and
/// everyone may do what `access.rules` grants to anonymous callers: everything, if there are no rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Auth {
    /// Users and bcrypt hashes of their passwords, kept in a file.
    pub htpasswd: Option<Htpasswd>,
    /// Tokens of Kubernetes' `ServiceAccount`s, as a password with any user name or as a bearer token. They are good for
    /// nothing but what `access.rules` grant, which must not be empty then. Our own: CNCF distribution does not start with
    /// it.
    pub kubernetes: Option<Kubernetes>,
    /// Passwords of pull secrets, with any user name: they may pull and nothing else. Without `access.rules` they may pull
    /// everything. Our own: CNCF distribution does not start with it.
    pub pullsecrets: Option<PullSecrets>,
}

/// A cluster whose `ServiceAccount`s are known by the tokens that it signs. It is never asked but by `accessreview`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Kubernetes {
    /// Who signs the tokens: the first `--service-account-issuer` of the API server.
    pub issuer: String,
    /// Whom tokens must be meant for. Those for others, such as the API server, are refused.
    pub audience: String,
    /// Path of the cluster's public keys as a JWK set (RFC 7517), which `kubectl get --raw /openid/v1/jwks` prints. It must
    /// exist at the start; changes to it are taken up within about a second.
    pub jwks: PathBuf,
    /// Asks the cluster's API server whether its own rules (RBAC) grant what no rule of `access.rules` grants to the
    /// `ServiceAccount` of a token, and to nobody else. With it, `access.rules` may be empty, and nothing goes without saying
    /// then. The server must run in a Pod of the cluster with a token for the API server, and may have to be given the right
    /// to `create` `localsubjectaccessreviews`. An answer is believed for 10 seconds.
    #[serde(default)]
    pub accessreview: Option<AccessReview>,
}

/// What the rules of the cluster are about: the verbs `pull`, `push`, `delete` and `list` of the resource `repositories` in
/// the API group `windlass.dev`, whose names are `<registry>/<repository>`. There are no such objects.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct AccessReview {
    /// The namespace in which they are looked up.
    pub namespace: String,
    /// What the names begin with, before a slash.
    pub registry: String,
}

/// Passwords that namespaces of a cluster pull with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct PullSecrets {
    /// Path of a file with lines `namespace:hash`, the hash being the SHA-256 of a password in hexadecimal digits; a
    /// namespace may have several. Rules know who gives one as a `ServiceAccount` of the namespace without a name. Each
    /// password must begin with `windlass_pull_` and go on with at least 128 random bits, for such a hash would not
    /// protect one that can be guessed. The file must exist at the start; changes to it are taken up within about a
    /// second.
    pub path: PathBuf,
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
