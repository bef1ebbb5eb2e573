//! `REGISTRY_*` variables: settings written as names, applied over the file by distribution's rule.

use serde_json::{Map, Value};

use super::shape::Shape;
use super::sources::Sources;
use super::{forms, keys};
use crate::config::error::{Error, Origin};

/// Where every variable's name begins.
const PREFIX: &str = "REGISTRY_";
/// Not settings: the first names the file itself, and the format of the file is a matter of the file.
const NOT_SETTINGS: [&str; 2] = ["REGISTRY_CONFIGURATION_PATH", "REGISTRY_VERSION"];

/// Applies variables in the order of their names, so that `REGISTRY_STORAGE` comes before what is under it.
///
/// A name that fits no setting becomes a key all the same; the check of keys then warns about it.
pub(super) fn apply(
    settings: &mut Value,
    shape: Shape<'_>,
    environment: impl Iterator<Item = (String, String)>,
    sources: &mut Sources<'_>,
) -> Result<(), Error> {
    let mut variables: Vec<_> = environment
        .filter(|(name, _)| name.starts_with(PREFIX) && !NOT_SETTINGS.contains(&name.as_str()))
        .collect();
    variables.sort();
    for (name, payload) in variables {
        let path = set(settings, shape, &name[PREFIX.len()..], &payload).map_err(|problem| Error::Value {
            origin: Origin::Variable(name.clone()),
            key: String::new(),
            problem,
        })?;
        replace_driver(settings, &path);
        forms::write_out(settings);
        sources.add_variable(path, &name);
    }
    Ok(())
}

/// Writes `payload` at the place that `name` stands for, and returns the place.
fn set(settings: &mut Value, shape: Shape<'_>, name: &str, payload: &str) -> Result<Vec<String>, String> {
    let mut path = Vec::new();
    let mut node = settings;
    let mut shape = Some(shape);
    for segment in name.split('_') {
        let is_list = node.is_array() || shape.and_then(Shape::element).is_some();
        let (key, child) = if is_list { element(node, segment)? } else { member(node, shape, segment) };
        shape = shape.and_then(|shape| if is_list { shape.element() } else { shape.member(&key) });
        node = child;
        path.push(key);
    }
    *node = value(payload, shape)?;
    Ok(path)
}

/// The element that `segment` counts to; the one past the end is added.
fn element<'a>(node: &'a mut Value, segment: &str) -> Result<(String, &'a mut Value), String> {
    let index: usize =
        segment.parse().map_err(|_| format!("found `{segment}`, expected the index of a list"))?;
    if !node.is_array() {
        *node = Value::Array(Vec::new());
    }
    let past_the_end = || format!("index {index} is past the end of the list");
    let Value::Array(elements) = node else { return Err(past_the_end()) };
    if elements.len() == index {
        elements.push(Value::Null);
    }
    elements.get_mut(index).map(|child| (index.to_string(), child)).ok_or_else(past_the_end)
}

/// The member that `segment` names: one that is there or is known, whatever its case, else a new one in lower case.
fn member<'a>(node: &'a mut Value, shape: Option<Shape<'_>>, segment: &str) -> (String, &'a mut Value) {
    if !node.is_object() {
        *node = Value::Object(Map::new());
    }
    let present = node.as_object().into_iter().flat_map(Map::keys).map(String::as_str);
    let known = shape.into_iter().flat_map(Shape::properties).map(|(name, ..)| name);
    let key = present.chain(known).find(|key| key.eq_ignore_ascii_case(segment)).map(str::to_owned);
    let key = key.unwrap_or_else(|| segment.to_lowercase());
    let child = &mut node[key.as_str()];
    (key, child)
}

/// A variable's value is YAML; but where text is expected, any other scalar is taken as it is written.
fn value(payload: &str, shape: Option<Shape<'_>>) -> Result<Value, String> {
    let parsed = super::tree(payload);
    if shape.is_some_and(Shape::is_text) && !matches!(parsed, Ok(Value::String(_) | Value::Null)) {
        return Ok(Value::String(payload.to_owned()));
    }
    parsed.map_err(|error| format!("not YAML: {error}"))
}

