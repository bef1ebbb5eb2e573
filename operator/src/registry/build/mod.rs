//! Third step: the objects that a valid Registry leads to, a file per kind. Pure, and it cannot fail.
//!
//! The same input gives the same bytes, so that what is built can be compared with what is there.

mod config_map;
mod deployment;
mod persistent_volume_claim;
mod role_binding;
mod secret;
mod service;
mod service_account;

pub(crate) use deployment::{confined, resources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::shared::Fragment;
use crate::children::{Child, Kind};
use crate::merge::merge;
use crate::names;
use crate::registry::validate::Valid;

/// The children of a Registry.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// They, in the order in which they are to be written.
    pub children: Vec<Child>,
    /// Whether these are all: only then may others be removed.
    pub complete: bool,
}

/// Builds the children of `valid`.
#[must_use]
pub fn build(valid: &Valid<'_>) -> Built {
    let mut children = vec![service_account::build(valid)];
    children.extend(role_binding::build(valid));
    children.push(config_map::build(valid));
    children.extend(secret::build(valid));
    children.extend(persistent_volume_claim::build(valid));
    children.push(service::build(valid));
    if valid.start {
        children.push(deployment::build(valid));
    }
    Built { children, complete: !valid.awaits_address() }
}

/// Metadata of a child that goes when the Registry goes.
fn metadata(valid: &Valid<'_>, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(valid.namespace.clone()),
        labels: Some(names::labels(&valid.name)),
        owner_references: Some(vec![valid.owner.clone()]),
        ..ObjectMeta::default()
    }
}

fn child(kind: Kind, name: String, object: &impl Serialize) -> Child {
    overridden(kind, name, object, None)
}

/// Objects of Kubernetes have text keys only, so turning them into JSON cannot fail.
fn overridden(kind: Kind, name: String, object: &impl Serialize, fragment: Option<&Fragment>) -> Child {
    let mut object = json!(object);
    if let (Value::Object(object), Some(fragment)) = (&mut object, fragment) {
        merge(object, fragment);
    }
    Child { key: (kind, name), object }
}

/// Nothing for an empty list or map: the API server drops it, and what is built must equal what comes back.
pub(crate) fn filled<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}
