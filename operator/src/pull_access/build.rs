//! Third step: the objects that pull access leads to. Pure, and it cannot fail.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{LocalObjectReference, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use kube::{Resource as _, ResourceExt};
use registry_server::auth::pull_secrets;
use serde_json::{Value, json};

use super::dereference::Found;
use super::policy;
use super::validate::{Access, SEEDS_KEY, Valid};
use crate::api::pull_access::Attach;
use crate::children::{Child, Key, Kind};
use crate::fingerprint::fingerprint;
use crate::names;
use crate::registry::validate::server_config::PULL_FILE;

/// The user name of pull secrets. It does not matter, and clients ask for one.
const USER: &str = "pull";

/// What one Registry's access leads to.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// Beside the Registry: what passwords are made from, and the file by which the server knows them.
    pub own: Vec<Child>,
    /// Names of the server's Pods that are to look at the file again, and the hash of what is in it.
    pub outdated: (Vec<String>, String),
    /// The pull secret of each selected namespace.
    pub secrets: Vec<(String, Child)>,
    /// What brings it to Pods, if that is asked for.
    pub policies: Vec<Child>,
}

/// A change of a `ServiceAccount`, if it still is as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Amendment {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub account: String,
    /// Its resource version.
    pub version: String,
    /// The fields that get other values.
    pub fields: Value,
}

/// What `access` leads to.
#[must_use]
pub fn build(access: &Access<'_>, found: &Found, now: Timestamp) -> Built {
    let Some(selected) = &access.selected else { return unselected(access, found) };
    let file = file(access, selected);
    let own = own(access, &file);
    let secret = |namespace: &String| Some((namespace.clone(), pull_secret(access, namespace, now)?));
    let has_policy = access.attach == Attach::Pods && found.policies.is_some();
    Built {
        outdated: outdated(access, found, fingerprint(&file)),
        own,
        secrets: selected.iter().filter_map(secret).collect(),
        policies: if has_policy { policy::build(access) } else { Vec::new() },
    }
}

/// While it is not known who is selected, all stays as it is; only the server gets what it needs to start.
fn unselected(access: &Access<'_>, found: &Found) -> Built {
    let is_there = found.secret(&access.namespace, &names::pull_credentials(&access.name)).is_some();
    Built { own: if is_there { Vec::new() } else { own(access, "") }, ..Built::default() }
}

fn own(access: &Access<'_>, file: &str) -> Vec<Child> {
    let owned = |name: String, key: &str, text: &str| {
        let owners = access.registry.controller_owner_ref(&()).into_iter().collect();
        let data = BTreeMap::from([(key.to_owned(), text.to_owned())]);
        secret(access, &access.namespace, name, "Opaque", data, Some(owners))
    };
    vec![
        owned(names::pull_seeds(&access.name), SEEDS_KEY, &access.seeds.text()),
        owned(names::pull_credentials(&access.name), PULL_FILE, file),
    ]
}

/// The file that the server reads: all valid passwords of all selected namespaces.
fn file(access: &Access<'_>, selected: &[String]) -> String {
    let of = |namespace: &String| -> String {
        let seeds = access.seeds.valid().iter();
        seeds.map(|seed| pull_secrets::line(namespace, &seed.password(namespace))).collect()
    };
    selected.iter().map(of).collect()
}

fn pull_secret(access: &Access<'_>, namespace: &str, now: Timestamp) -> Option<Child> {
    let password = access.seeds.in_use(now)?.password(namespace);
    let entry = json!({
        "username": USER, "password": password, "auth": STANDARD.encode(format!("{USER}:{password}")),
    });
    let hosts: BTreeMap<&String, &Value> = access.hosts.iter().map(|host| (host, &entry)).collect();
    let data = BTreeMap::from([(".dockerconfigjson".to_owned(), json!({ "auths": hosts }).to_string())]);
    let name = names::pull_secret(&access.name, &access.namespace);
    Some(secret(access, namespace, name, "kubernetes.io/dockerconfigjson", data, None))
}

fn secret(
    access: &Access<'_>,
    namespace: &str,
    name: String,
    type_: &str,
    data: BTreeMap<String, String>,
    owner_references: Option<Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference>>,
) -> Child {
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.to_owned()),
            labels: Some(names::pull_labels(&access.name, &access.namespace)),
            owner_references,
            ..ObjectMeta::default()
        },
        type_: Some(type_.to_owned()),
        data: Some(data.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))).collect()),
        ..Secret::default()
    };
    Child { key: (Kind::Secret, name), object: json!(secret) }
}

