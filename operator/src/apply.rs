//! Fourth step: the only writer of children.
//!
//! # Expected flow
//! Children are written one after another in the order of [`Kind`], because a Pod must find what it mounts; then those
//! that are no longer wanted are deleted.
//!
//! # Guarantees
//! Every write is a server-side apply of the whole wanted object by one field manager, so it can be repeated and cut off
//! at any point. An object that already holds everything wanted, and was last applied in just that form, is not written:
//! when nothing has changed, no request is made and no resource version moves. A claim is never deleted.

use std::fmt::Write as _;

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::children::{Child, Key, Kind, Live, Ownership, ownership};
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

/// What an apply did to one child.
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
            delete(client, owner.namespace, &key, live).await?;
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
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &kind.resource());
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    let after = api.patch(name, &params, &Patch::Apply(&wanted)).await.map_err(|source| Error {
        verb: "apply",
        key: child.key.clone(),
        source,
    })?;
    let moved = after.resource_version() != version;
    live.insert(*kind, after);
    Ok(Some(if moved { change } else { Change::Unchanged }))
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

/// Whether `live` holds everything that `wanted` names. What it holds beyond, it has from others.
fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(field, value)| live.get(field).is_some_and(|present| covers(present, value)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| covers(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

/// The wanted object with its own hash in an annotation. The comparison with the live object cannot see that a field is
/// no longer wanted; the hash of what was applied last can.
fn with_hash(child: &Child) -> Value {
    let mut hash = String::new();
    for byte in Sha256::digest(child.object.to_string().as_bytes()).iter().take(16) {
        // Writing to a String cannot fail.
        let _ = write!(hash, "{byte:02x}");
    }
    let mut object = child.object.clone();
    object["metadata"]["annotations"][names::APPLIED_ANNOTATION] = Value::String(hash);
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

async fn delete(client: &Client, namespace: &str, key: &Key, live: &Live) -> Result<(), Error> {
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &key.0.resource());
    // Only the very object that was looked at, in case another has taken its name.
    let uid = live.get(key).and_then(ResourceExt::uid);
    let params = DeleteParams::background().preconditions(Preconditions { uid, resource_version: None });
    match api.delete(&key.1, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => Err(Error { verb: "delete", key: key.clone(), source }),
    }
}
