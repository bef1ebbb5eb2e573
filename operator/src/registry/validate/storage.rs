//! Decides which volume a Registry gets, and whether the one that exists can be what the spec asks for.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;

use crate::api::registry::{AccessMode, DeletionPolicy, RegistrySpec};
use crate::children::Kind;
use crate::names;
use crate::quantity;
use crate::registry::dereference::Found;
use crate::registry::problem::Problem;

const MANY_WRITERS: &str = "ReadWriteMany";

/// The claim that the server mounts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// Whether one node or Pod at most can write to it, so that the old server must end before the new one starts.
    pub single_writer: bool,
    /// How the operator writes it; `None` if it is the user's, or cannot become what the spec asks for.
    pub own: Option<OwnClaim>,
}

/// A claim that the operator makes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnClaim {
    /// Requested size, as the user wrote it.
    pub size: String,
    /// Storage class; `None` means the cluster's default.
    pub class: Option<String>,
    /// Access modes.
    pub access_modes: Vec<String>,
    /// Whether it goes when the Registry goes.
    pub deleted_with_registry: bool,
}

/// The claim for `spec`, and what is wrong with it.
pub(super) fn claim(registry: &str, spec: &RegistrySpec, found: &Found) -> (Claim, Option<Problem>) {
    match &spec.storage.filesystem.existing_claim {
        Some(name) => existing(name, spec, found),
        None => own(registry, spec, found),
    }
}

fn existing(name: &str, spec: &RegistrySpec, found: &Found) -> (Claim, Option<Problem>) {
    let modes = found.existing_claim.as_ref().map(access_modes).unwrap_or_default();
    let single_writer = !modes.contains(MANY_WRITERS);
    let name = name.to_owned();
    let problem = match (&found.existing_claim, &found.claim_user) {
        (None, _) => Some(Problem::ClaimNotFound { name: name.clone() }),
        (_, Some(by)) => Some(Problem::ClaimTaken { name: name.clone(), by: by.clone() }),
        _ if single_writer && spec.replicas > 1 => Some(Problem::ClaimSingleWriter { name: name.clone() }),
        _ => None,
    };
    (Claim { name, single_writer, own: None }, problem)
}

fn own(registry: &str, spec: &RegistrySpec, found: &Found) -> (Claim, Option<Problem>) {
    let filesystem = &spec.storage.filesystem;
    let wanted = OwnClaim {
        size: filesystem.size.clone().unwrap_or_default(),
        class: filesystem.storage_class_name.clone(),
        access_modes: wanted_modes(&filesystem.access_modes),
        deleted_with_registry: filesystem.deletion_policy == DeletionPolicy::Delete,
    };
    let name = names::claim(registry);
    let single_writer = !wanted.access_modes.iter().any(|mode| mode == MANY_WRITERS);
    let live: Option<PersistentVolumeClaim> = found.live.typed(Kind::PersistentVolumeClaim, &name);
    let obstacle = match (&live, &found.claim_user) {
        (_, Some(by)) => Some(Problem::ClaimTaken { name: name.clone(), by: by.clone() }),
        (Some(live), None) => obstacle(&name, live, &wanted, found.storage_classes.as_deref()),
        (None, None) => None,
    };
    // A claim that nothing stands against is written even when its class is unknown: a volume made by hand may fit it.
    let own = obstacle.is_none().then(|| wanted.clone());
    let problem =
        obstacle.or_else(|| live.and_then(|live| unprovisionable(&live, found.storage_classes.as_deref())));
    (Claim { name, single_writer, own }, problem)
}

fn wanted_modes(modes: &[AccessMode]) -> Vec<String> {
    let text = |mode: &AccessMode| match mode {
        AccessMode::ReadWriteOnce => "ReadWriteOnce".to_owned(),
        AccessMode::ReadWriteOncePod => "ReadWriteOncePod".to_owned(),
        AccessMode::ReadWriteMany => MANY_WRITERS.to_owned(),
    };
    if modes.is_empty() { vec![text(&AccessMode::ReadWriteOnce)] } else { modes.iter().map(text).collect() }
}

