//! Third step: the objects of a run, a file per kind. Pure, and it cannot fail.

mod config_map;
mod job;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub use config_map::{MOST_BYTES, config_map};
pub use job::job;

use super::validate::{Target, Valid};
use crate::names;

/// Directory in which a run finds what it must keep and may let go.
const RULES_DIRECTORY: &str = "/etc/garbage-collection";
/// The file with what it must keep.
const PROTECT_FILE: &str = "protect.yml";
/// The file with what it may let go.
const RETENTION_FILE: &str = "retention.yml";

fn metadata(valid: &Valid<'_>, target: &Target<'_>, name: &str, owner: OwnerReference) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(valid.namespace.clone()),
        labels: Some(labels(valid, target)),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

fn labels(valid: &Valid<'_>, target: &Target<'_>) -> BTreeMap<String, String> {
    names::garbage_collection_labels(&valid.name, &target.name)
}
