//! The objects that belong to a Registry, a policy or the nodes, as the cluster holds them: which kinds there are, and which names are ours.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, ApiResource, DynamicObject, TypeMeta};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::node_access::NodeAccess;
use crate::names;

/// A kind of child. The order of the variants is the order in which children are written: what a Pod mounts or runs as
/// comes before the Deployment, so that no Pod starts without it and none is restarted for it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// The identity of the Pods; it has no rights but what a binding gives it.
    ServiceAccount,
    /// Lets the servers ask the API server who may do what.
    RoleBinding,
    /// The server's config.yml.
    ConfigMap,
    /// Certificates and keys.
    Secret,
    /// The data.
    PersistentVolumeClaim,
    /// The address.
    Service,
    /// The servers.
    Deployment,
    /// A run over the data.
    Job,
    /// The agents of the nodes.
    DaemonSet,
    /// What the agent of a node reports.
    NodeAccess,
    /// What the API server does to Pods as they are made.
    MutatingAdmissionPolicy,
    /// Where it does so.
    MutatingAdmissionPolicyBinding,
}

impl Kind {
    /// The kinds of a Registry's children, in the order in which they are written.
    pub const OF_REGISTRY: [Self; 7] = [
        Self::ServiceAccount,
        Self::RoleBinding,
        Self::ConfigMap,
        Self::Secret,
        Self::PersistentVolumeClaim,
        Self::Service,
        Self::Deployment,
    ];

    /// The kinds that bring pull secrets to Pods, in the order in which they are written.
    pub const OF_POLICY: [Self; 2] = [Self::MutatingAdmissionPolicy, Self::MutatingAdmissionPolicyBinding];

    /// How the API server calls it.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        match self {
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::RoleBinding => ApiResource::erase::<RoleBinding>(&()),
            Self::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
            Self::Secret => ApiResource::erase::<Secret>(&()),
            Self::PersistentVolumeClaim => ApiResource::erase::<PersistentVolumeClaim>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::Job => ApiResource::erase::<Job>(&()),
            Self::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
            Self::NodeAccess => ApiResource::erase::<NodeAccess>(&()),
            // Too new for the API that everything else is written by.
            Self::MutatingAdmissionPolicy | Self::MutatingAdmissionPolicyBinding => ApiResource::from_gvk(
                &GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", self.name()),
            ),
        }
    }

    /// Its name in messages and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::RoleBinding => "RoleBinding",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Service => "Service",
            Self::Deployment => "Deployment",
            Self::Job => "Job",
            Self::DaemonSet => "DaemonSet",
            Self::NodeAccess => "NodeAccess",
            Self::MutatingAdmissionPolicy => "MutatingAdmissionPolicy",
            Self::MutatingAdmissionPolicyBinding => "MutatingAdmissionPolicyBinding",
        }
    }

    /// The objects of this kind in `namespace`, or in the cluster if they belong to none.
    #[must_use]
    pub fn api(self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        if Self::OF_POLICY.contains(&self) {
            return Api::all_with(client.clone(), &self.resource());
        }
        Api::namespaced_with(client.clone(), namespace, &self.resource())
    }

    /// An item of a list, which comes without `apiVersion` and `kind`, with them.
    #[must_use]
    pub fn with_types(self, mut object: DynamicObject) -> DynamicObject {
        let ApiResource { api_version, kind, .. } = self.resource();
        object.types = Some(TypeMeta { api_version, kind });
        object
    }
}

/// What was done to one child.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Change {
    /// It was not there.
    Created,
    /// What is wanted has changed.
    Updated,
    /// Somebody else had changed or removed what is wanted; it is back.
    Repaired,
    /// It was deleted, being no longer wanted.
    Deleted,
    /// It was sent, and the API server found nothing to change.
    Unchanged,
}

impl Change {
    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Repaired => "repaired",
            Self::Deleted => "deleted",
            Self::Unchanged => "unchanged",
        }
    }
}

/// An object of the namespace: its kind and its name.
pub type Key = (Kind, String);

/// A child as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Its kind and name.
    pub key: Key,
    /// The whole object, with `apiVersion` and `kind`.
    pub object: Value,
}

