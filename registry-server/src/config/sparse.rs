//! Writing [`Config`] without what is at its default.

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use serde_json::{Map, Value};

use super::Config;

impl Serialize for Config {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut settings = all_settings(self).map_err(ser::Error::custom)?;
        let mut defaults = all_settings(&Self::default()).map_err(ser::Error::custom)?;
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
            true
        }
        _ => true,
    });
}

#[cfg(test)]
mod tests {
    use super::super::{Access, Anonymous, Delete, Driver, Http, Inmemory, Storage};
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
            access: Access { anonymous: Anonymous::Pull },
            http: Http { draintimeout: std::time::Duration::from_secs(90), ..Http::default() },
            storage: Storage {
                driver: Driver::Inmemory(Inmemory {}),
                delete: Delete { enabled: true },
                ..Storage::default()
            },
            ..Config::default()
        };

        assert_eq!(
            yaml(&config),
            "access:\n  anonymous: pull\nhttp:\n  draintimeout: 90s\nstorage:\n  delete:\n    enabled: true\n  \
             inmemory: {}\nversion: '0.1'\n"
        );
        assert_eq!(serde_yaml::from_str::<Config>(&yaml(&config)).unwrap(), config);
    }
}