/// What keeps the claim that exists from becoming the wanted one.
fn obstacle(
    name: &str,
    live: &PersistentVolumeClaim,
    wanted: &OwnClaim,
    classes: Option<&[StorageClass]>,
) -> Option<Problem> {
    let name = name.to_owned();
    if live.metadata.deletion_timestamp.is_some() {
        return Some(Problem::ClaimTerminating { name });
    }
    let class = class_of(live).unwrap_or_default();
    if wanted.class.as_deref().is_some_and(|wanted| wanted != class) {
        let (found, wanted) = (class.to_owned(), wanted.class.clone().unwrap_or_default());
        return Some(Problem::ClaimMismatch { name, field: "storageClassName", found, wanted });
    }
    let wanted_modes: BTreeSet<&str> = wanted.access_modes.iter().map(String::as_str).collect();
    if access_modes(live) != wanted_modes {
        let join = |modes: BTreeSet<&str>| modes.into_iter().collect::<Vec<_>>().join(", ");
        let (found, wanted) = (join(access_modes(live)), join(wanted_modes));
        return Some(Problem::ClaimMismatch { name, field: "accessModes", found, wanted });
    }
    let found = requested(live);
    match quantity::compare(&wanted.size, &found)? {
        Ordering::Less => Some(Problem::ShrinkImpossible { name, found, wanted: wanted.size.clone() }),
        Ordering::Greater if refuses_growth(class, classes) => {
            Some(Problem::ExpansionUnsupported { name, class: class.to_owned(), found })
        }
        _ => None,
    }
}

fn refuses_growth(class: &str, classes: Option<&[StorageClass]>) -> bool {
    let class = classes.unwrap_or_default().iter().find(|candidate| candidate.name_any() == class);
    class.is_some_and(|class| class.allow_volume_expansion != Some(true))
}

/// Says why no volume will come for a claim that has none.
fn unprovisionable(live: &PersistentVolumeClaim, classes: Option<&[StorageClass]>) -> Option<Problem> {
    let phase = live.status.as_ref().and_then(|status| status.phase.as_deref());
    let classes = classes?;
    match class_of(live) {
        _ if phase == Some("Bound") => None,
        Some("") => None,
        Some(class) if classes.iter().any(|candidate| candidate.name_any() == class) => None,
        Some(class) => Some(Problem::StorageClassNotFound { class: class.to_owned() }),
        None if classes.iter().any(is_default) => None,
        None => Some(Problem::NoDefaultStorageClass),
    }
}

fn is_default(class: &StorageClass) -> bool {
    class.annotations().get(names::DEFAULT_CLASS_ANNOTATION).is_some_and(|value| value == "true")
}

fn class_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.storage_class_name.as_deref()
}

fn access_modes(claim: &PersistentVolumeClaim) -> BTreeSet<&str> {
    let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    modes.iter().map(String::as_str).collect()
}

