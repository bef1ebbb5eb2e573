//! The claim with the data. Unless it is to go with the Registry it has no owner, and so outlives it; a new Registry of
//! the same name finds it by name and label and takes it over.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{child, metadata};
use crate::children::{Child, Kind};
use crate::registry::validate::Valid;

/// The claim, or none if the volume is the user's.
pub(super) fn build(valid: &Valid<'_>) -> Option<Child> {
    let own = valid.claim.own.as_ref()?;
    let mut metadata = metadata(valid, valid.claim.name.clone());
    if !own.deleted_with_registry {
        metadata.owner_references = None;
    }
    let claim = PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(own.access_modes.clone()),
            storage_class_name: own.class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(own.size.clone()))])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    };
    Some(child(Kind::PersistentVolumeClaim, valid.claim.name.clone(), &claim))
}
