//! The `ConfigMap` with config.yml. It holds no secret: passwords and keys are in files of their own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{child, metadata};
use crate::children::{Child, Kind};
use crate::names;
use crate::registry::validate::Valid;

pub(super) fn build(valid: &Valid<'_>) -> Child {
    let name = names::config_map(&valid.name);
    let config = ConfigMap {
        metadata: metadata(valid, name.clone()),
        data: Some(BTreeMap::from([("config.yml".to_owned(), valid.config.yaml.clone())])),
        ..ConfigMap::default()
    };
    child(Kind::ConfigMap, name, &config)
}