/// The size that the claim asks for, as Kubernetes writes it.
fn requested(claim: &PersistentVolumeClaim) -> String {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    requests.and_then(|requests| requests.get("storage")).map(|size| size.0.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::claim;
    use crate::api::registry::RegistrySpec;
    use crate::children::Kind;
    use crate::registry::dereference::Found;
    use serde_json::{Value, json};

    fn spec(filesystem: &Value, replicas: i32) -> RegistrySpec {
        serde_json::from_value(json!({"replicas": replicas, "storage": {"filesystem": filesystem}})).unwrap()
    }

    /// A live claim of 10Gi in class `plain`, with `fields` merged over its spec.
    fn live(fields: &Value, phase: &str) -> Found {
        let mut spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "plain",
            "resources": {"requests": {"storage": "10Gi"}}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "hub-data"},
            "spec": spec, "status": {"phase": phase}});
        let mut found = Found { storage_classes: Some(classes()), ..Found::default() };
        found.live.insert(Kind::PersistentVolumeClaim, serde_json::from_value(claim).unwrap());
        found
    }

    fn classes() -> Vec<k8s_openapi::api::storage::v1::StorageClass> {
        serde_json::from_value(json!([
            {"metadata": {"name": "plain"}, "provisioner": "p"},
            {"metadata": {"name": "elastic"}, "provisioner": "p", "allowVolumeExpansion": true}]))
        .unwrap()
    }

    fn outcome(filesystem: &Value, found: &Found) -> (bool, Option<String>) {
        let (claim, problem) = claim("hub", &spec(filesystem, 1), found);
        (claim.own.is_some(), problem.map(|problem| problem.reason().to_string()))
    }

    #[test]
    fn a_claim_that_exists_is_written_only_if_it_can_become_what_is_wanted() {
        let elastic = json!({"storageClassName": "elastic"});
        let plain = json!({});
        for (fields, wanted, written, problem) in [
            (&plain, json!({"size": "10Gi"}), true, None),
            (&plain, json!({"size": "10240Mi"}), true, None),
            (&plain, json!({"size": "9Gi"}), false, Some("ShrinkImpossible")),
            (&plain, json!({"size": "11Gi"}), false, Some("ExpansionUnsupported")),
            (&elastic, json!({"size": "11Gi"}), true, None),
            (&elastic, json!({"size": "11Gi", "storageClassName": "elastic"}), true, None),
            (&plain, json!({"size": "10Gi", "storageClassName": "elastic"}), false, Some("ClaimMismatch")),
            (&plain, json!({"size": "10Gi", "accessModes": ["ReadWriteMany"]}), false, Some("ClaimMismatch")),
        ] {
            let expected = (written, problem.map(str::to_owned));
            assert_eq!(outcome(&wanted, &live(fields, "Bound")), expected, "{fields} {wanted}");
        }
    }

    #[test]
    fn growth_is_left_to_the_api_server_where_classes_may_not_be_read() {
        let found = Found { storage_classes: None, ..live(&json!({}), "Bound") };
        assert_eq!(outcome(&json!({"size": "11Gi"}), &found), (true, None));
    }

    #[test]
    fn a_claim_that_waits_says_why_no_volume_will_come() {
        let size = || json!({"size": "10Gi"});
        let named = json!({"storageClassName": "gone"});
        let problem = Some("StorageClassNotFound".to_owned());
        assert_eq!(outcome(&size(), &live(&named, "Pending")), (true, problem.clone()));
        assert_eq!(outcome(&size(), &live(&named, "Bound")), (true, None));
        assert_eq!(outcome(&size(), &live(&json!({"storageClassName": null}), "Pending")), (true, problem));
        assert_eq!(outcome(&size(), &live(&json!({"storageClassName": ""}), "Pending")), (true, None));
        assert_eq!(outcome(&size(), &live(&json!({}), "Pending")), (true, None));
    }

    #[test]
    fn a_claim_that_is_being_deleted_is_left_alone() {
        let mut found = live(&json!({}), "Bound");
        let mut going =
            found.live.get(&(Kind::PersistentVolumeClaim, "hub-data".to_owned())).unwrap().clone();
        going.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        found.live.insert(Kind::PersistentVolumeClaim, going);
        assert_eq!(outcome(&json!({"size": "10Gi"}), &found), (false, Some("ClaimTerminating".to_owned())));
    }

    #[test]
    fn a_claim_of_the_users_is_never_written() {
        let claimed = |modes: &[&str], replicas| {
            let object = json!({"metadata": {"name": "mine"}, "spec": {"accessModes": modes}});
            let existing_claim = Some(serde_json::from_value(object).unwrap());
            let found = Found { existing_claim, ..Found::default() };
            let (claim, problem) = claim("hub", &spec(&json!({"existingClaim": "mine"}), replicas), &found);
            assert!(claim.own.is_none());
            (claim.single_writer, problem.map(|problem| problem.reason().to_string()))
        };
        assert_eq!(claimed(&["ReadWriteOnce"], 1), (true, None));
        assert_eq!(claimed(&["ReadWriteMany"], 3), (false, None));
        assert_eq!(claimed(&["ReadWriteOnce"], 2), (true, Some("ClaimMismatch".to_owned())));
    }

    #[test]
    fn a_claim_that_is_missing_or_anothers_is_a_problem() {
        let existing = || json!({"existingClaim": "mine"});
        assert_eq!(outcome(&existing(), &Found::default()), (false, Some("ClaimNotFound".to_owned())));
        let claim = json!({"metadata": {"name": "mine"}, "spec": {"accessModes": ["ReadWriteOnce"]}});
        let existing_claim = Some(serde_json::from_value(claim).unwrap());
        let found = Found { existing_claim, claim_user: Some("other".to_owned()), ..Found::default() };
        assert_eq!(outcome(&existing(), &found), (false, Some("ClaimTaken".to_owned())));
    }
}
