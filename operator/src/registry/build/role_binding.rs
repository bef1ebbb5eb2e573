//! The `RoleBinding` that lets the servers ask the API server who may do what, and nothing else.

use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding, RoleRef, Subject};
use kube::Resource;

use super::{child, metadata};
use crate::children::{Child, Kind};
use crate::names;
use crate::registry::validate::Valid;

pub(super) fn build(valid: &Valid<'_>) -> Option<Child> {
    let name = names::access_review_binding(&valid.name);
    let binding = RoleBinding {
        metadata: metadata(valid, name.clone()),
        role_ref: RoleRef {
            api_group: ClusterRole::group(&()).into_owned(),
            kind: ClusterRole::kind(&()).into_owned(),
            name: valid.access_review_role.clone()?,
        },
        subjects: Some(vec![Subject {
            kind: Kind::ServiceAccount.name().to_owned(),
            name: valid.name.clone(),
            namespace: Some(valid.namespace.clone()),
            api_group: None,
        }]),
    };
    Some(child(Kind::RoleBinding, name, &binding))
}
