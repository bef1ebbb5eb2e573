//! Fourth step: the only writer of children. The fifth writes through here too, see [`status()`].
//!
//! # Expected flow
//! Children are written one after another in the order of [`Kind`], because a Pod must find what it mounts; then those
//! that are no longer wanted are deleted.
//!
//! # Guarantees
//! Every write is a server-side apply of the whole wanted object by one field manager, so it can be repeated and cut off
//! at any point. An object that already holds everything wanted, and was last applied in just that form, is not written:
//! when nothing has changed, no request is made and no resource version moves. A claim is never deleted.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};

use crate::children::{Change, Child, Key, Kind, Live, Ownership, ownership};
use crate::fingerprint::fingerprint;
use crate::metrics::Metrics;
use crate::names;
use crate::registry::build::Built;

/// A write that failed.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {} {}", key.0.name(), key.1)]
pub struct Error {
    /// What was tried.
    pub verb: &'static str,
    /// On which object.
    pub key: Key,
    /// Why it failed.
    pub source: kube::Error,
}

/// The Registry whose children are written.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its unique id.
    pub uid: &'a str,
}

/// Makes the cluster hold `built`, given what is `live`; keeps `live` up to date and returns what was changed.
///
/// # Errors
/// [`Error`] of the first request that failed. What was written before stays written, and `live` knows of it.
pub async fn apply(
    client: &Client,
    owner: Owner<'_>,
    built: &Built,
    live: &mut Live,
) -> Result<Vec<(Kind, Change)>, Error> {
    let mut changes = Vec::new();
    for child in &built.children {
        if let Some(change) = write(client, owner.namespace, child, live).await? {
            changes.push((child.key.0, change));
        }
    }
    if built.complete {
        for key in orphans(owner, built, live) {
            delete(client, owner.namespace, &key, live.get(&key).and_then(ResourceExt::uid)).await?;
            changes.push((key.0, Change::Deleted));
        }
    }
    Ok(changes)
}

/// Whether the API server refuses what was sent, so that sending it again cannot help until something changes.
#[must_use]
pub fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422))
}

/// What the API server said, in its own words.
#[must_use]
pub fn server_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

async fn write(
    client: &Client,
    namespace: &str,
    child: &Child,
    live: &mut Live,
) -> Result<Option<Change>, Error> {
    let (kind, name) = &child.key;
    let wanted = with_hash(child);
    let before = live.get(&child.key);
    let verdict = compare(before, &wanted);
    let Some(change) = verdict else { return Ok(None) };
    let version = before.and_then(ResourceExt::resource_version);
    let api = kind.api(client, namespace);
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    let applied = match api.patch(name, &params, &Patch::Apply(&wanted)).await {
        Err(error) if is_refusal(&error) && change == Change::Repaired => {
            overwrite(&api, name, &wanted, error).await
        }
        other => other,
    };
    let after = applied.map_err(|source| Error { verb: "apply", key: child.key.clone(), source })?;
    let moved = after.resource_version() != version;
    live.insert(*kind, after);
    Ok(Some(if moved { change } else { Change::Unchanged }))
}

/// Writes `status` to the object of kind `K` that has `metadata`. The `manager` owns the fields that it holds, and no others.
///
/// # Errors
/// The API server's.
pub async fn status<K: Resource<DynamicType = ()>>(
    client: &Client,
    metadata: &ObjectMeta,
    status: &Value,
    manager: &str,
) -> Result<(), kube::Error> {
    let resource = ApiResource::erase::<K>(&());
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    let object = json!({ "apiVersion": K::api_version(&()), "kind": K::kind(&()), "status": status });
    let params = PatchParams::apply(manager).force();
    let name = metadata.name.as_deref().unwrap_or_default();
    api.patch_status(name, &params, &Patch::Apply(&object)).await.map(|_| ())
}

/// Writes `wanted` over an object that somebody else has changed so that an apply cannot mend it: a list to which an
/// entry was added that contradicts ours. A merge replaces the list. If that is refused too, the `first` refusal counts.
async fn overwrite(
    api: &Api<DynamicObject>,
    name: &str,
    wanted: &Value,
    first: kube::Error,
) -> Result<DynamicObject, kube::Error> {
    let params =
        PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::Merge(wanted)).await.map_err(|_| first)
}