/// Children as they are.
#[derive(Clone, Debug, Default)]
pub struct Live(BTreeMap<Key, DynamicObject>);

impl Live {
    /// Adds an object, or replaces what was known of it.
    pub fn insert(&mut self, kind: Kind, object: DynamicObject) {
        self.0.insert((kind, object.name_any()), object);
    }

    /// The object under `key`.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&DynamicObject> {
        self.0.get(key)
    }

    /// The object under `kind` and `name` as its own type; `None` if it is not there or cannot be read as one.
    #[must_use]
    pub fn typed<K: DeserializeOwned + kube::Resource>(&self, kind: Kind, name: &str) -> Option<K> {
        self.0.get(&(kind, name.to_owned()))?.clone().try_parse().ok()
    }

    /// All objects, in the order in which children are written.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &DynamicObject)> {
        self.0.iter()
    }
}

/// To whom an object belongs, seen from one Registry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ownership {
    /// It is this Registry's: by owner reference, or owned by nobody (a retained volume) and either labelled for it or
    /// once written by the operator, under a name that only a Registry of this name leads to.
    Ours,
    /// It was a former Registry's of the same name and is about to be collected.
    Predecessors,
    /// It is somebody else's.
    Foreign,
}

/// Tells to whom `object` belongs, seen from the Registry `registry` with the unique id `uid`.
#[must_use]
pub fn ownership(object: &DynamicObject, registry: &str, uid: &str) -> Ownership {
    let owners = object.owner_references();
    let labelled = object.labels().get(names::REGISTRY_LABEL).is_some_and(|value| value == registry);
    let written = object.annotations().contains_key(names::APPLIED_ANNOTATION);
    if owners.iter().any(|owner| owner.uid == uid) || (owners.is_empty() && (labelled || written)) {
        Ownership::Ours
    } else if labelled && owners.iter().any(|owner| owner.kind == "Registry" && owner.name == registry) {
        Ownership::Predecessors
    } else {
        Ownership::Foreign
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Live, Ownership, ownership};
    use k8s_openapi::api::core::v1::Service;
    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    fn object(metadata: &Value) -> DynamicObject {
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata})).unwrap()
    }

    #[test]
    fn what_belongs_to_whom_is_told_by_owner_and_label() {
        let label = json!({"windlass.dev/registry": "hub"});
        let owner = |uid: &str| json!([{"apiVersion": "windlass.dev/v1alpha1", "kind": "Registry", "name": "hub", "uid": uid}]);
        for (metadata, expected) in [
            (json!({"name": "hub", "labels": label, "ownerReferences": owner("1")}), Ownership::Ours),
            (json!({"name": "hub", "ownerReferences": owner("1")}), Ownership::Ours),
            (json!({"name": "hub", "labels": label}), Ownership::Ours),
            (json!({"name": "hub", "labels": label, "ownerReferences": owner("2")}), Ownership::Predecessors),
            (json!({"name": "hub", "annotations": {"windlass.dev/applied": "0"}}), Ownership::Ours),
            (json!({"name": "hub"}), Ownership::Foreign),
            (json!({"name": "hub", "ownerReferences": owner("2")}), Ownership::Foreign),
            (json!({"name": "hub", "labels": {"windlass.dev/registry": "other"}}), Ownership::Foreign),
        ] {
            assert_eq!(ownership(&object(&metadata), "hub", "1"), expected, "{metadata}");
        }
    }

    #[test]
    fn a_live_object_is_found_again_under_its_own_type() {
        let mut live = Live::default();
        live.insert(Kind::Service, object(&json!({"name": "hub"})));
        assert!(live.typed::<Service>(Kind::Service, "hub").is_some());
        assert!(live.typed::<Service>(Kind::Service, "other").is_none());
    }

    #[test]
    fn the_deployment_is_written_last() {
        let mut sorted = Kind::OF_REGISTRY;
        sorted.sort();
        assert_eq!(sorted, Kind::OF_REGISTRY);
        assert_eq!(Kind::OF_REGISTRY.last(), Some(&Kind::Deployment));
    }
}
