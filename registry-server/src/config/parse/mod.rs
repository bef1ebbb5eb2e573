//! From a file and the environment to [`Config`]: one tree of values, changed step by step, then read by serde.
//!
//! What each step knows of the settings it takes from the schema of [`Config`], so a new field needs no line here.

use std::path::Path;

use serde_json::Value;

use super::{Config, Error, Loaded};

mod environment;
mod forms;
pub(super) mod keys;
mod locate;
mod nearest;
pub(super) mod shape;
mod sources;

use shape::Shape;
use sources::Sources;

/// Reads settings from `text`, the content of the file at `path`, and from variables.
pub(super) fn parse(
    path: &Path,
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, Error> {
    let schema = super::schema();
    let shape = Shape::new(schema.as_value());
    let mut sources = Sources::new(path, text);

    let mut settings = tree(text).map_err(|source| sources.syntax(source))?;
    forms::write_out(&mut settings);
    environment::apply(&mut settings, shape, environment, &mut sources)?;
    forms::tidy(&mut settings, Some(shape));
    let warnings = keys::check(&mut settings, shape, &sources)?;
    let config = read(settings, shape, &sources)?;
    Ok(Loaded { config, warnings })
}

/// YAML's data as a tree whose keys are all text, with merge keys (`<<`) resolved.
fn tree(text: &str) -> Result<Value, serde_yaml::Error> {
    let mut document = serde_yaml::from_str::<serde_yaml::Value>(text)?;
    document.apply_merge()?;
    serde_yaml::from_value(document)
}

fn read(settings: Value, shape: Shape<'_>, sources: &Sources<'_>) -> Result<Config, Error> {
    if let Some(path) = list_in_place_of_keys(&settings, shape) {
        return Err(sources.wrong(&path, "found a list, expected keys with values".to_owned()));
    }
    serde_path_to_error::deserialize(settings).map_err(|error| {
        let path: Vec<String> = error.path().iter().map(ToString::to_string).collect();
        sources.wrong(&path, in_plain_words(&error.inner().to_string()))
    })
}

/// Serde would read such a list into a struct, field by field, which nobody means here.
fn list_in_place_of_keys(value: &Value, shape: Shape<'_>) -> Option<Vec<String>> {
    if value.is_array() && shape.has_type("object") {
        return Some(Vec::new());
    }
    value.as_object()?.iter().find_map(|(key, member)| {
        let mut path = list_in_place_of_keys(member, shape.member(key)?)?;
        path.insert(0, key.clone());
        Some(path)
    })
}

/// Serde's message without the names of Rust's types.
fn in_plain_words(message: &str) -> String {
    let message = message.replace("missing field", "missing key");
    let Some((found, expected)) = message.split_once(", expected ") else {
        return message;
    };
    let kinds = ["invalid type: ", "invalid value: ", "unknown variant "];
    let Some(found) = kinds.into_iter().find_map(|kind| found.strip_prefix(kind)) else {
        return message;
    };
    let expected = match expected {
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "i64" | "u32" => "a whole number",
        "path string" => "a path",
        other if other == "a map" || other.starts_with("struct ") => "keys with values",
        other => other,
    };
    format!("found {found}, expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Auth, Driver, Filesystem, Htpasswd, Http, Level, Log, Storage};

    /// Reads `text` as `config.yml` and applies variables.
    pub(super) fn parsed(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Error> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        parse(Path::new("config.yml"), text, variables)
    }

    const START: &str = "version: 0.1\nstorage: inmemory\n";

    #[test]
    fn the_file_of_distributions_image_is_read() {
        let text = "\
version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
";
        let loaded = parsed(text, &[]).unwrap();

        let expected = Config {
            log: Log { fields: [("service".to_owned(), "registry".into())].into(), ..Log::default() },
            http: Http {
                headers: [("X-Content-Type-Options".to_owned(), vec!["nosniff".to_owned()])].into(),
                ..Http::default()
            },
            ..Config::default()
        };
        assert_eq!(loaded.config, expected);
        let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, ["config.yml:6:3: storage.cache: not used by this server"]);
    }

    #[test]
    fn short_forms_and_empty_values_are_read_as_distribution_does() {
        let rows = [
            ("storage: filesystem", Config::default()),
            ("storage: {filesystem: }", Config::default()),
            ("storage: {filesystem: }\nhttp: {tls: {certificate: '', key: }, prefix: ''}", Config::default()),
            (
                "storage: {filesystem: }\nhttp:\nauth: none\nredis: {}\nproxy: {remoteurl: ''}",
                Config::default(),
            ),
            (
                "storage: filesystem\nloglevel: Warn",
                Config { log: Log { level: Level::Warn, ..Log::default() }, ..Config::default() },
            ),
            (
                "storage: {filesystem: {rootdirectory: 5}, delete: {enabled: yes}}",
                Config {
                    storage: Storage {
                        driver: Driver::Filesystem(Filesystem { rootdirectory: "5".into() }),
                        delete: crate::config::Delete { enabled: true },
                        ..Storage::default()
                    },
                    ..Config::default()
                },
            ),
            (
                "storage: filesystem\n.base: &base {path: /h}\nauth: {htpasswd: {<<: *base, realm: true}}",
                Config {
                    auth: Auth {
                        htpasswd: Some(Htpasswd { realm: "true".into(), path: "/h".into() }),
                        ..Auth::default()
                    },
                    ..Config::default()
                },
            ),
        ];
        for (text, expected) in rows {
            let loaded = parsed(&format!("version: 0.1\n{text}\n"), &[]).unwrap();
            assert_eq!(loaded.config, expected, "{text}");
        }
    }

    #[test]
    fn a_wrong_value_is_an_error_with_its_place_its_key_and_what_was_expected() {
        let rows = [
            (
                "http:\n  draintimeout: soon",
                "4:17: http.draintimeout: found string \"soon\", expected a duration such as 10s, 5m or 168h",
            ),
            (
                "http:\n  draintimeout: -5",
                "4:17: http.draintimeout: found integer `-5`, expected a duration such as 10s, 5m or 168h",
            ),
            (
                "http: {relativeurls: perhaps}",
                "3:22: http.relativeurls: found string \"perhaps\", expected true or false",
            ),
            (
                "http: {prefix: /path}",
                "3:16: http.prefix: found string \"/path\", expected a path that begins and ends with a slash",
            ),
            ("http: {headers: {'A B': [c]}}", "3:17: http.headers: \"A B\" is not a name of a header"),
            (
                "http: {headers: {A: [\"b\\n\"]}}",
                "3:17: http.headers: \"b\\n\" is not a value that the header A can have",
            ),
            ("http: {net: udp}", "3:13: http.net: found `udp`, expected `tcp` or `unix`"),
            ("http: 5", "3:7: http: found integer `5`, expected keys with values"),
            ("http:\n  tls:\n    certificate: /c", "5:5: http.tls: missing key `key`"),
            (
                "http:\n  tls: {certificate: /c, key: /k, clientcas: /a}",
                "4:46: http.tls.clientcas: found string \"/a\", expected a list",
            ),
            (
                "http:\n  tls: {certificate: /c, key: /k, minimumtls: tls9}",
                "4:47: http.tls.minimumtls: found `tls9`, expected one of `tls1.0`, `tls1.1`, `tls1.2`, `tls1.3`",
            ),
            (
                "http:\n  headers:\n    X-A: one",
                "5:10: http.headers.X-A: found string \"one\", expected a list",
            ),
            (
                "log:\n\n  level: loud",
                "5:10: log.level: found `loud`, expected one of `error`, `warn`, `info`, `debug`",
            ),
            (
                "catalog: {maxentries: many}",
                "3:23: catalog.maxentries: found string \"many\", expected a whole number",
            ),
            (
                "health: {storagedriver: {threshold: -1}}",
                "3:37: health.storagedriver.threshold: found integer `-1`, expected a whole number",
            ),
            ("auth:\n  htpasswd:\n    realm: Ours", "5:5: auth.htpasswd: missing key `path`"),
            ("auth: htpasswd", "3:7: auth.htpasswd: missing key `path`"),
            ("access: {anonymous: push}", "3:21: access.anonymous: found `push`, expected `none` or `pull`"),
        ];
        for (text, expected) in rows {
            let error = parsed(&format!("{START}{text}\n"), &[]).unwrap_err();
            assert_eq!(error.to_string(), format!("config.yml:{expected}"), "{text}");
        }
    }

    #[test]
    fn what_is_unsafe_to_go_without_is_refused() {
        let driver = "not a driver of this server, expected filesystem or inmemory";
        let auth = "not a way of authentication of this server, expected htpasswd or none";
        let rows = [
            ("storage:\n  s3: {bucket: b}", format!("3:3: storage.s3: {driver}")),
            ("storage: s3", format!("2:10: storage.s3: {driver}")),
            ("storage:\n  filesytem: {}", format!("3:3: storage.filesytem: {driver}")),
            ("storage: inmemory\nauth: {token: {realm: r}}", format!("3:8: auth.token: {auth}")),
            ("storage: inmemory\nauth: {ldap: }", format!("3:8: auth.ldap: {auth}")),
            (
                "storage: inmemory\nproxy: {remoteurl: r}",
                "3:9: proxy.remoteurl: this server is not a mirror of another".into(),
            ),
            (
                "storage: inmemory\nhttp: {tls: {letsencrypt: {email: e}}}",
                "3:14: http.tls.letsencrypt: certificates are not fetched, expected certificate and key"
                    .into(),
            ),
            (
                "storage: {filesystem: {}, inmemory: {}}",
                "2:10: storage: more than one driver is set, expected one of filesystem, inmemory".into(),
            ),
            (
                "storage: {delete: {enabled: true}}",
                "2:10: storage: no driver is set, expected one of filesystem, inmemory".into(),
            ),
        ];
        for (text, expected) in rows {
            let error = parsed(&format!("version: 0.1\n{text}\n"), &[]).unwrap_err();
            assert_eq!(error.to_string(), format!("config.yml:{expected}"), "{text}");
        }
    }

    #[test]
    fn a_file_that_is_no_configuration_is_an_error() {
        let rows = [
            ("", "config.yml:1:1: missing key `version`"),
            ("version: 0.1", "config.yml:1:1: missing key `storage`"),
            ("version: 0.2\nstorage: inmemory", "config.yml:1:10: version: found `0.2`, expected `0.1`"),
            ("- a\n- b", "config.yml:1:1: found a list, expected keys with values"),
            ("http: [", "config.yml:2:1: not YAML"),
            ("version: 0.1\nversion: 0.1", "config.yml:1:1: not YAML"),
        ];
        for (text, expected) in rows {
            assert_eq!(parsed(text, &[]).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn unknown_keys_warn_with_their_place_and_the_nearest_known_key() {
        let rows = [
            ("http: {adr: ':80'}", "3:8: http.adr: unknown key, did you mean http.addr?"),
            ("Http: {addr: ':80'}", "3:1: Http: unknown key, did you mean http?"),
            ("delete:\n  enabled: true", "3:1: delete: unknown key, did you mean storage.delete?"),
            ("aliens: 5", "3:1: aliens: unknown key"),
            ("proxy: {remoteurl: '', username: u}", "3:24: proxy.username: not used by this server"),
            ("health: {http: [{uri: u}]}", "3:10: health.http: not used by this server"),
        ];
        for (text, expected) in rows {
            let warnings = parsed(&format!("{START}{text}\n"), &[]).unwrap().warnings;
            let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
            assert_eq!(warnings, [format!("config.yml:{expected}")]);
        }
    }
}