/// What has to be done about a child, `None` if nothing.
fn compare(before: Option<&DynamicObject>, wanted: &Value) -> Option<Change> {
    let Some(before) = before else { return Some(Change::Created) };
    let applied = before.annotations().get(names::APPLIED_ANNOTATION).map(String::as_str);
    let hash = wanted.pointer("/metadata/annotations").and_then(|all| all.get(names::APPLIED_ANNOTATION));
    if applied.is_some() && applied != hash.and_then(Value::as_str) {
        return Some(Change::Updated);
    }
    (!covers(&json!(before), wanted)).then_some(Change::Repaired)
}

/// Fields that an apply replaces as a whole: what others add to them is removed, so it is a difference.
const WHOLE: [&str; 2] = ["selector", "nodeSelector"];

/// Whether `live` holds everything that `wanted` names. What it holds beyond, it has from others.
fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(field, value)| match live.get(field) {
                Some(present) if WHOLE.contains(&field.as_str()) && present.is_object() => present == value,
                Some(present) => covers(present, value),
                None => false,
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| covers(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

/// The wanted object with its own hash in an annotation. The comparison with the live object cannot see that a field is
/// no longer wanted; the hash of what was applied last can.
#[must_use]
pub fn with_hash(child: &Child) -> Value {
    let mut object = child.object.clone();
    object["metadata"]["annotations"][names::APPLIED_ANNOTATION] =
        Value::String(fingerprint(&child.object.to_string()));
    object
}

/// What carries the Registry's label and is owned by it, but is not wanted.
fn orphans(owner: Owner<'_>, built: &Built, live: &Live) -> Vec<Key> {
    live.iter()
        .filter(|(key, _)| key.0 != Kind::PersistentVolumeClaim)
        .filter(|(key, _)| !built.children.iter().any(|child| child.key == **key))
        .filter(|(_, object)| object.metadata.deletion_timestamp.is_none())
        .filter(|(_, object)| !object.owner_references().is_empty())
        .filter(|(_, object)| ownership(object, owner.name, owner.uid) == Ownership::Ours)
        .map(|(key, _)| key.clone())
        .collect()
}

/// Makes `child` and returns it; `None` if an object of this name is there already.
///
/// # Errors
/// [`Error`] of the request.
pub async fn create(client: &Client, namespace: &str, child: &Child) -> Result<Option<DynamicObject>, Error> {
    let error = |source| Error { verb: "create", key: child.key.clone(), source };
    let object: DynamicObject = serde_json::from_value(child.object.clone())
        .map_err(|source| error(kube::Error::SerdeError(source)))?;
    let api = child.key.0.api(client, namespace);
    let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), dry_run: false };
    match api.create(&params, &object).await {
        Ok(created) => Ok(Some(created)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(source) => Err(error(source)),
    }
}

/// Makes `child` where no owner reference leads to it, or brings `existing` in line with it, which is ours; false if
/// another's has its name, which is left alone.
///
/// # Errors
/// [`Error`] of the request.
pub async fn keep(
    client: &Client,
    metrics: &Metrics,
    namespace: &str,
    child: &Child,
    existing: Option<&DynamicObject>,
) -> Result<bool, Error> {
    let kind = child.key.0;
    let Some(existing) = existing else {
        let marked = Child { key: child.key.clone(), object: with_hash(child) };
        let is_made = create(client, namespace, &marked).await?.is_some();
        if is_made {
            metrics.applied(kind, Change::Created);
        }
        return Ok(is_made);
    };
    let mut live = Live::default();
    live.insert(kind, existing.clone());
    if let Some(change) = write(client, namespace, child, &mut live).await? {
        metrics.applied(kind, change);
    }
    Ok(true)
}

/// Deletes the object `key` with all that it owns, if it is still the one with the unique id `uid`: another may have
/// taken its name.
///
/// # Errors
/// [`Error`] of the request.
pub async fn delete(client: &Client, namespace: &str, key: &Key, uid: Option<String>) -> Result<(), Error> {
    let api = key.0.api(client, namespace);
    let params = DeleteParams::background().preconditions(Preconditions { uid, resource_version: None });
    match api.delete(&key.1, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => Err(Error { verb: "delete", key: key.clone(), source }),
    }
}

/// Gives `fields` of an object that others own, too, the values that they hold, if it still has the resource version
/// `version`. If it has changed, nothing is done: whoever watches it will look again.
///
/// Never by server-side apply: that takes over whole lists, and with them what others have put there.
///
/// # Errors
/// [`Error`] of the request.
pub async fn amend(
    client: &Client,
    namespace: &str,
    key: &Key,
    version: &str,
    mut fields: Value,
) -> Result<(), Error> {
    fields["metadata"]["resourceVersion"] = json!(version);
    let params =
        PatchParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match key.0.api(client, namespace).patch(&key.1, &params, &Patch::Merge(fields)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(source) => Err(Error { verb: "amend", key: key.clone(), source }),
    }
}

/// Annotates a Pod; one that is gone needs nothing.
///
/// # Errors
/// The API server's.
pub async fn annotate_pod(
    client: &Client,
    namespace: &str,
    pod: &str,
    annotation: &str,
    value: &str,
) -> Result<(), kube::Error> {
    let patch = json!({ "metadata": { "annotations": { annotation: value } } });
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    match api.patch_metadata(pod, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::{Owner, compare, covers, is_refusal, orphans, with_hash};
    use crate::children::{Change, Child, Key, Kind, Live};
    use crate::registry::build::Built;
    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    fn child(object: Value) -> Child {
        Child { key: (Kind::Service, "hub".to_owned()), object }
    }

    fn service(fields: &Value) -> Value {
        let mut object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hub"}});
        object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        object
    }

    fn verdict(live: Value, wanted: Value) -> Option<Change> {
        let live: DynamicObject = serde_json::from_value(live).unwrap();
        compare(Some(&live), &with_hash(&child(wanted)))
    }

    #[test]
    fn what_is_wanted_is_found_in_what_is_there() {
        for (live, wanted, expected) in [
            (json!({"a": 1, "b": 2}), json!({"a": 1}), true),
            (json!({"a": 1}), json!({"a": 2}), false),
            (json!({"a": 1}), json!({"b": 1}), false),
            (json!([{"a": 1, "b": 2}]), json!([{"a": 1}]), true),
            (json!([1, 2]), json!([1]), false),
            (json!({"selector": {"a": "b"}}), json!({"selector": {"a": "b"}}), true),
            (json!({"selector": {"a": "b", "c": "d"}}), json!({"selector": {"a": "b"}}), false),
        ] {
            assert_eq!(covers(&live, &wanted), expected, "{live} {wanted}");
        }
    }

    #[test]
    fn an_object_is_written_only_for_a_reason() {
        let wanted = service(&json!({"spec": {"type": "ClusterIP"}}));
        let mut live = with_hash(&child(wanted.clone()));
        assert_eq!(compare(None, &live), Some(Change::Created));
        live["spec"]["clusterIP"] = json!("10.0.0.1");
        live["metadata"]["resourceVersion"] = json!("7");
        assert_eq!(verdict(live.clone(), wanted.clone()), None);
        live["spec"]["type"] = json!("NodePort");
        assert_eq!(verdict(live.clone(), wanted.clone()), Some(Change::Repaired));
        live["metadata"]["annotations"] = json!({});
        assert_eq!(verdict(live, wanted), Some(Change::Repaired));
    }

    #[test]
    fn a_field_that_is_no_longer_wanted_is_noticed_by_the_hash() {
        let live =
            with_hash(&child(service(&json!({"spec": {"type": "NodePort", "healthCheckNodePort": 1}}))));
        assert_eq!(verdict(live, service(&json!({"spec": {"type": "NodePort"}}))), Some(Change::Updated));
    }

    #[test]
    fn only_owned_and_unwanted_children_are_orphans() {
        let owner = |uid: &str| json!([{"apiVersion": "v", "kind": "Registry", "name": "hub", "uid": uid}]);
        let mut live = Live::default();
        for (kind, name, owners) in [
            (Kind::Secret, "wanted", owner("1")),
            (Kind::Secret, "orphan", owner("1")),
            (Kind::Secret, "of-another", owner("2")),
            (Kind::Secret, "of-nobody", json!([])),
            (Kind::PersistentVolumeClaim, "data", owner("1")),
        ] {
            let metadata =
                json!({"name": name, "labels": {"windlass.dev/registry": "hub"}, "ownerReferences": owners});
            live.insert(kind, serde_json::from_value(json!({"metadata": metadata})).unwrap());
        }
        let wanted: Key = (Kind::Secret, "wanted".to_owned());
        let children = vec![Child { key: wanted, object: Value::Null }];
        let owner = Owner { namespace: "n", name: "hub", uid: "1" };
        let found = orphans(owner, &Built { children, complete: true }, &live);
        assert_eq!(found, [(Kind::Secret, "orphan".to_owned())]);
    }

    #[test]
    fn a_refusal_is_told_from_a_failure_that_passes() {
        for (code, expected) in
            [(400, true), (403, true), (422, true), (409, false), (429, false), (500, false)]
        {
            let status = kube::core::Status::failure("no", "Reason").with_code(code).boxed();
            assert_eq!(is_refusal(&kube::Error::Api(status)), expected, "{code}");
        }
    }
}
