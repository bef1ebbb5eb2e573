//! Writes the server's config.yml from the server's own types and reads it back with the server's own loader, so that a
//! configuration which the server would refuse never reaches it.

use std::path::PathBuf;
use std::time::Duration;

use registry_server::config::{self, Config};
use serde_json::Value;

use crate::api::registry::{Anonymous, RegistrySpec};
use crate::merge::merge;
use crate::registry::problem::Problem;

/// Directory in which config.yml is mounted.
pub const CONFIG_DIRECTORY: &str = "/etc/registry";
/// Directory in which the certificate is mounted.
pub const TLS_DIRECTORY: &str = "/etc/registry-tls";
/// Directory in which the htpasswd file is mounted.
pub const AUTH_DIRECTORY: &str = "/etc/registry-auth";
/// Name of the file in [`AUTH_DIRECTORY`].
pub const HTPASSWD_FILE: &str = "htpasswd";
/// Directory of the volume.
pub const DATA_DIRECTORY: &str = "/var/lib/registry";
/// Port of the registry.
pub const PORT: i32 = 5000;
/// Port of metrics and health, plain HTTP, in no Service.
pub const DEBUG_PORT: i32 = 5001;

/// A configuration that the server accepts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerConfig {
    /// The text of config.yml.
    pub yaml: String,
    /// How long the server lets running requests end.
    pub drain: Duration,
}

/// Renders config.yml for `spec`.
///
/// # Errors
/// [`Problem::InvalidConfig`] if `spec.config` makes it one that the server refuses, or moves what the operator relies on.
pub fn render(spec: &RegistrySpec) -> Result<ServerConfig, Problem> {
    let base = base(spec);
    let mut merged = object(&base)?;
    if let Some(fragment) = &spec.config {
        merge(&mut merged, fragment);
    }
    let yaml = serde_yaml::to_string(&Value::Object(merged)).map_err(invalid)?;
    let read: Config = read(&yaml)?;
    for (key, kept) in [
        ("http.addr", read.http.addr == base.http.addr),
        ("http.net", read.http.net == base.http.net),
        ("http.debug.addr", read.http.debug.addr == base.http.debug.addr),
        ("http.prefix", read.http.prefix == base.http.prefix),
        ("storage", read.storage.driver == base.storage.driver),
    ] {
        if !kept {
            return Err(invalid(format!("{key}: it belongs to the operator; leave it out")));
        }
    }
    Ok(ServerConfig { yaml, drain: read.http.draintimeout })
}

fn base(spec: &RegistrySpec) -> Config {
    let mut config = Config::default();
    config.storage.driver =
        config::Driver::Filesystem(config::Filesystem { rootdirectory: PathBuf::from(DATA_DIRECTORY) });
    config.storage.delete.enabled = true;
    config.storage.maintenance.readonly.enabled = spec.read_only;
    config.http.addr = format!(":{PORT}");
    config.http.debug.addr = Some(format!(":{DEBUG_PORT}"));
    config.http.debug.prometheus.enabled = true;
    if spec.tls.disabled.is_none() {
        config.http.tls = Some(config::Tls {
            certificate: PathBuf::from(TLS_DIRECTORY).join("tls.crt"),
            key: PathBuf::from(TLS_DIRECTORY).join("tls.key"),
            clientcas: Vec::new(),
            clientauth: config::ClientAuth::default(),
            minimumtls: config::TlsVersion::default(),
            ciphersuites: Vec::new(),
        });
    }
    if let Some(auth) = &spec.auth {
        config.access.anonymous = match auth.anonymous {
            Anonymous::None => config::Anonymous::None,
            Anonymous::Pull => config::Anonymous::Pull,
        };
        config.auth.htpasswd = auth.htpasswd_secret_ref.as_ref().map(|_| config::Htpasswd {
            realm: "Registry".to_owned(),
            path: PathBuf::from(AUTH_DIRECTORY).join(HTPASSWD_FILE),
        });
    }
    config
}

fn object(config: &Config) -> Result<serde_json::Map<String, Value>, Problem> {
    serde_json::to_value(config).and_then(serde_json::from_value).map_err(invalid)
}

fn read(yaml: &str) -> Result<Config, Problem> {
    serde_yaml::from_str(yaml).map_err(invalid)
}

fn invalid(message: impl ToString) -> Problem {
    Problem::InvalidConfig { message: message.to_string() }
}
