//! The `ConfigMap` with what a run must keep and may let go. It belongs to the Job, and goes with it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use registry_server::config::Protection;
use serde_json::json;

use super::{PROTECT_FILE, RETENTION_FILE, metadata};
use crate::children::{Child, Kind};
use crate::garbage_collection_policy::validate::{Target, Valid};

/// The most that a `ConfigMap` holds is 1 MiB; a part of it is left for the rules.
pub const MOST_BYTES: usize = 900 * 1024;

/// Builds the `ConfigMap` of the run whose Job is `owner`. If what is to be kept does not fit into it, it says that it does
/// not know all of it, so that nothing tagged is touched, rather than a part of it; then the second value is false.
#[must_use]
pub fn config_map(
    valid: &Valid<'_>,
    target: &Target<'_>,
    owner: OwnerReference,
    protection: &Protection,
) -> (Child, bool) {
    let name = owner.name.clone();
    let whole = yaml(protection);
    let fits = whole.len() <= MOST_BYTES;
    let unknown = || Protection { complete: false, images: Vec::new(), tags: protection.tags.clone() };
    let protect = if fits { whole } else { yaml(&unknown()) };
    let config_map = ConfigMap {
        metadata: metadata(valid, target, &name, owner),
        data: Some(BTreeMap::from([
            (PROTECT_FILE.to_owned(), protect),
            (RETENTION_FILE.to_owned(), yaml(&valid.retention)),
        ])),
        immutable: Some(true),
        ..ConfigMap::default()
    };
    (Child { key: (Kind::ConfigMap, name), object: json!(config_map) }, fits)
}

/// What is written here has text keys only, so turning it into YAML cannot fail.
fn yaml(value: &impl serde::Serialize) -> String {
    serde_yaml::to_string(value).unwrap_or_default()
}
