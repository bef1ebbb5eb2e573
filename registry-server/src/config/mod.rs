//! The server's settings: CNCF distribution's `config.yml`, its `REGISTRY_*` variables, and one section of our own.
//!
//! One file a section holds the types, their defaults and their documentation. The settings are data only: no file
//! named here is opened, no address bound. The operator writes [`Config`] with serde and the server reads it back,
//! so the two cannot drift.

use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

mod access;
mod auth;
mod duration;
mod error;
mod health;
mod http;
mod listing;
mod log;
mod parse;
#[cfg(test)]
mod reference;
mod rules;
mod sparse;
mod storage;
mod validation;

pub use access::{Access, AccessRule, Anonymous, Right, Subject, SubjectKind};
pub use auth::{AccessReview, Auth, Htpasswd, Kubernetes, PullSecrets};
pub use duration::parse as parse_duration;
pub use error::{Error, Origin, Problem, Warning};
pub use health::{Health, StorageDriver};
pub use http::{ClientAuth, Debug, Http, Http2, Net, Prometheus, Tls, TlsVersion};
pub use listing::{Catalog, Tags};
pub use log::{AccessLog, Formatter, Level, Log};
pub use rules::{Keep, ProtectedImage, Protection, Retention, RetentionPolicy, Untagged};
pub use storage::{Delete, Driver, Filesystem, Inmemory, Maintenance, Readonly, Storage, UploadPurging};
pub use validation::{Blobs, IndexValidation, ManifestValidation, Platform, Platforms, Validation};

/// Everything that can be set.
///
/// Serialising writes only what differs from the defaults, plus `version` and the storage driver, which CNCF
/// distribution demands: what comes out is as short as a person would write it and is read by distribution too.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(remote = "Self")]
pub struct Config {
    /// Version of the format. Only `0.1` exists. It cannot be set by a variable.
    pub version: Version,
    /// What is logged, and how.
    #[serde(default)]
    pub log: Log,
    /// Where the registry's content is kept, and what may be done to it.
    pub storage: Storage,
    /// Who users are. Without it the registry is open to everyone.
    #[serde(default)]
    pub auth: Auth,
    /// Who may do what in which repositories.
    #[serde(default)]
    pub access: Access,
    /// The addresses listened on, TLS, and what is common to all answers.
    #[serde(default)]
    pub http: Http,
    /// Checks of what the server depends on.
    #[serde(default)]
    pub health: Health,
    /// Limits of the list of repositories.
    #[serde(default)]
    pub catalog: Catalog,
    /// Limits of the lists of tags.
    #[serde(default)]
    pub tags: Tags,
    /// What must be there before a manifest is taken.
    #[serde(default)]
    pub validation: Validation,
}

/// Version of the format of the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Version {
    /// The one that CNCF distribution has always had.
    #[default]
    #[serde(rename = "0.1")]
    V0_1,
}

/// Settings, and what was found to have no effect while reading them.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Keys without effect, those of the file and those of variables.
    pub warnings: Vec<Warning>,
}

/// Reads the file at `path` and applies the `REGISTRY_*` variables of `environment` over it.
///
/// # Errors
/// [`Error`] names the file, line and column, or the variable, of the first setting that cannot be used.
pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Loaded, Error> {
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    parse::parse(path, &text, environment)
}

/// Reads settings from `text` alone, as they would be read from a file at `path`.
///
/// # Errors
/// As [`load`].
pub fn from_text(path: &Path, text: &str) -> Result<Loaded, Error> {
    parse::parse(path, text, std::iter::empty())
}

/// The JSON schema of the settings, without references.
#[must_use]
pub fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Config>()
}