/// A driver that a variable names takes the place of the file's.
fn replace_driver(settings: &mut Value, path: &[String]) {
    let [section, driver, ..] = path else { return };
    if section != "storage" || !keys::DRIVERS.contains(&driver.as_str()) {
        return;
    }
    if let Some(storage) = settings.get_mut(section).and_then(Value::as_object_mut) {
        storage.retain(|key, _| key == driver || !keys::DRIVERS.contains(&key.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::parsed;

    const FILE: &str = "\
version: 0.1
storage:
  filesystem: {rootdirectory: /data}
  delete: {enabled: true}
http:
  headers: {X-One: [a]}
  tls: {certificate: /c, key: /k, clientcas: [/a]}
";

    /// What is at `pointer` of the settings after `variables` are applied to [`FILE`].
    fn setting(variables: &[(&str, &str)], pointer: &str) -> Value {
        let loaded = parsed(FILE, variables).unwrap();
        assert_eq!(loaded.warnings, [], "{variables:?}");
        serde_json::to_value(loaded.config).unwrap().pointer(pointer).cloned().unwrap_or_default()
    }

    #[test]
    fn a_variable_sets_what_its_name_spells() {
        let rows = [
            ("HTTP_ADDR", ":80", "/http/addr", json!(":80")),
            ("HTTP_TLS_MINIMUMTLS", "tls1.3", "/http/tls/minimumtls", json!("tls1.3")),
            ("HTTP_DRAINTIMEOUT", "1h30m", "/http/draintimeout", json!("90m")),
            ("HTTP_DRAINTIMEOUT", "1000000", "/http/draintimeout", json!("1ms")),
            ("HTTP_RELATIVEURLS", "false", "/http/relativeurls", json!(false)),
            ("HTTP_RELATIVEURLS", "off", "/http/relativeurls", json!(false)),
            ("http_addr", ":80", "/http/addr", json!(":80")),
            ("HTTP_DEBUG_PROMETHEUS_ENABLED", "true", "/http/debug/prometheus/enabled", json!(true)),
            // Text is taken as it is written, also where YAML would read something else.
            ("HTTP_HOST", "1.10", "/http/host", json!("1.10")),
            ("HTTP_HOST", "@at: sign", "/http/host", json!("@at: sign")),
            ("HTTP_HOST", "'quoted'", "/http/host", json!("quoted")),
            // Nothing is as good as not set.
            ("HTTP_HOST", "", "/http/host", Value::Null),
            ("LOG_LEVEL", "DEBUG", "/log/level", json!("debug")),
            ("LOGLEVEL", "debug", "/log/level", json!("debug")),
            ("LOG_FIELDS_SERVICE", "hub", "/log/fields/service", json!("hub")),
            ("LOG_FIELDS", "{a: 1}", "/log/fields", json!({"a": 1})),
            ("HTTP_HEADERS_X-TWO", "[b, c]", "/http/headers/x-two", json!(["b", "c"])),
            ("HTTP_HEADERS_X-ONE", "[b]", "/http/headers", json!({"X-One": ["b"]})),
            ("HTTP_HEADERS_X-ONE_1", "b", "/http/headers/X-One", json!(["a", "b"])),
            ("HTTP_HEADERS", "{Y: [b]}", "/http/headers", json!({"Y": ["b"]})),
            ("HTTP_TLS_CLIENTCAS", "[/b, /c]", "/http/tls/clientcas", json!(["/b", "/c"])),
            ("HTTP_TLS_CLIENTCAS_0", "/b", "/http/tls/clientcas", json!(["/b"])),
            ("HTTP_TLS_CLIENTCAS_1", "/b", "/http/tls/clientcas", json!(["/a", "/b"])),
            ("STORAGE_DELETE_ENABLED", "false", "/storage/delete/enabled", Value::Null),
            ("STORAGE_FILESYSTEM_ROOTDIRECTORY", "/new", "/storage/filesystem/rootdirectory", json!("/new")),
            (
                "STORAGE_MAINTENANCE_READONLY",
                "{enabled: true}",
                "/storage/maintenance/readonly/enabled",
                json!(true),
            ),
            ("AUTH_HTPASSWD_PATH", "/h", "/auth/htpasswd/path", json!("/h")),
            ("AUTH", "{htpasswd: {path: /h}}", "/auth/htpasswd/path", json!("/h")),
            ("AUTH", "none", "/auth", Value::Null),
            ("ACCESS_ANONYMOUS", "pull", "/access/anonymous", json!("pull")),
            ("HTTP_SECRET", "unused", "/http/secret", Value::Null),
            ("CONFIGURATION_PATH", "/etc/config.yml", "/configuration", Value::Null),
        ];
        for (name, value, pointer, expected) in rows {
            assert_eq!(setting(&[(&format!("REGISTRY_{name}"), value)], pointer), expected, "{name}={value}");
        }
    }

    #[test]
    fn shorter_names_come_first_whatever_the_order() {
        let variables = [
            ("REGISTRY_AUTH_HTPASSWD_REALM", "Ours"),
            ("REGISTRY_AUTH_HTPASSWD_PATH", "/h"),
            ("REGISTRY_AUTH", "htpasswd"),
        ];
        assert_eq!(setting(&variables, "/auth"), json!({"htpasswd": {"path": "/h", "realm": "Ours"}}));
    }

    #[test]
    fn a_driver_takes_the_place_of_the_files() {
        let rows = [
            // As in distribution, the short form replaces the section, and with it the right to delete.
            ("REGISTRY_STORAGE", "inmemory", json!({"inmemory": {}})),
            ("REGISTRY_STORAGE_INMEMORY", "", json!({"inmemory": {}, "delete": {"enabled": true}})),
            ("REGISTRY_STORAGE_INMEMORY", "{}", json!({"inmemory": {}, "delete": {"enabled": true}})),
        ];
        for (name, value, expected) in rows {
            assert_eq!(setting(&[(name, value)], "/storage"), expected, "{name}={value}");
        }
    }

    #[test]
    fn errors_name_the_variable() {
        let rows = [
            (
                "HTTP_DRAINTIMEOUT",
                "soon",
                "http.draintimeout: found string \"soon\", expected a duration such as 10s, 5m or 168h",
            ),
            ("HTTP_TLS_CLIENTCAS_3", "/b", "index 3 is past the end of the list"),
            ("HTTP_TLS_CLIENTCAS_X", "/b", "found `X`, expected the index of a list"),
            (
                "STORAGE_DELETE_ENABLED",
                "perhaps",
                "storage.delete.enabled: found string \"perhaps\", expected true or false",
            ),
            (
                "STORAGE_S3_BUCKET",
                "b",
                "storage.s3: not a driver of this server, expected filesystem or inmemory",
            ),
            (
                "STORAGE_DELETE",
                "{enabled: perhaps}",
                "storage.delete.enabled: found string \"perhaps\", expected true or false",
            ),
            ("AUTH", "htpasswd", "auth.htpasswd: missing key `path`"),
            ("AUTH_HTPASSWD_REALM", "Ours", "auth.htpasswd: missing key `path`"),
        ];
        for (name, value, expected) in rows {
            let name = format!("REGISTRY_{name}");
            let error = parsed(FILE, &[(&name, value)]).unwrap_err();
            assert_eq!(error.to_string(), format!("environment variable {name}: {expected}"));
        }
    }

    #[test]
    fn names_without_meaning_only_warn() {
        let rows = [
            ("HTTP_ADR", "http.adr: unknown key, did you mean http.addr?"),
            ("PORT", "port: unknown key"),
            ("AUTH_SERVICE_HOST", "auth.service: unknown key"),
            ("PROXY_SERVICE_HOST", "proxy.service: not used by this server"),
            ("STORAGE_PORT_5000_TCP", "storage.port: unknown key"),
            ("STORAGE_CACHE_BLOBDESCRIPTOR", "storage.cache: not used by this server"),
            ("NOTIFICATIONS_ENDPOINTS_0_URL", "notifications: not used by this server"),
        ];
        for (name, expected) in rows {
            let name = format!("REGISTRY_{name}");
            let warnings = parsed(FILE, &[(&name, "10.0.0.1")]).unwrap().warnings;
            let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
            assert_eq!(warnings, [format!("environment variable {name}: {expected}")]);
        }
    }

    #[test]
    fn other_variables_are_left_alone() {
        let loaded =
            parsed(FILE, &[("REGISTRYHTTP_ADDR", "1"), ("PATH", "1"), ("REGISTRY_VERSION", "9")]).unwrap();
        assert_eq!(loaded, parsed(FILE, &[]).unwrap());
    }
}
