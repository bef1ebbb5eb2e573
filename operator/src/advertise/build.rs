//! Third step: the `ConfigMap` in which tools look. Pure, and it cannot fail.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use serde::Serialize;
use serde_json::json;

use crate::api::registry::Registry;
use crate::children::{Child, Kind};
use crate::names;

/// Where people read on when a tool cannot push.
const HELP: &str = concat!(
    env!("CARGO_PKG_REPOSITORY"),
    "/blob/v",
    env!("CARGO_PKG_VERSION"),
    "/docs/node-access.md#tools-that-look-for-the-registry-of-the-cluster"
);

/// Where a registry is found, from where somebody looks: hosts, with a port if it is not that of the scheme. The names are
/// those of `LocalRegistryHostingV1` in KEP-1755.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hosting {
    /// From outside the cluster; a tool there cannot push without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// In names of images; without, they have [`Self::host`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_from_container_runtime: Option<String>,
    /// From Pods.
    pub host_from_cluster_network: String,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    hosting: &'a Hosting,
    help: &'static str,
}

/// The `ConfigMap` that tells of `registry`.
#[must_use]
pub fn build(registry: &Registry, hosting: &Hosting) -> Child {
    // Texts under texts always have a YAML form.
    let text = serde_yaml::to_string(&Document { hosting, help: HELP }).unwrap_or_default();
    let name = names::ADVERTISING_CONFIG_MAP.to_owned();
    let config_map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(names::ADVERTISING_NAMESPACE.to_owned()),
            labels: Some(names::advertising_labels(
                &registry.name_any(),
                &registry.namespace().unwrap_or_default(),
            )),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(names::ADVERTISING_KEY.to_owned(), text)])),
        ..ConfigMap::default()
    };
    Child { key: (Kind::ConfigMap, name), object: json!(config_map) }
}
