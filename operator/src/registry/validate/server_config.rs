//! Writes the server's config.yml from the server's own types and reads it back with the server's own loader, so that a
//! configuration which the server would refuse never reaches it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use registry_server::auth;
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
/// Directory in which the hashes of pull secrets are mounted.
pub const PULL_DIRECTORY: &str = "/etc/registry-pull";
/// Name of the file in [`PULL_DIRECTORY`], and its key in the Secret.
pub const PULL_FILE: &str = "pull-secrets";
/// Name of the file with the cluster's public keys in [`CONFIG_DIRECTORY`].
pub const JWKS_FILE: &str = "jwks.json";
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

/// Renders config.yml for `spec`, with the `tokens` that the server is to take.
///
/// # Errors
/// [`Problem::InvalidAccessRule`]; [`Problem::InvalidConfig`] if the server refuses what `spec.config` makes of it, or if that
/// moves what the operator relies on.
pub fn render(spec: &RegistrySpec, tokens: Option<config::Kubernetes>) -> Result<ServerConfig, Problem> {
    let base = base(spec, tokens);
    auth::check(&base).map_err(Problem::InvalidAccessRule)?;
    let mut merged = object(&base)?;
    if let Some(fragment) = &spec.config {
        merge(&mut merged, fragment);
    }
    let yaml = serde_yaml::to_string(&Value::Object(merged)).map_err(|error| invalid(&error))?;
    let read: Config = read(&yaml)?;
    for (key, kept) in [
        ("http.addr", read.http.addr == base.http.addr),
        ("http.net", read.http.net == base.http.net),
        ("http.debug.addr", read.http.debug.addr == base.http.debug.addr),
        ("http.prefix", read.http.prefix == base.http.prefix),
        ("storage", read.storage.driver == base.storage.driver),
    ] {
        if !kept {
            return Err(invalid(&format!("{key}: it belongs to the operator; leave it out")));
        }
    }
    auth::check(&read).map_err(|error| invalid(&auth::Error::Rules(error)))?;
    Ok(ServerConfig { yaml, drain: read.http.draintimeout })
}

fn base(spec: &RegistrySpec, tokens: Option<config::Kubernetes>) -> Config {
    let mut config = Config::default();
    config.auth.kubernetes = tokens;
    config.auth.pullsecrets = spec
        .pull_access
        .as_ref()
        .map(|_| config::PullSecrets { path: PathBuf::from(PULL_DIRECTORY).join(PULL_FILE) });
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
        config.access.rules.clone_from(&auth.rules);
        config.auth.htpasswd = auth.htpasswd_secret_ref.as_ref().map(|_| config::Htpasswd {
            realm: "Registry".to_owned(),
            path: PathBuf::from(AUTH_DIRECTORY).join(HTPASSWD_FILE),
        });
    }
    config
}

fn object(config: &Config) -> Result<serde_json::Map<String, Value>, Problem> {
    serde_json::to_value(config).and_then(serde_json::from_value).map_err(|error| invalid(&error))
}

/// Reads config.yml as the server will. A key that nobody knows is a mistake here; one that only CNCF distribution has a
/// use for does no harm.
fn read(yaml: &str) -> Result<Config, Problem> {
    let loaded = config::from_text(Path::new("config.yml"), yaml).map_err(|error| match error {
        config::Error::Value { key, problem, .. } => invalid(&format!("{key}: {problem}")),
        config::Error::Refused { key, reason, .. } => invalid(&format!("{key}: {reason}")),
        other => invalid(&other),
    })?;
    for warning in loaded.warnings {
        if let config::Problem::Unknown { nearest } = warning.problem {
            let hint = nearest.map(|nearest| format!(", did you mean {nearest}?")).unwrap_or_default();
            return Err(invalid(&format!("{}: unknown key{hint}", warning.key)));
        }
    }
    Ok(loaded.config)
}

