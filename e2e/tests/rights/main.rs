//! The rights of the operator and of what it runs: all that they have they use, and all that they ask for they have.
//!
//! What they ask for stands in the API server's audit log, so these tests come last: what no other test has made them do
//! counts as never done. `make e2e` runs them on the local cluster, whose API server writes that log.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context as _, ensure};
use e2e::cluster::{self, SYSTEM_NAMESPACE};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde::Deserialize;

/// Rights that no request shows, for the API server looks for them while an object is written: to bind to a role when a
/// binding is; the others by `OwnerReferencesPermissionEnforcement`, which the test cluster has as `OpenShift` has, when an
/// object with an owner is. Without, tests of access reviews, of drift and of deletion fail.
const ASKED_FOR_BY_ADMISSION: [&str; 6] = [
    "bind clusterroles",
    "delete deployments",
    "delete persistentvolumeclaims",
    "delete serviceaccounts",
    "delete services",
    "update registries/finalizers",
];

/// One verb on one resource, as a role grants it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Grant {
    holder: String,
    /// Where it holds; everywhere if nothing.
    namespace: Option<String>,
    group: String,
    /// The resource and its subresource, or a path.
    resource: String,
    verb: String,
    /// The only objects that it is about; all if there are none.
    names: Vec<String>,
}

impl Grant {
    fn right(&self) -> String {
        format!("{} {}", self.verb, self.resource)
    }

    fn covers(&self, event: &Event) -> bool {
        let object = event.object_ref.as_ref();
        let is_named = |name: &Option<String>| name.as_ref().is_some_and(|name| self.names.contains(name));
        event.user.username == self.holder
            && (event.verb == self.verb || (self.verb == "create" && event.made_by_apply()))
            && event.resource() == self.resource
            && object.is_none_or(|object| object.api_group == self.group)
            && object.is_none_or(|object| self.names.is_empty() || is_named(&object.name))
            && (self.namespace.is_none()
                || self.namespace == object.and_then(|object| object.namespace.clone()))
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.namespace.as_deref().unwrap_or("the cluster");
        write!(formatter, "{}: {} of {:?} in {place}", self.holder, self.right(), self.group)
    }
}

/// One request of the audit log.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    user: User,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    object_ref: Option<ObjectRef>,
    #[serde(default)]
    annotations: Annotations,
    response_status: Option<ResponseStatus>,
}

#[derive(Debug, Deserialize)]
struct ResponseStatus {
    code: u16,
}

