//! The `ConfigMap` with config.yml and the cluster's public keys. It holds no secret: passwords and private keys are in
//! files of their own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{child, metadata};
use crate::children::{Child, Kind};
use crate::names;
use crate::registry::validate::Valid;
use crate::registry::validate::server_config::JWKS_FILE;

pub(super) fn build(valid: &Valid<'_>) -> Child {
    let name = names::config_map(&valid.name);
    let mut data = BTreeMap::from([("config.yml".to_owned(), valid.config.yaml.clone())]);
    data.extend(valid.jwks.as_ref().map(|jwks| (JWKS_FILE.to_owned(), jwks.clone())));
    let config =
        ConfigMap { metadata: metadata(valid, name.clone()), data: Some(data), ..ConfigMap::default() };
    child(Kind::ConfigMap, name, &config)
}
