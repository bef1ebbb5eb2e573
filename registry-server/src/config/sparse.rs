//! Writing [`Config`] without what is at its default.

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use serde_json::{Map, Value};

use super::{Config, Http, Tls};

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut settings = all_settings(self).map_err(ser::Error::custom)?;
        let mut defaults = all_settings(&with_all_sections()).map_err(ser::Error::custom)?;
        keep_what_distribution_demands(&mut defaults);
        remove_defaults(&mut settings, &defaults);
        settings.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
}

/// The defaults, also of a section that is not there by default. Distribution demands all of `auth.htpasswd`.
fn with_all_sections() -> Config {
    Config { http: Http { tls: Some(Tls::default()), ..Http::default() }, ..Config::default() }
}

/// Each setting, also those at their default. Distribution takes a null for a value, so absent ones are left out.
fn all_settings(config: &Config) -> serde_json::Result<Map<String, Value>> {
    let mut settings = Config::serialize(config, serde_json::value::Serializer)?;
    remove_nulls(&mut settings);
    serde_json::from_value(settings)
}

fn remove_nulls(value: &mut Value) {
    if let Value::Object(members) = value {
        members.retain(|_, member| !member.is_null());
        members.values_mut().for_each(remove_nulls);
    }
}

/// Forgets the defaults of `version` and of the storage driver, without which distribution does not start.
fn keep_what_distribution_demands(defaults: &mut Map<String, Value>) {
    defaults.remove("version");
    if let Some(Value::Object(storage)) = defaults.get_mut("storage") {
        storage.remove("filesystem");
    }
}

fn remove_defaults(settings: &mut Map<String, Value>, defaults: &Map<String, Value>) {
    settings.retain(|key, value| match (value, defaults.get(key)) {
        (value, Some(default)) if value == default => false,
        (Value::Object(members), Some(Value::Object(defaults))) => {
            remove_defaults(members, defaults);
            !members.is_empty()
        }
        _ => true,
    });
}

#[cfg(test)]
mod tests {
    use super::super::{Access, Anonymous, Auth, Delete, Driver, Htpasswd, Inmemory, Storage};
    use super::*;

    fn yaml(config: &Config) -> String {
        serde_yaml::to_string(config).unwrap()
    }

    #[test]
    fn defaults_leave_only_what_distribution_demands() {
        assert_eq!(
            yaml(&Config::default()),
            "storage:\n  filesystem:\n    rootdirectory: /var/lib/registry\nversion: '0.1'\n"
        );
    }

    #[test]
    fn only_changed_settings_are_written() {
        let config = Config {
            access: Access { anonymous: Anonymous::Pull, rules: Vec::new() },
            auth: Auth {
                htpasswd: Some(Htpasswd { realm: "Registry".into(), path: "/h".into() }),
                ..Auth::default()
            },
            http: Http {
                draintimeout: std::time::Duration::from_secs(90),
                tls: Some(Tls { certificate: "/c".into(), key: "/k".into(), ..Tls::default() }),
                ..Http::default()
            },
            storage: Storage {
                driver: Driver::Inmemory(Inmemory {}),
                delete: Delete { enabled: true },
                ..Storage::default()
            },
            ..Config::default()
        };

        assert_eq!(
            yaml(&config),
            "access:
  anonymous: pull
auth:
  htpasswd:
    path: /h
    realm: Registry
http:
  draintimeout: 90s
  tls:
    certificate: /c
    key: /k
storage:
  delete:
    enabled: true
  inmemory: {}
version: '0.1'
"
        );
        assert_eq!(serde_yaml::from_str::<Config>(&yaml(&config)).unwrap(), config);
    }
}
