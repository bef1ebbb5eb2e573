//! The custom resources: their fields, their rules and the CRDs made from them. No behaviour.

#[expect(unreachable_pub, reason = "KubeSchema puts a copy of each struct into a function")]
pub mod garbage_collection_policy;
#[expect(unreachable_pub, reason = "KubeSchema puts a copy of each struct into a function")]
pub mod garbage_collection_status;
#[expect(unreachable_pub, reason = "KubeSchema puts a copy of each struct into a function")]
#[expect(
    clippy::duplicated_attributes,
    reason = "each printer column has a type, and kube takes them as attributes"
)]
pub mod node_access;
#[expect(unreachable_pub, reason = "KubeSchema puts a copy of each struct into a function")]
pub mod pull_access;
#[expect(unreachable_pub, reason = "KubeSchema puts a copy of each struct into a function")]
pub mod registry;
#[expect(unreachable_pub, reason = "KubeSchema puts a copy of each struct into a function")]
pub mod shared;
#[expect(unreachable_pub, reason = "KubeSchema puts a copy of each struct into a function")]
pub mod status;

use garbage_collection_policy::GarbageCollectionPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;
use node_access::NodeAccess;
use registry::Registry;
use serde_json::json;

/// The custom resource definitions of this release, in the order in which they are printed.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    [Registry::crd(), GarbageCollectionPolicy::crd(), NodeAccess::crd()].map(with_unobserved_status).into()
}

/// Gives a fresh object a status that says "not seen yet" (`observedGeneration: -1`). Without it, tools that follow
/// kstatus take an object that no operator has touched for a finished one.
fn with_unobserved_status(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let schemas = crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut());
    for properties in schemas
        .filter_map(|schema| schema.open_api_v3_schema.as_mut())
        .filter_map(|root| root.properties.as_mut())
    {
        if let Some(status) = properties.get_mut("status") {
            status.default = Some(JSON(json!({ "observedGeneration": -1 })));
        }
    }
    crd
}

#[cfg(test)]
mod tests {
    use super::crds;

    #[test]
    fn a_fresh_object_is_unobserved() {
        for crd in crds() {
            let value = serde_json::to_value(&crd).unwrap();
            let pointer =
                "/spec/versions/0/schema/openAPIV3Schema/properties/status/default/observedGeneration";
            assert_eq!(value.pointer(pointer), Some(&(-1).into()));
        }
    }

    #[test]
    fn numbers_have_formats_that_the_api_server_knows() {
        for crd in crds() {
            let text = serde_json::to_string(&crd).unwrap();
            assert!(!text.contains(r#""format":"uint"#), "{} has one that it warns of", crd.spec.names.kind);
        }
    }

    #[test]
    fn a_crd_is_small_enough_for_client_side_apply() {
        for crd in crds() {
            let size = serde_json::to_string(&crd).unwrap().len();
            assert!(size < 200_000, "{} has {size} bytes", crd.spec.names.kind);
        }
    }
}