#[derive(Debug, Deserialize)]
struct User {
    username: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectRef {
    #[serde(default)]
    api_group: String,
    resource: String,
    #[serde(default)]
    subresource: String,
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Annotations {
    #[serde(default, rename = "authorization.k8s.io/decision")]
    decision: String,
}

impl Event {
    /// Whether an object was made by applying it, for which the API server asks for the right to create as well.
    fn made_by_apply(&self) -> bool {
        self.verb == "patch" && self.response_status.as_ref().is_some_and(|status| status.code == 201)
    }

    fn resource(&self) -> String {
        match &self.object_ref {
            Some(object) if object.subresource.is_empty() => object.resource.clone(),
            Some(object) => format!("{}/{}", object.resource, object.subresource),
            None => self.request_uri.split('?').next().unwrap_or_default().to_owned(),
        }
    }
}

/// What was asked for since the cluster was started.
fn events() -> anyhow::Result<Vec<Event>> {
    let path =
        std::env::var("WINDLASS_AUDIT_LOG").context("WINDLASS_AUDIT_LOG is not set: run `make e2e`")?;
    let log = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The last line may be about to be written.
    let whole = log.rsplit_once('\n').map(|(lines, _)| lines).unwrap_or_default();
    whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// The rights of all `ServiceAccount`s in the operator's namespace.
async fn grants(client: &Client) -> anyhow::Result<BTreeSet<Grant>> {
    let everything = ListParams::default();
    let mut grants = BTreeSet::new();
    for binding in Api::<ClusterRoleBinding>::all(client.clone()).list(&everything).await? {
        for holder in holders(binding.subjects.as_deref()) {
            grants.extend(expand(&holder, None, &rules(client, &binding.role_ref, "").await?));
        }
    }
    for binding in Api::<RoleBinding>::all(client.clone()).list(&everything).await? {
        let namespace = binding.namespace().unwrap_or_default();
        for holder in holders(binding.subjects.as_deref()) {
            let rules = rules(client, &binding.role_ref, &namespace).await?;
            grants.extend(expand(&holder, Some(&namespace), &rules));
        }
    }
    Ok(grants)
}

fn holders(subjects: Option<&[Subject]>) -> Vec<String> {
    let accounts = subjects.into_iter().flatten().filter(|subject| {
        subject.kind == "ServiceAccount" && subject.namespace.as_deref() == Some(SYSTEM_NAMESPACE)
    });
    accounts.map(|account| format!("system:serviceaccount:{SYSTEM_NAMESPACE}:{}", account.name)).collect()
}

async fn rules(client: &Client, role: &RoleRef, namespace: &str) -> anyhow::Result<Vec<PolicyRule>> {
    let rules = match role.kind.as_str() {
        "ClusterRole" => Api::<ClusterRole>::all(client.clone()).get(&role.name).await?.rules,
        _ => Api::<Role>::namespaced(client.clone(), namespace).get(&role.name).await?.rules,
    };
    Ok(rules.unwrap_or_default())
}

fn expand(holder: &str, namespace: Option<&str>, rules: &[PolicyRule]) -> Vec<Grant> {
    let mut grants = Vec::new();
    for rule in rules {
        let grant = |group: &str, resource: &str, verb: &str| Grant {
            holder: holder.to_owned(),
            namespace: namespace.map(str::to_owned),
            group: group.to_owned(),
            resource: resource.to_owned(),
            verb: verb.to_owned(),
            names: rule.resource_names.clone().unwrap_or_default(),
        };
        for verb in &rule.verbs {
            for path in rule.non_resource_urls.iter().flatten() {
                grants.push(grant("", path, verb));
            }
            for group in rule.api_groups.iter().flatten() {
                grants.extend(rule.resources.iter().flatten().map(|resource| grant(group, resource, verb)));
            }
        }
    }
    grants
}

fn lines(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let lines: Vec<String> = items.into_iter().map(|item| format!("\n  {item}")).collect();
    lines.concat()
}

#[tokio::test]
async fn every_right_that_is_granted_is_used() -> anyhow::Result<()> {
    let grants = grants(&cluster::connect().await?).await?;
    ensure!(
        !grants.is_empty(),
        "no ServiceAccount of {SYSTEM_NAMESPACE} has any right: is the operator installed?"
    );
    let events = events()?;
    let (used, unused): (Vec<&Grant>, Vec<&Grant>) =
        grants.iter().partition(|grant| events.iter().any(|event| grant.covers(event)));
    let is_excused = |grant: &Grant| ASKED_FOR_BY_ADMISSION.contains(&grant.right().as_str());
    let idle: Vec<&&Grant> = unused.iter().filter(|grant| !is_excused(grant)).collect();
    ensure!(idle.is_empty(), "granted, and used by no test of the whole suite:{}", lines(idle));
    let seen: Vec<&&Grant> = used.iter().filter(|grant| is_excused(grant)).collect();
    ensure!(seen.is_empty(), "used, and yet excused from being seen:{}", lines(seen));
    Ok(())
}

#[test]
fn nothing_that_is_asked_for_is_refused() -> anyhow::Result<()> {
    let refused = events()?.into_iter().filter(|event| event.annotations.decision == "forbid");
    let refused: BTreeSet<String> = refused
        .map(|event| format!("{}: {} {}", event.user.username, event.verb, event.request_uri))
        .collect();
    ensure!(refused.is_empty(), "asked for, and not granted:{}", lines(refused));
    Ok(())
}