fn invalid(message: &impl ToString) -> Problem {
    Problem::InvalidConfig { message: message.to_string() }
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::api::registry::RegistrySpec;
    use registry_server::config;
    use serde_json::{Value, json};
    use std::path::Path;
    use std::time::Duration;

    fn spec(fields: &Value) -> RegistrySpec {
        let mut spec = json!({"storage": {"filesystem": {"size": "1Gi"}}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn read(fields: &Value) -> config::Config {
        let rendered = render(&spec(fields), None).unwrap();
        let loaded = config::from_text(Path::new("config.yml"), &rendered.yaml).unwrap();
        assert_eq!(loaded.warnings, []);
        loaded.config
    }

    #[test]
    fn each_field_of_the_spec_reaches_the_server() {
        let plain = read(&json!({}));
        assert!(plain.http.tls.is_some() && plain.auth.htpasswd.is_none());
        assert!(plain.storage.delete.enabled && !plain.storage.maintenance.readonly.enabled);
        assert!(read(&json!({"readOnly": true})).storage.maintenance.readonly.enabled);
        assert!(read(&json!({"tls": {"disabled": {}}})).http.tls.is_none());
        let auth = read(&json!({"auth": {"anonymous": "Pull", "htpasswdSecretRef": {"name": "users"}}}));
        assert_eq!(auth.access.anonymous, config::Anonymous::Pull);
        assert_eq!(auth.auth.htpasswd.unwrap().path, Path::new("/etc/registry-auth/htpasswd"));
        let rules = json!([{"subjects": [{"kind": "ServiceAccount"}], "repositories": ["{namespace}/**"], "actions": ["pull"]}]);
        let auth = read(&json!({"auth": {"htpasswdSecretRef": {"name": "users"}, "rules": rules}}));
        assert_eq!(serde_json::to_value(auth.access.rules).unwrap(), rules);
    }

    #[test]
    fn the_escape_hatch_is_merged_last() {
        let changed =
            read(&json!({"config": {"log": {"level": "debug"}, "storage": {"delete": {"enabled": false}}}}));
        assert_eq!(changed.log.level, config::Level::Debug);
        assert!(!changed.storage.delete.enabled);
        let drain = render(&spec(&json!({"config": {"http": {"draintimeout": "90s"}}})), None).unwrap().drain;
        assert_eq!(drain, Duration::from_secs(90));
    }

    #[test]
    fn a_bad_escape_hatch_is_refused_with_its_key() {
        for (fragment, expected) in [
            (json!({"log": {"level": "loud"}}), "spec.config: log.level: "),
            (
                json!({"log": {"levle": "debug"}}),
                "spec.config: log.levle: unknown key, did you mean log.level?",
            ),
            (json!({"http": {"addr": ":443"}}), "spec.config: http.addr: it belongs to the operator"),
            (
                json!({"http": {"debug": {"addr": null}}}),
                "spec.config: http.debug.addr: it belongs to the operator",
            ),
            (json!({"http": {"draintimeout": "soon"}}), "spec.config: http.draintimeout: "),
            (
                json!({"storage": {"filesystem": {"rootdirectory": "/tmp"}}}),
                "spec.config: storage: it belongs",
            ),
            (json!({"storage": {"filesystem": null, "inmemory": {}}}), "spec.config: storage: it belongs"),
        ] {
            let message = render(&spec(&json!({"config": fragment})), None).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{fragment} gave {message}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_meant_is_refused_where_it_stands() {
        let rules = json!([{"subjects": [{"kind": "Anonymous"}], "repositories": ["{team}/**"], "actions": ["pull"]}]);
        let auth = json!({"auth": {"htpasswdSecretRef": {"name": "users"}, "rules": rules}});
        let config = json!({"config": {"access": {"rules": rules}}});
        for (fields, expected) in [
            (auth, "spec.auth.rules[0].repositories[0]: {team} stands for nothing"),
            (config, "spec.config: access.rules[0].repositories[0]: {team} stands for nothing"),
        ] {
            let message = render(&spec(&fields), None).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn the_same_spec_gives_the_same_text() {
        let fields =
            json!({"auth": {"htpasswdSecretRef": {"name": "users"}}, "config": {"log": {"level": "warn"}}});
        assert_eq!(render(&spec(&fields), None).unwrap(), render(&spec(&fields), None).unwrap());
    }
}
