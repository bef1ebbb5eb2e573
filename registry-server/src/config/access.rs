//! Section `access`, our own: who may do what in which repositories.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rights beyond authentication. CNCF distribution ignores this section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct Access {
    /// What requests without credentials may do while `auth` names users. With `pull`, everyone who reaches the
    /// server reads and lists everything. `/v2/` itself still asks for credentials, since most clients send them only
    /// when asked, and wrong ones are always refused. Without `auth` and `rules` it has no effect.
    pub anonymous: Anonymous,
    /// Who may do what in which repositories. Without any rule, everyone who gives the right credentials may do everything;
    /// with one or more, nothing is allowed but what a rule or `anonymous` grants. `auth.kubernetes` needs one, or
    /// `accessreview`.
    pub rules: Vec<AccessRule>,
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

/// Grants rights in some repositories to some subjects.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// Who gets the rights: whoever one of these is about.
    #[schemars(length(min = 1, max = 64))]
    pub subjects: Vec<Subject>,
    /// Globs of repository names: `*` stops at a slash, `**` does not. `{user}`, `{namespace}` and `{serviceaccount}`
    /// stand for what the caller has of it, so that `{namespace}/**` gives each namespace a place of its own.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 256)))]
    pub repositories: Vec<String>,
    /// What they may do there.
    #[schemars(length(min = 1, max = 4))]
    pub actions: Vec<Right>,
}

/// Somebody whom a rule is about, in the words of Kubernetes' RBAC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// What is named.
    pub kind: SubjectKind,
    /// The name of the user or group. That of a `ServiceAccount` may be left out: all of the namespace. That of a `Claim`
    /// is a JSON Pointer (RFC 6901), such as `/kubernetes.io/node/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// The namespace of a `ServiceAccount`. It may be left out: all namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// What a `Claim` must be: its text, or a number, `true` or `false` as JSON writes it. Of a list, one element must be it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub value: Option<String>,
}

/// What a subject names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SubjectKind {
    /// A user, by name.
    #[default]
    User,
    /// A group of users, by name. Users of a password file are in none; `ServiceAccount`s are in those that Kubernetes
    /// puts them in.
    Group,
    /// A `ServiceAccount` of Kubernetes, all of a namespace, or all there are.
    ServiceAccount,
    /// Whoever gives a token of a `ServiceAccount` in which a claim has a value. What claims there are is up to Kubernetes.
    Claim,
    /// Everyone who gives the right credentials.
    Authenticated,
    /// Everyone, with and without credentials.
    Anonymous,
}

/// What a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Read manifests, blobs, tags and referrers.
    Pull,
    /// Write blobs, manifests and tags. Most clients that push also pull.
    Push,
    /// Delete manifests, tags and blobs.
    Delete,
    /// See in the catalogue that the repository is there; those that the caller may not pull are left out.
    List,
}