/// The server's Pods that have not been told of the file with this hash.
fn outdated(access: &Access<'_>, found: &Found, hash: String) -> (Vec<String>, String) {
    let pods = found.servers.iter().filter(|pod| {
        pod.namespace().as_ref() == Some(&access.namespace)
            && pod.labels().get(names::REGISTRY_LABEL) == Some(&access.name)
            && pod.meta().deletion_timestamp.is_none()
            && pod.annotations().get(names::PULL_CREDENTIALS_ANNOTATION) != Some(&hash)
    });
    (pods.map(ResourceExt::name_any).collect(), hash)
}

/// What must change in `ServiceAccount`s so that they name exactly what they should beside what others have put there.
/// `written` holds namespace and name of the Secrets that are there and are to be named.
///
/// An annotation remembers which names are ours, so that one which a user has put there stays for ever.
#[must_use]
pub fn amendments(
    accounts: &[ServiceAccount],
    written: &BTreeSet<(String, String)>,
    is_left_alone: impl Fn(&str, &str) -> bool,
) -> Vec<Amendment> {
    let stays = |name: &str| {
        names::registry_of_pull_secret(name)
            .is_none_or(|(registry, namespace)| is_left_alone(namespace, registry))
    };
    accounts
        .iter()
        .filter(|account| account.metadata.deletion_timestamp.is_none())
        .filter_map(|account| amendment(account, written, stays))
        .collect()
}

fn amendment(
    account: &ServiceAccount,
    written: &BTreeSet<(String, String)>,
    stays: impl Fn(&str) -> bool,
) -> Option<Amendment> {
    let namespace = account.namespace()?;
    let wanted: BTreeSet<&str> =
        written.iter().filter(|(of, _)| *of == namespace).map(|(_, name)| name.as_str()).collect();
    let remembered = account.annotations().get(names::ATTACHED_ANNOTATION).map(String::as_str);
    let ours: BTreeSet<&str> =
        remembered.unwrap_or_default().split(',').filter(|name| !name.is_empty()).collect();
    let present = account.image_pull_secrets.as_deref().unwrap_or_default();
    let keeps = |name: &str| !ours.contains(name) || wanted.contains(name) || stays(name);
    let mut list: Vec<LocalObjectReference> =
        present.iter().filter(|entry| keeps(&entry.name)).cloned().collect();
    let missing: Vec<&str> =
        wanted.iter().copied().filter(|name| !present.iter().any(|entry| entry.name == *name)).collect();
    list.extend(missing.iter().map(|name| LocalObjectReference { name: (*name).to_owned() }));
    let mut marks: Vec<&str> =
        ours.into_iter().filter(|name| list.iter().any(|entry| entry.name == *name)).chain(missing).collect();
    marks.sort_unstable();
    marks.dedup();
    let marks = Some(marks.join(",")).filter(|marks| !marks.is_empty());
    if list == present && marks.as_deref() == remembered {
        return None;
    }
    let list = Some(list).filter(|list| !list.is_empty());
    let annotations = json!({ names::ATTACHED_ANNOTATION: marks });
    Some(Amendment {
        account: account.name_any(),
        version: account.resource_version()?,
        fields: json!({ "metadata": { "annotations": annotations }, "imagePullSecrets": list }),
        namespace,
    })
}

/// What carries our label and nobody asks for any more, with the namespace in which it lies: none for a policy.
#[must_use]
pub fn orphans<'a>(
    found: &'a Found,
    valid: &Valid<'_>,
    built: &[Built],
    is_left_alone: impl Fn(&str, &str) -> bool,
) -> Vec<(Key, &'a DynamicObject)> {
    let mut wanted: BTreeSet<(Key, Option<&str>)> = BTreeSet::new();
    for (access, built) in valid.accesses.iter().zip(built) {
        let key = |child: &Child| child.key.clone();
        wanted.extend(built.own.iter().map(|child| (key(child), Some(access.namespace.as_str()))));
        wanted.extend(built.secrets.iter().map(|(namespace, child)| (key(child), Some(namespace.as_str()))));
        wanted.extend(built.policies.iter().map(|child| (key(child), None)));
    }
    let secrets = found.secrets.iter().map(|object| (Kind::Secret, object));
    let policies = found.policies.iter().flatten().map(|(kind, object)| (*kind, object));
    secrets
        .chain(policies)
        .map(|(kind, object)| ((kind, object.name_any()), object))
        .filter(|(key, object)| !wanted.contains(&(key.clone(), object.metadata.namespace.as_deref())))
        .filter(|(_, object)| object.metadata.deletion_timestamp.is_none())
        .filter(|(_, object)| {
            let label = |label: &str| object.labels().get(label).map(String::as_str).unwrap_or_default();
            !is_left_alone(label(names::PULL_NAMESPACE_LABEL), label(names::PULL_REGISTRY_LABEL))
        })
        .collect()
}
